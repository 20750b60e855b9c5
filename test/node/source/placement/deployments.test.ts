import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  LEASE_TERM_MS,
  MAX_IDLE_DEPLOYMENTS,
  MAX_WAITING_REQUESTS,
  RECONSIDER_MS,
  UNUSED_DEPLOYMENT_MS,
  WAIT_FOR_MEMORY_MS
} from '../../../../node/constants.ts'
import { pass, played, settle, sleep, stopClock } from '../../simulation/clock.ts'
import { SimulatedMesh, shareOf, simulatedModel } from '../../simulation/mesh.ts'
import { type Meeting, onMeeting } from '../../simulation/peers.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from '../simulated-answer.ts'

const OTHER = simulatedModel('other')

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const going = { signal: new AbortController().signal }
const stagesOf = ({ plan }: { plan: { stages: { peerId: string }[] } }) =>
  plan.stages.map(({ peerId }) => peerId)

test('two requests at once share one deployment, and each gets the tokens that it would get alone', async () => {
  const roomy = () => {
    const mesh = meshOf(['a', 'b'], 2)
    // So that the other one gets as many layers as it may.
    mesh.get('a').decodeMs = 10
    return mesh
  }
  const mesh = roomy()
  const { deployments } = mesh.get('a').source()
  const needs = [needsOf(), needsOf(MODEL, { prompt: [9, 8, 7] })]
  const together = await played(Promise.all(needs.map(need => drawAnswer(deployments, need))))
  expect(deployments.state()).toMatchObject([{ objective: 'latency', sessions: 0 }])
  expect(deployments.state()[0]!.slots).toBeGreaterThan(1)
  for (const [at, need] of needs.entries()) {
    const alone = await played(drawAnswer(roomy().get('a').source().deployments, need))
    expect(together[at]!.tokens).toEqual(alone.tokens)
  }
  const loads = [...mesh.nodes.values()].flatMap(({ runtime }) => runtime.loads)
  expect(loads).toEqual([
    [0, 2],
    [2, 5]
  ])
})

test('requests beyond the slots wait for theirs, in the order in which they came', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  expect(deployments.state()[0]!.slots).toBe(1)
  const ended: number[] = []
  const draw = async (at: number) => {
    await drawAnswer(deployments)
    ended.push(at)
  }
  await played(Promise.all([0, 1, 2].map(draw)))
  expect(ended).toEqual([0, 1, 2])
})

test('when too many wait, the next one is refused, but none of a request that has begun', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const until = new AbortController()
  const all = Array.from({ length: MAX_WAITING_REQUESTS + 1 }, () =>
    drawAnswer(deployments, needsOf(), until).catch((error: Error) => error)
  )
  const rest = drawAnswer(deployments, needsOf(MODEL, { begun: true }), until)
  await settle()
  until.abort(new Error('enough'))
  await expect(rest).rejects.toThrow('enough')
  const names = (await played(Promise.all(all))).map(result => (result as Error).name)
  expect(names.filter(name => name === 'BusyError')).toHaveLength(1)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

describe('two models that do not fit together', () => {
  const mesh = () => {
    const all = new SimulatedMesh(MODEL, OTHER)
    for (const id of ['a', 'b', 'c']) {
      all.add(id, { memoryBytes: shareOf(MODEL, 0.42), models: id === 'a' ? [MODEL, OTHER] : [] })
    }
    return all
  }

  test('of one source: the idle one makes room', async () => {
    const all = mesh()
    const { deployments } = all.get('a').source()
    const first = await played(drawAnswer(deployments))
    await played(drawAnswer(deployments, needsOf(OTHER)))
    expect(deployments.state().map(({ modelId }) => modelId)).toEqual([OTHER.id])
    expect((await played(drawAnswer(deployments))).tokens).toEqual(first.tokens)
    await played(deployments.close())
    expect(all.empty).toBe(true)
  })

  test('of one source at once: one waits for the memory of the other, and both are answered', async () => {
    const all = mesh()
    const { deployments } = all.get('a').source()
    const drawn = await played(
      Promise.all([drawAnswer(deployments), drawAnswer(deployments, needsOf(OTHER))])
    )
    expect(drawn.map(({ tokens }) => tokens.length)).toEqual([8, 8])
    await played(deployments.close())
    expect(all.empty).toBe(true)
  })

  test('of two sources at once: both are answered, and neither loses what it builds on', async () => {
    const all = mesh()
    all.get('b').store.hold('other', OTHER.bytes)
    const sources = [all.get('a').source().deployments, all.get('b').source().deployments]
    const drawn = await played(
      Promise.all([drawAnswer(sources[0]!), drawAnswer(sources[1]!, needsOf(OTHER))])
    )
    expect(drawn.map(({ tokens }) => tokens.length)).toEqual([8, 8])
    for (const { stream } of drawn) expect(stream.recoveries).toBe(0)
    await played(Promise.all(sources.map(source => source.close())))
    expect(all.empty).toBe(true)
  })

  test('memory that stays in use is not waited for longer than that', async () => {
    const all = mesh()
    const { deployments } = all.get('a').source()
    const others = all.get('b').room.leases.budgetBytes
    const taken = all
      .get('b')
      .room.leases.reserve([
        { source: 'x', modelId: 'x'.repeat(64), range: [0, 1], weightBytes: others, ownBytes: 0 }
      ])
    setInterval(() => all.get('b').room.leases.renew(taken![0]!.id), 1000)
    const startMs = Date.now()
    const refused = played(drawAnswer(deployments))
    await expect(refused).rejects.toMatchObject({
      name: 'BusyError',
      message: expect.stringContaining('120 s')
    })
    expect(Date.now() - startMs).toBeGreaterThanOrEqual(WAIT_FOR_MEMORY_MS)
    await played(deployments.close())
    expect(all.get('c').empty && all.get('a').empty).toBe(true)
  })
})

test('an offer that was gone leads to a plan without it', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { leases } = mesh.get('b').room
  mesh.get('b').saysFreeBytes = leases.budgetBytes
  leases.reserve([
    { source: 'x', modelId: 'x'.repeat(64), range: [0, 1], weightBytes: leases.budgetBytes, ownBytes: 0 }
  ])
  const { deployments } = mesh.get('a').source()
  const { stream } = await played(drawAnswer(deployments))
  expect(stagesOf(stream)).toEqual(['a', 'c', 'd'])
})

describe('a model that is placed again', () => {
  const bubble = needsOf(MODEL, { placement: { strategy: 'bubble' } })

  test('finds loaded what stays where it was, though the peer’s record is not of now', async () => {
    const mesh = meshOf(['a', 'b'], 0.95)
    mesh.get('a').decodeMs = 10
    const { deployments } = mesh.get('a').source()
    const first = await played(drawAnswer(deployments))
    expect(first.stream.plan.stages.map(({ layers }) => layers)).toEqual([
      [0, 2],
      [2, 5]
    ])
    // As while it was in use; what it still offers would do for another cut, with more layers on the slower device.
    const { leases } = mesh.get('b').room
    const [{ bytes } = { bytes: 0 }] = leases.state(() => 0)
    mesh.get('b').saysFreeBytes = leases.budgetBytes - bytes
    const again = await played(drawAnswer(deployments, bubble))
    expect(again.stream.plan).toEqual(first.stream.plan)
    expect(again.events.filter(({ type }) => type === 'progress')).toEqual([])
    expect([...mesh.nodes.values()].map(({ runtime }) => runtime.loads.length)).toEqual([1, 1])
  })

  test('stays where it was where another cut is hardly any better', async () => {
    const mesh = meshOf(['a', 'b'], 0.95)
    const { deployments } = mesh.get('a').source()
    const first = await played(drawAnswer(deployments))
    // Layers would move to the other one for nothing else.
    const last = first.stream.plan.stages.at(-1)!.peerId
    mesh.get(last === 'a' ? 'b' : 'a').decodeMs = 0.98
    const again = await played(drawAnswer(deployments, bubble))
    expect(again.stream.plan).toEqual(first.stream.plan)
    expect(again.events.filter(({ type }) => type === 'progress')).toEqual([])
  })

  test('moves where another cut is better', async () => {
    const mesh = meshOf(['a', 'b'], 0.95)
    mesh.get('a').decodeMs = 10
    const { deployments } = mesh.get('a').source()
    const first = await played(drawAnswer(deployments))
    mesh.get('a').decodeMs = 1
    mesh.get('b').decodeMs = 10
    const again = await played(drawAnswer(deployments, bubble))
    expect(again.stream.plan.stages[0]!.layers[1]).toBeGreaterThan(first.stream.plan.stages[0]!.layers[1])
    expect(again.tokens).toEqual(first.tokens)
  })

  test('counts on no memory that another source has', async () => {
    const mesh = meshOf(['a', 'b'], 0.9)
    mesh.add('c', { memoryBytes: mesh.get('b').room.leases.budgetBytes, decodeMs: 1.5 })
    const { deployments } = mesh.get('a').source()
    const first = await played(drawAnswer(deployments))
    expect(stagesOf(first.stream)).toEqual(['a', 'b'])
    const { leases } = mesh.get('b').room
    // Which takes what the idle one had.
    const wanted = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
    expect(leases.reserve([{ ...wanted, weightBytes: leases.budgetBytes }])).toHaveLength(1)
    const again = await played(drawAnswer(deployments, bubble))
    expect(again.tokens).toEqual(first.tokens)
    expect(stagesOf(again.stream)).not.toContain('b')
  })
})

test('a lease of its own that had to make room ends its deployment; the next request places it again', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const first = await played(drawAnswer(deployments))
  const { leases } = mesh.get('a').room
  const wanted = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [other] = leases.reserve([{ ...wanted, weightBytes: leases.budgetBytes }])!
  await pass(100)
  expect(deployments.state()).toEqual([])
  expect([mesh.get('b').empty, mesh.get('c').empty]).toEqual([true, true])
  leases.release(other!.id)
  expect((await played(drawAnswer(deployments))).tokens).toEqual(first.tokens)
})

test('a lease on a peer that had to make room is found out when a session is opened', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const first = await played(drawAnswer(deployments))
  const { leases } = mesh.get('b').room
  const wanted = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [other] = leases.reserve([{ ...wanted, weightBytes: leases.budgetBytes }])!
  leases.release(other!.id)
  const again = await played(drawAnswer(deployments))
  expect(again.tokens).toEqual(first.tokens)
  // It is not that peer's fault.
  expect(stagesOf(again.stream)).toContain('b')
})

describe('a model that nobody asks for any more', () => {
  const HOUR_MS = 3_600_000

  test('stays loaded, its leases renewed, until others need its memory', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const { tokens } = await played(drawAnswer(deployments))
    await pass(HOUR_MS)
    for (const id of ['b', 'c']) {
      expect(mesh.get(id).peers.met.get('renew')).toBeGreaterThanOrEqual(HOUR_MS / LEASE_TERM_MS)
      expect(mesh.get(id).room.leases.expire()).toEqual([])
      // All of it is offered to the others.
      const { freeBytes, budgetBytes } = mesh.get(id).room.leases
      expect(freeBytes).toBe(budgetBytes)
    }
    const loads = () => [...mesh.nodes.values()].map(({ runtime }) => runtime.loads.length)
    const before = loads()
    expect((await played(drawAnswer(deployments))).tokens).toEqual(tokens)
    expect(loads()).toEqual(before)

    const others = mesh.get('b').source().deployments
    expect((await played(drawAnswer(others))).tokens).toEqual(tokens)
    expect(
      mesh
        .get('c')
        .room.leases.state(() => 0)
        .every(({ source }) => source === 'b')
    ).toBe(true)
  })

  test('is given back after the time that its last request has named', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    await played(drawAnswer(deployments))
    await played(drawAnswer(deployments, needsOf(MODEL, { keepAliveMs: 5000 })))
    await pass(4000)
    expect(deployments.state()).toHaveLength(1)
    await pass(2000)
    expect(deployments.state()).toEqual([])
    expect(mesh.empty).toBe(true)
  })

  test('is given back at once where that is 0, or when it is told so, but not under an answer', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    await played(drawAnswer(deployments, needsOf(MODEL, { keepAliveMs: 0 })))
    await pass(10)
    expect(mesh.empty).toBe(true)

    const drawn = await played(
      drawAnswer(deployments, needsOf(), { onToken: () => deployments.keepAlive(MODEL.id, 0) })
    )
    expect(drawn.tokens).toHaveLength(8)
    await pass(10)
    expect(mesh.empty).toBe(true)
  })

  test('is not kept where it was placed but never used: such leases make no room for others', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const abort = new AbortController()
    onMeeting(mesh.get('b'), 'open', () => abort.abort(new Error('enough')))
    await expect(played(drawAnswer(deployments, needsOf(), abort))).rejects.toThrow('enough')
    expect(deployments.state()).toHaveLength(1)
    await pass(UNUSED_DEPLOYMENT_MS + 1000)
    expect(deployments.state()).toEqual([])
    expect(mesh.empty).toBe(true)
  })

  test('goes when too many others are kept beside it, the one that was used longest ago first', async () => {
    const models = Array.from({ length: MAX_IDLE_DEPLOYMENTS + 1 }, (_, i) => simulatedModel(`model-${i}`))
    const mesh = new SimulatedMesh(...models)
    // Each loaded shard takes memory of its own, a thread.
    mesh.add('a', { memoryBytes: 2 ** 33, models })
    const { deployments } = mesh.get('a').source()
    for (const model of models) {
      await played(drawAnswer(deployments, needsOf(model)))
      await pass(100)
    }
    expect(deployments.state().map(({ modelId }) => modelId)).toEqual(models.slice(1).map(({ id }) => id))
  })

  test('is given back behind its last answer when it was removed, wherever it was imported', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    // Only `a` has imported it; `b` prompts it, as its catalog does with what others hold.
    await mesh.get('b').store.cache(MODEL.bytes, { called: 'model', claims: { b: 0 } })
    const { deployments } = mesh.get('b').source()
    const remove = () => {
      mesh.get('a').store.models.delete(MODEL.id)
      mesh.change()
    }
    const needs = needsOf(MODEL, { newTokens: 30 })
    const drawing = drawAnswer(deployments, needs, {
      onToken: known => {
        if (known.length === 5) remove()
      }
    })
    expect((await played(drawing)).tokens).toHaveLength(30)
    await pass(3000)
    expect(deployments.state()).toEqual([])
    expect(mesh.empty).toBe(true)
  })

  test('stays when its holder is away for a moment', async () => {
    const mesh = new SimulatedMesh(MODEL)
    mesh.add('a', { memoryBytes: shareOf(MODEL, 2) })
    mesh.add('b', { memoryBytes: 0, models: [MODEL] })
    const { deployments } = mesh.get('a').source()
    await played(drawAnswer(deployments))
    mesh.vanish('b')
    await pass(1000)
    expect(deployments.state()).toHaveLength(1)
  })
})

test('a lease that a peer does not renew ends the deployment', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  const { leases } = mesh.get('b').room
  for (const { id } of leases.state(() => 0)) await mesh.get('b').serving.release('a', id)
  await pass(20_000)
  expect(deployments.state()).toEqual([])
  expect(mesh.empty).toBe(true)
})

test('who waits for memory is let in before the next request of the source that has it', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  const { leases } = mesh.get('b').room
  const order: string[] = []
  const needs = needsOf(MODEL, { newTokens: 200, prompt: [1, 2, 3] })
  const long = drawAnswer(deployments, needs, { onToken: () => sleep(100) }).then(() => order.push('long'))
  await pass(500)
  const wanted = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const waiting = leases
    .acquire([{ ...wanted, weightBytes: leases.budgetBytes }], { waitMs: 100_000 })
    .then(granted => {
      order.push('other source')
      setTimeout(() => leases.release(granted![0]!.id), 1000)
    })
  await pass(11_000)
  const next = drawAnswer(deployments, needsOf(MODEL, { newTokens: 4 })).then(() => order.push('next'))
  await played(Promise.all([long, waiting, next]))
  expect(order.slice(0, 2).sort()).toEqual(['long', 'other source'])
  expect(order.at(-1)).toBe('next')
})

test('a better deployment is worth a move, but is looked for once in a while only', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  for (const { runtime } of mesh.nodes.values()) runtime.speed.stepMs = 20
  for (const node of mesh.nodes.values()) node.decodeMs = 400
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  mesh.add('fast', { memoryBytes: shareOf(MODEL, 1), decodeMs: 1 })
  const soon = await played(drawAnswer(deployments))
  expect(stagesOf(soon.stream)).not.toContain('fast')
  await pass(RECONSIDER_MS)
  const later = await played(drawAnswer(deployments))
  expect(stagesOf(later.stream)).toContain('fast')
  expect(later.tokens).toEqual(soon.tokens)
})

test('a stage that turns slow is left when the others finish sooner, and is not taken again for a while', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  const needs = needsOf(MODEL, { newTokens: 200 })
  const usual = await played(drawAnswer(meshOf(['a', 'b', 'c']).get('a').source().deployments, needs))
  onMeeting(mesh.get('b'), 'frame', () => void (mesh.get('b').runtime.speed.stepMs = 900), 40)
  const { tokens, events, stream } = await played(drawAnswer(deployments, needs))
  expect(tokens).toEqual(usual.tokens)
  const left = events.filter(({ type }) => type === 'recovery')
  expect(left).toMatchObject([{ peerId: 'b', reason: expect.stringContaining('stage slow: b (b)') }])
  expect(stagesOf(stream)).not.toContain('b')
  await played(deployments.close())
  const next = await played(drawAnswer(deployments))
  expect(stagesOf(next.stream)).not.toContain('b')
})

test('a stage that turns slow is not left for a device that has been left itself', async () => {
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments, distrust } = mesh.get('a').source()
  distrust.late('d', 'd was late')
  const needs = needsOf(MODEL, { newTokens: 200 })
  onMeeting(mesh.get('b'), 'frame', () => void (mesh.get('b').runtime.speed.stepMs = 900), 40)
  const { stream } = await played(drawAnswer(deployments, needs))
  expect(stream.recoveries).toBe(0)
  expect(stagesOf(stream)).toEqual(['a', 'b', 'c'])
  expect(distrust.leftPeerIds).toEqual(['d'])
})

test('a deployment for throughput has slots for many, and answers them together', async () => {
  const mesh = meshOf(['a', 'b', 'c'], 2)
  const { deployments } = mesh.get('a').source()
  const needs = needsOf(MODEL, { objective: 'throughput', placement: { batch: 4, microBatches: 2 } })
  const drawn = await played(Promise.all(Array.from({ length: 6 }, () => drawAnswer(deployments, needs))))
  expect(deployments.state()).toMatchObject([{ objective: 'throughput', slots: 4, microBatches: 2 }])
  for (const { tokens } of drawn) expect(tokens).toEqual(drawn[0]!.tokens)
})

test('the scenario of a mesh is what the planner would get', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  const { deployments } = mesh.get('a').source()
  const scenario = await played(deployments.scenario(needsOf(), going.signal))
  expect(scenario.source).toBe('a')
  expect(scenario.devices.map(({ id }) => id)).toEqual(['a', 'b', 'c'])
  expect(scenario.links.pairs).toHaveLength(2 + 6)
})

describe('who no longer wants the answer', () => {
  const MEETINGS: Meeting[] = ['connect', 'reserve', 'load', 'weights', 'open', 'frame']

  test.each(MEETINGS)('and aborts at %s gets the reason, and nothing stays behind', async what => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const abort = new AbortController()
    const asked = mesh.get(what === 'weights' ? 'a' : 'b')
    onMeeting(asked, what, () => abort.abort(new Error('enough')))
    await expect(played(drawAnswer(deployments, needsOf(), abort))).rejects.toThrow('enough')
    await played(deployments.close())
    await pass(1000)
    expect(mesh.empty).toBe(true)
    expect((await played(drawAnswer(deployments))).tokens).toHaveLength(8)
  })

  test('aborts at any moment', async () => {
    for (let ms = 0; ms < 160; ms += 2) {
      const mesh = meshOf(['a', 'b', 'c'])
      const { deployments } = mesh.get('a').source()
      const abort = new AbortController()
      setTimeout(() => abort.abort(new Error('enough')), ms)
      const ended = await played(
        drawAnswer(deployments, needsOf(), abort).catch((error: Error) => error.message)
      )
      expect(ended, `after ${ms} ms`).toSatisfy(end => end === 'enough' || typeof end === 'object')
      await played(deployments.close())
      await pass(100)
      expect(mesh.empty, `after ${ms} ms`).toBe(true)
    }
  })

  test('leaves at any event, and nothing stays behind', async () => {
    for (let leaveAt = 1; ; leaveAt++) {
      const mesh = meshOf(['a', 'b', 'c'])
      const { deployments } = mesh.get('a').source()
      const asked = { ...needsOf(), known: [], avoid: new Set<string>(), lost: undefined }
      const events = deployments.acquire(asked, going)
      let ended = false
      for (let at = 0; at < leaveAt && !ended; at++) ended = (await played(events.next())).done === true
      if (ended) {
        expect(leaveAt).toBeGreaterThan(3)
        return
      }
      await played(events.return(undefined as never))
      await pass(1000)
      expect(mesh.get('a').room.sessions.open, `left at event ${leaveAt}`).toBe(0)
      expect((await played(drawAnswer(deployments))).tokens).toHaveLength(8)
      await played(deployments.close())
      expect(mesh.empty, `left at event ${leaveAt}`).toBe(true)
    }
  })

  test('and one that waits for its turn does not hold up the next', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const abort = new AbortController()
    const first = drawAnswer(deployments)
    const second = drawAnswer(deployments, needsOf(), abort).catch((error: Error) => error.message)
    const third = drawAnswer(deployments)
    await pass(20)
    abort.abort(new Error('enough'))
    const [one, two, three] = await played(Promise.all([first, second, third]))
    expect(two).toBe('enough')
    expect(three.tokens).toEqual(one.tokens)
  })
})

describe('a node that stops', () => {
  test('in the middle of an answer ends it, and gives back what it holds', async () => {
    const mesh = meshOf(['a', 'b', 'c'])
    const { deployments } = mesh.get('a').source()
    const drawing = drawAnswer(deployments, needsOf(MODEL, { newTokens: 100 })).catch((error: Error) => error)
    await pass(150)
    expect(mesh.get('a').room.sessions.open).toBe(1)
    await played(deployments.close())
    expect(await played(drawing)).toMatchObject({ message: 'the model was taken off its devices' })
    await pass(100)
    expect(mesh.empty).toBe(true)
  })
})

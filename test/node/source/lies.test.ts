import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  LATE_AVOID_MS,
  LOAD_DEADLINE_FLOOR_MS,
  LOAD_QUIET_FLOOR_MS,
  RECONSIDER_MS
} from '../../../node/constants.ts'
import type { LoadProgress } from '../../../protocols/lease/index.ts'
import type { StageTiming } from '../../../protocols/stage/frame.ts'
import { pass, played, sleep, stopClock } from '../simulation/clock.ts'
import { type SimulatedMesh, type SimulatedNode, shareOf } from '../simulation/mesh.ts'
import { onMeeting } from '../simulation/peers.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const MB = 1e6
const devicesOf = ({ stream }: { stream: { plan: { stages: { peerId: string }[] } } }) =>
  stream.plan.stages.map(({ peerId }) => peerId)

/** The tokens that the model draws. */
async function honestTokens(): Promise<number[]> {
  return (await played(drawAnswer(meshOf(['a'], 5).get('a').source().deployments))).tokens
}

/** A device that attracts layers and holds every load up, saying what it likes meanwhile. */
function holdLoads(node: SimulatedNode, say: () => LoadProgress): { loads: number; words: number } {
  const seen = { loads: 0, words: 0 }
  node.decodeMs = 0.001
  node.serving.load = async (_peerId, _request, { signal, onProgress }) => {
    seen.loads++
    while (!signal.aborted) {
      onProgress(say())
      seen.words++
      await sleep(5000)
    }
  }
  return seen
}

/** Four devices of which the source needs two others; one of them lies. */
function meshWithLiar(): { mesh: SimulatedMesh; liar: SimulatedNode } {
  const mesh = meshOf(['a', 'b', 'c', 'liar'])
  return { mesh, liar: mesh.get('liar') }
}

describe('a device that holds a load', () => {
  test.each<[string, () => LoadProgress, number]>([
    [
      'with numbers that mean nothing',
      () => ({ phase: 'weights', done: Math.random(), total: MB }),
      LOAD_QUIET_FLOOR_MS + 5000
    ],
    [
      'with a byte more each time',
      (() => {
        let done = 0
        return () => ({ phase: 'weights', done: done++, total: 1000 })
      })(),
      LOAD_DEADLINE_FLOOR_MS
    ],
    ['as if it loaded', () => ({ phase: 'load', done: 0, total: 1 }), LOAD_QUIET_FLOOR_MS + 5000],
    [
      'as if it loaded a little more each time',
      (() => {
        let done = 0
        return () => ({ phase: 'load', done: done++ / 1e6, total: 1 })
      })(),
      LOAD_QUIET_FLOOR_MS + 5000
    ]
  ])('%s is left, and not taken by the next requests', async (_, say, limitMs) => {
    const expected = await honestTokens()
    const { mesh, liar } = meshWithLiar()
    const seen = holdLoads(liar, say)
    const { deployments } = mesh.get('a').source()
    const startMs = Date.now()
    const first = await played(drawAnswer(deployments))
    expect(Date.now() - startMs).toBeLessThan(limitMs + 5000)
    expect(seen.loads).toBe(1)
    expect(seen.words).toBeGreaterThan(3)
    expect(first.tokens).toEqual(expected)
    expect(devicesOf(first)).toEqual(['a', 'b', 'c'])
    // In the words of the loss, to people.
    expect(mesh.get('a').notices.filter(notice => notice.includes('liar'))).toEqual([
      expect.stringMatching(/^liar \(liar\) failed while loading layers .* not taken for 10 minutes/)
    ])
    // With nothing placed any more.
    await played(deployments.close())
    await pass(60_000)
    expect((await played(drawAnswer(deployments))).tokens).toEqual(expected)
    expect(seen.loads).toBe(1)
    await played(deployments.close())
    await pass(LATE_AVOID_MS)
    await played(drawAnswer(deployments))
    expect(seen.loads).toBe(2)
  })

  test('is left when it was to take the place of a lost one, too, and once only', async () => {
    const expected = await honestTokens()
    const { mesh, liar } = meshWithLiar()
    liar.saysFreeBytes = 0
    const { deployments } = mesh.get('a').source()
    const seen = holdLoads(liar, () => ({ phase: 'weights', done: 0.5, total: MB }))
    const drawn = played(
      drawAnswer(deployments, needsOf(), {
        onToken: tokens => {
          if (tokens.length !== 3) return
          liar.saysFreeBytes = undefined
          mesh.add('d', { memoryBytes: liar.room.leases.budgetBytes })
          mesh.get('d').decodeMs = 5
          mesh.vanish('b')
        }
      })
    )
    const { tokens, stream } = await drawn
    expect(tokens).toEqual(expected)
    expect(stream.recoveries).toBe(1)
    expect(seen.loads).toBe(1)
  })

  test('is taken again where nothing fits without it', async () => {
    const mesh = meshOf(['a', 'b', 'liar'])
    const liar = mesh.get('liar')
    const load = liar.serving.load.bind(liar.serving)
    const seen = holdLoads(liar, () => ({ phase: 'weights', done: 0.5, total: MB }))
    const { deployments } = mesh.get('a').source()
    await expect(played(drawAnswer(deployments))).rejects.toMatchObject({
      name: 'StageLostError',
      peerId: 'liar',
      message: expect.stringContaining('it has neither fetched nor loaded anything within 30 s')
    })
    liar.serving.load = load
    expect((await played(drawAnswer(deployments))).tokens).toEqual(await honestTokens())
    expect(seen.loads).toBe(1)
  })
})

test('a device that opens no session in time is not taken by the next requests', async () => {
  const { mesh, liar } = meshWithLiar()
  liar.decodeMs = 0.001
  let opens = 0
  onMeeting(liar, 'open', () => {
    opens++
    return new Promise(() => {})
  })
  const { deployments } = mesh.get('a').source()
  const first = await played(drawAnswer(deployments))
  expect(first.tokens).toEqual(await honestTokens())
  await played(deployments.close())
  expect(devicesOf(await played(drawAnswer(deployments)))).not.toContain('liar')
  expect(opens).toBe(1)
})

describe('a device that takes steps and hands nothing on', () => {
  /** Three devices that are needed, all of them, and one that could do the others' part alone, and attracts it. */
  function meshWithHanging() {
    const mesh = meshOf(['a', 'b', 'c'])
    const liar = mesh.add('liar', { memoryBytes: shareOf(MODEL, 2) })
    liar.decodeMs = 0.5
    const seen = { frames: 0 }
    liar.peers.send = async () => void seen.frames++
    return { mesh, seen, deployments: mesh.get('a').source().deployments }
  }

  test('is left, and not taken by the next requests', async () => {
    const { mesh, seen, deployments } = meshWithHanging()
    const first = await played(drawAnswer(deployments))
    expect(seen.frames).toBe(1)
    expect(first.tokens).toEqual(await honestTokens())
    expect(first.stream.recoveries).toBe(1)
    expect(devicesOf(first)).toEqual(['a', 'b', 'c'])
    expect(mesh.get('a').notices.filter(notice => notice.includes('not taken for 10 minutes'))).toEqual([
      expect.stringMatching(/^stage lost: liar \(liar\) .* not through within/)
    ])
    await played(deployments.close())
    await pass(60_000)
    expect((await played(drawAnswer(deployments))).stream.recoveries).toBe(0)
    expect(seen.frames).toBe(1)
  })
})

test('a device whose memory is still taken by a load that was given up is no liar', async () => {
  const expected = await honestTokens()
  const mesh = meshOf(['a', 'b', 'c', 'd'])
  const { deployments, distrust } = mesh.get('a').source()
  const { speed } = mesh.get('b').runtime
  speed.loadMs = 600_000
  const cancel = new AbortController()
  const given = drawAnswer(deployments, needsOf(), { signal: cancel.signal })
  setTimeout(() => cancel.abort(new Error('enough')), 10_000)
  await expect(played(given)).rejects.toThrow('enough')
  const next = await played(drawAnswer(deployments))
  expect(next.tokens).toEqual(expected)
  expect(devicesOf(next)).toEqual(['a', 'c', 'd'])
  expect([distrust.leftPeerIds, mesh.get('a').notices]).toEqual([[], []])
})

test('a slow load of an honest device is waited for', async () => {
  const mesh = meshOf(['a', 'b', 'c'])
  mesh.get('b').runtime.speed.loadMs = LOAD_QUIET_FLOOR_MS - 1000
  onMeeting(mesh.get('c'), 'load', () => sleep(LOAD_QUIET_FLOOR_MS - 1000))
  const { tokens } = await played(drawAnswer(mesh.get('a').source().deployments))
  expect(tokens).toEqual(await honestTokens())
  expect(mesh.get('a').notices.filter(notice => notice.includes('not taken'))).toEqual([])
})

describe('a device that says it is a thousand times as fast', () => {
  /** One that has room for all, and is as fast as the source, which could do all itself; a hop costs more than that. */
  function boaster(decodeMs: number) {
    const mesh = meshOf(['a', 'liar'], 5)
    mesh.latencyMs = 5
    const liar = mesh.get('liar')
    liar.decodeMs = decodeMs
    return { mesh, liar, deployments: mesh.get('a').source().deployments }
  }

  test('gets no layers for its word alone, where the source is as good at four times its speed', async () => {
    const { mesh, deployments, liar } = boaster(0.001)
    // Two hops for all layers but the first ones cost a little less than these do here, and more than three quarters.
    mesh.latencyMs = 1.1
    expect(devicesOf(await played(drawAnswer(deployments)))).toEqual(['a'])
    expect(liar.peers.met.get('reserve')).toBeUndefined()
  })

  test('is tried where it would be worth it at four times the source’s speed, and found out', async () => {
    const { mesh, deployments, liar } = boaster(0.001)
    mesh.get('a').decodeMs = 40
    liar.runtime.speed.stepMs = 1000
    const needs = needsOf(undefined, { newTokens: 20 })
    const first = await played(drawAnswer(deployments, needs))
    expect(devicesOf(first)).toContain('liar')
    for (let answers = 0; answers < 4; answers++) {
      await pass(10_000)
      await played(drawAnswer(deployments, needs))
    }
    const last = await played(drawAnswer(deployments, needs))
    expect(devicesOf(last)).toEqual(['a'])
    expect(last.tokens).toEqual(first.tokens)
    expect(mesh.get('a').notices.filter(notice => notice.includes('liar'))).toEqual([
      expect.stringMatching(
        /^liar \(liar\) says that a layer takes it 0.001 ms; answers took .* planned with/
      )
    ])
  })

  /** What the liar writes about a step that it had in hand. */
  type Forge = (timings: readonly StageTiming[]) => StageTiming[]
  const forged: [string, Forge][] = [
    ['its own times short', ([own]) => [own!, { arrivedAtMs: 0, sentAtMs: 0.1, computeMs: 0.1 }]],
    [
      'its own times short, and the source’s long',
      ([own]) => [
        { ...own!, sentAtMs: own!.sentAtMs + 995 },
        { arrivedAtMs: 0, sentAtMs: 0.1, computeMs: 0.1 }
      ]
    ],
    [
      'the whole step short',
      ([own, mine]) => [
        { arrivedAtMs: mine!.sentAtMs - 1, sentAtMs: mine!.sentAtMs - 0.9, computeMs: own!.computeMs },
        { arrivedAtMs: 0, sentAtMs: 0.1, computeMs: 0.1 }
      ]
    ],
    ['no times at all', () => []],
    [
      'of more stages than there are',
      ([own, mine]) => [own!, { ...mine!, sentAtMs: mine!.arrivedAtMs, computeMs: 0 }, mine!]
    ],
    ['times that are no numbers', ([own, mine]) => [own!, { ...mine!, computeMs: Number.NaN }]]
  ]
  test.each(forged)('is found out by the source’s own clock, though it writes %s', async (_, forge) => {
    const { mesh, deployments, liar } = boaster(0.001)
    mesh.get('a').decodeMs = 40
    liar.runtime.speed.stepMs = 1000
    let frames = 0
    const send = liar.peers.send.bind(liar.peers)
    liar.peers.send = (to, frame) => {
      if (frame.type === 'token') frames++
      return send(to, frame.type === 'token' ? { ...frame, timings: forge(frame.timings) } : frame)
    }
    const needs = needsOf(undefined, { newTokens: 20 })
    const first = await played(drawAnswer(deployments, needs))
    expect(devicesOf(first)).toContain('liar')
    for (let answers = 0; answers < 4; answers++) {
      await pass(10_000)
      await played(drawAnswer(deployments, needs))
    }
    expect(frames).toBeGreaterThan(needs.newTokens)
    expect(devicesOf(await played(drawAnswer(deployments, needs)))).toEqual(['a'])
    // Said once.
    expect(mesh.get('a').notices.filter(notice => notice.includes('liar'))).toHaveLength(1)
  })
})

describe('a device whose answer was found to be wrong', () => {
  /** One that attracts layers, in a mesh that can do without. */
  function attractive() {
    const { mesh, liar } = meshWithLiar()
    liar.decodeMs = 0.5
    const { deployments, distrust } = mesh.get('a').source()
    return { deployments, distrust, draw: () => played(drawAnswer(deployments)) }
  }

  test('computes nothing of the next one, though its stage is ready', async () => {
    const { draw, distrust } = attractive()
    expect(devicesOf(await draw())).toContain('liar')
    distrust.wrong(['liar'], 'an answer is wrong')
    const next = await draw()
    expect(devicesOf(next)).toEqual(['a', 'b', 'c'])
    expect(next.tokens).toEqual(await honestTokens())
  })

  test('computes nothing of those that come while answers of it run: they wait for these', async () => {
    const { deployments, distrust } = attractive()
    const next: ReturnType<typeof drawAnswer>[] = []
    const onToken = (tokens: number[]) => {
      if (tokens.length === 2) distrust.wrong(['liar'], 'an answer is wrong')
      if (tokens.length === 3 || tokens.length === 4) next.push(drawAnswer(deployments))
    }
    const running = await played(drawAnswer(deployments, needsOf(), { onToken }))
    expect(devicesOf(running)).toContain('liar')
    expect(running.stream.recoveries).toBe(0)
    const answers = await played(Promise.all(next))
    expect(answers.map(devicesOf)).toEqual([
      ['a', 'b', 'c'],
      ['a', 'b', 'c']
    ])
  })

  test('goes on where nothing fits without it, and is left when something does', async () => {
    const mesh = meshOf(['a', 'b', 'liar'])
    const { deployments, distrust } = mesh.get('a').source()
    await played(drawAnswer(deployments))
    distrust.wrong(['liar'], 'an answer is wrong')
    expect(devicesOf(await played(drawAnswer(deployments)))).toContain('liar')
    mesh.add('c', { memoryBytes: mesh.get('b').room.leases.budgetBytes })
    await pass(RECONSIDER_MS)
    expect(devicesOf(await played(drawAnswer(deployments)))).not.toContain('liar')
  })
})

test('a device that turns slow and hides it is left when the others finish sooner', async () => {
  const { mesh, liar } = meshWithLiar()
  liar.decodeMs = 0.5
  const needs = needsOf(undefined, { newTokens: 200 })
  const send = liar.peers.send.bind(liar.peers)
  let hidden = 0
  liar.peers.send = async (to, frame) => {
    // Its last times stay what they were, so that the delay is the way's.
    if (frame.type === 'token' && ++hidden > 40) await sleep(900)
    return await send(to, frame)
  }
  const { deployments } = mesh.get('a').source()
  const { tokens, events } = await played(drawAnswer(deployments, needs))
  const left = events.filter(({ type }) => type === 'recovery')
  expect(hidden).toBeGreaterThan(60)
  expect(left).toMatchObject([{ peerId: 'liar', reason: expect.stringContaining('stage slow: liar') }])
  const honest = meshOf(['a'], 5).get('a').source().deployments
  expect(tokens).toEqual((await played(drawAnswer(honest, needs))).tokens)
})

test('an honest device that is much faster than the source is used as what it is', async () => {
  const mesh = meshOf(['a', 'fast'], 5)
  mesh.get('a').decodeMs = 40
  mesh.get('a').runtime.speed.stepMs = 80
  mesh.get('fast').decodeMs = 0.5
  mesh.get('fast').runtime.speed.stepMs = 2
  const { deployments, planning } = mesh.get('a').source()
  const needs = needsOf(undefined, { newTokens: 20 })
  for (let answers = 0; answers < 4; answers++) await played(drawAnswer(deployments, needs))
  const [{ predicted, plan }] = deployments.state() as [ReturnType<typeof deployments.state>[0]]
  expect(plan.stages.at(-1)!.peerId).toBe('fast')
  const timed = { peerId: 'fast', modelId: needs.model.id, borrowed: false }
  // Four layers and the head in 2 ms, instead of a quarter of 40 ms each.
  expect(planning.corrections.measuredFactor(timed)).toBeLessThan(0.1)
  expect(predicted.tpotMs).toBeGreaterThan(0)
  expect(mesh.get('a').notices.filter(notice => notice.includes('fast'))).toEqual([])
})

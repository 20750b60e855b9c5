import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Plan, parseScenario, plan, type ScenarioInput } from '../../../node/plan/index.ts'
import { cutsOf } from '../../../node/source/pipeline/dropped-tokens.ts'
import { Deployment } from '../../../node/source/placement/deployment.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { OracleDraft } from './oracle-draft.ts'
import { drawAnswer, MODEL, meshOf, needsOf, PROMPT } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

async function undisturbed(): Promise<number[]> {
  const whole = meshOf(['a'], 5, MODEL).get('a').source()
  return (await played(drawAnswer(whole.deployments, needsOf()))).tokens
}

const bytes = (share: number) => shareOf(MODEL, share)
/** A device whose GPU and CPU both compute. */
const both = (gpu: number, cpu: number) => ({ memoryBytes: bytes(gpu), beside: { memoryBytes: bytes(cpu) } })

async function expectAllGivenBack(mesh: SimulatedMesh, source: { close(): Promise<void> }): Promise<void> {
  await played(source.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
}

test('a model that is larger than the card is on the card and on the CPU of one device', async () => {
  const expected = await undisturbed()
  const mesh = new SimulatedMesh(MODEL)
  const a = mesh.add('a', { ...both(0.8, 0.6), models: [MODEL] })
  const source = a.source().deployments
  const { tokens, stream } = await played(drawAnswer(source))
  expect(tokens).toEqual(expected)
  const { stages } = stream.plan
  expect(stages.map(({ peerId, processor }) => [peerId, processor])).toEqual([
    ['a', 'gpu'],
    ['a', 'cpu']
  ])
  expect(stages.map(({ bitsClass }) => bitsClass)).toEqual(['gpu', undefined])
  // Each loads what it was planned for, and in its own memory.
  expect(a.runtime.loads).toEqual([stages[0]!.layers])
  expect(a.besideRuntime!.loads).toEqual([stages[1]!.layers])
  for (const leases of [a.room.leases, a.room.beside!.leases]) expect(leases.state(() => 0)).toHaveLength(1)
  await expectAllGivenBack(mesh, source)
})

test('both processors of a peer each have a stage, and hand over inside the device', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a'], 0.42)
  const b = mesh.add('b', both(0.5, 0.5))
  const source = mesh.get('a').source().deployments
  const { tokens, stream, events } = await played(drawAnswer(source))
  expect(tokens).toEqual(expected)
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'b', 'b'])
  // What each of them loads is told apart.
  const told = new Set(events.flatMap(event => (event.type === 'progress' ? [event.peer] : [])))
  for (const place of ['b (gpu)', 'b (cpu)']) expect(told).toContain(place)
  expect(new Set(stream.plan.stages.slice(1).map(({ processor }) => processor))).toEqual(
    new Set(['gpu', 'cpu'])
  )
  // One frame comes in for each step, and a token goes back.
  expect(b.peers.met.get('frame')).toBe(tokens.length)
  expect(b.room.beside!.leases.heldBytes).toBeGreaterThan(0)
  await expectAllGivenBack(mesh, source)
})

test('a model that the card has room for is on the card alone, whether it was timed or not', async () => {
  for (const timed of [true, false]) {
    const mesh = new SimulatedMesh(MODEL)
    const a = mesh.add('a', { ...both(1.5, 3), models: [MODEL], decodeMs: 0.9 })
    a.timed = timed
    const source = a.source().deployments
    const { stream } = await played(drawAnswer(source))
    expect(stream.plan.stages).toMatchObject([{ peerId: 'a', processor: 'gpu' }])
    expect(a.besideRuntime!.loads).toEqual([])
    await expectAllGivenBack(mesh, source)
  }
})

test('a source that names no processor, as those of older versions, has the memory of the one that is used', async () => {
  const { serving, room } = new SimulatedMesh(MODEL).add('b', { ...both(1.5, 1.5), models: [MODEL] })
  const signal = new AbortController().signal
  const asked = { modelId: MODEL.id, range: [0, 2] as [number, number], maxTokens: 8, sessions: 1 }
  expect(await serving.reserve('a', asked, { signal })).toMatchObject({ type: 'granted' })
  expect([room.leases, room.beside!.leases].map(leases => leases.state(() => 0).length)).toEqual([1, 0])
  expect(await serving.reserve('a', { ...asked, processor: 'cpu' }, { signal })).toMatchObject({
    type: 'granted'
  })
  expect(await serving.reserve('a', { ...asked, processor: 'gpu' }, { signal })).toMatchObject({
    type: 'granted'
  })
  expect([room.leases, room.beside!.leases].map(leases => leases.state(() => 0).length)).toEqual([2, 1])
})

test('a peer whose card dies has its stages lost, and the answer goes on with the same tokens', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a'], 0.42)
  const b = mesh.add('b', both(0.5, 0.5))
  mesh.add('c', { memoryBytes: bytes(0.8) }).decodeMs = 5
  const source = mesh.get('a').source().deployments
  const { tokens, stream } = await played(
    drawAnswer(source, needsOf(), {
      onToken: tokens => {
        if (tokens.length === 3) b.runtime.crash()
      }
    })
  )
  expect(tokens).toEqual(expected)
  expect(stream.recoveries).toBe(1)
  await expectAllGivenBack(mesh, source)
})

test('the card of the source dies, and so does a peer with both: the answer goes on', async () => {
  const expected = await undisturbed()
  const mesh = new SimulatedMesh(MODEL)
  const a = mesh.add('a', { ...both(0.8, 0.8), models: [MODEL] })
  const source = a.source().deployments
  const answered = await played(
    drawAnswer(source, needsOf(), {
      onToken: tokens => {
        if (tokens.length === 3) a.runtime.crash()
        if (tokens.length === 5) a.besideRuntime!.crash()
      }
    })
  )
  expect(answered.tokens).toEqual(expected)
  expect(answered.stream.recoveries).toBe(2)
  await expectAllGivenBack(mesh, source)

  const two = meshOf(['a'], 0.42)
  two.add('b', both(0.5, 0.5))
  two.add('c', both(0.5, 0.5))
  const other = two.get('a').source().deployments
  const lost = await played(
    drawAnswer(other, needsOf(), {
      onToken: (tokens: number[]) => {
        if (tokens.length === 3) two.vanish('b')
      }
    })
  )
  expect(lost.tokens).toEqual(expected)
  expect(new Set(lost.stream.plan.stages.map(({ peerId }) => peerId))).toEqual(new Set(['a', 'c']))
  await expectAllGivenBack(two, other)
})

test('stages of a source’s two processors feed each other in both directions', async () => {
  const expected = await undisturbed()
  const mesh = new SimulatedMesh(MODEL)
  const a = mesh.add('a', { ...both(0.8, 0.9), models: [MODEL] })
  const { recruiter } = a.source()
  const on = (processor: string, start: number, end: number) => ({
    peerId: 'a',
    name: 'a',
    processor,
    layers: [start, end] as [number, number],
    weightBytes: 1
  })
  const { id: modelId, manifest } = MODEL
  const stages = [on('gpu', 0, 2), on('cpu', 2, 4), on('gpu', 4, 5)]
  const held = await played(
    recruiter.recruit(
      { modelId, manifest, stages, slots: 1, contextTokens: 64, waitMs: 0 },
      { signal: new AbortController().signal, onProgress() {} }
    )
  )
  const predicted = { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] }
  const deployment = new Deployment(
    { peers: a.peers, room: a.room },
    {
      ...{ modelId, stages: held, contextTokens: 64, slots: 1, microBatches: 1, strategy: 'no-bubble' },
      promptsFirst: false,
      ...{ vocabSize: manifest.shape.vocabSize, hiddenSize: manifest.shape.hiddenSize, hasState: false },
      mayCut: cutsOf(manifest.shape),
      predicted,
      onSlow() {}
    }
  )
  const { prompt, ends, sampling, scope } = needsOf()
  const { signal } = new AbortController()
  const opened = await played(
    deployment.open({ prompt, known: [], maxTokens: 8, ends, sampling, scope, predicted }, signal)
  )
  const tokens: number[] = []
  while (tokens.length < expected.length) tokens.push((await played(opened.next())).id)
  expect(tokens).toEqual(expected)
  await played(opened.close())
  await expectAllGivenBack(mesh, { close: () => deployment.release() })
})

test('where a plan would come back to a peer behind another device, devices are one processor each', async () => {
  const mesh = meshOf(['a'], 0.42)
  mesh.add('b', both(0.9, 0.5))
  const solved: ScenarioInput[] = []
  const { planning } = mesh.get('a').source({
    planner: {
      begin() {},
      async solve(scenario) {
        solved.push(scenario)
        const found = plan(parseScenario(scenario), { explain: false })
        if (!found.feasible || solved.length > 1) return found
        const stages: Plan['stages'] = [
          { device: 'a', layers: [0, 1] },
          { device: 'b', processor: 'gpu', layers: [1, 2] },
          { device: 'a', layers: [2, 3] },
          { device: 'b', processor: 'cpu', layers: [3, 5] }
        ]
        return { ...found, stages }
      }
    }
  })
  const found = await planning.solve(planning.scenario(needsOf()))
  expect(found).toMatchObject({ stages: [{ device: 'a' }, { device: 'b' }] })
  const [before, after] = solved.map(({ devices }) => devices.find(({ id }) => id === 'b'))
  expect(before).toHaveProperty('processors')
  const turns = { turnMs: 0, frameMs: 0 }
  expect(after).toEqual({ id: 'b', name: 'b', memoryBytes: expect.any(Number), profile: 'b', ...turns })
})

test('a device that is drained gives both of its processors’ stages to others', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a'], 0.42)
  const b = mesh.add('b', both(0.5, 0.5))
  mesh.add('c', both(0.5, 0.5)).decodeMs = 3
  const source = mesh.get('a').source().deployments
  const { tokens, stream } = await played(
    drawAnswer(source, needsOf(undefined, { newTokens: 60 }), {
      onToken: tokens => {
        if (tokens.length === 3) mesh.drain('b')
      }
    })
  )
  expect(tokens.slice(0, expected.length)).toEqual(expected)
  expect(new Set(stream.plan.stages.map(({ peerId }) => peerId))).toEqual(new Set(['a', 'c']))
  await pass(60_000)
  expect([b.room.leases, b.room.beside!.leases].map(({ heldBytes }) => heldBytes)).toEqual([0, 0])
  await expectAllGivenBack(mesh, source)
})

test('others stand by for both stages of a device, and go on when it dies', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a'], 1)
  mesh.get('a').decodeMs = 20
  mesh.add('b', both(0.5, 0.5))
  mesh.add('c', both(0.5, 0.5)).decodeMs = 3
  const source = mesh.get('a').source().deployments
  const { tokens, stream, events } = await played(
    drawAnswer(source, needsOf(undefined, { newTokens: 120, standby: true }), {
      onToken: tokens => {
        if (tokens.length === 100) mesh.vanish('b')
      }
    })
  )
  expect(tokens.slice(0, expected.length)).toEqual(expected)
  expect(new Set(stream.plan.stages.map(({ peerId }) => peerId))).toEqual(new Set(['a', 'c']))
  const moved = events.flatMap(event => (event.type === 'moved' ? [event.move.reason] : []))
  expect(moved).toEqual(['lost'])
  await expectAllGivenBack(mesh, source)
})

test('a card that is faster for prompts alone is used where the prompt takes more than the answer', async () => {
  const mesh = new SimulatedMesh(MODEL)
  const a = mesh.add('a', {
    memoryBytes: bytes(1.5),
    beside: { memoryBytes: bytes(1.5), decodeMs: 1, prefillMs: 1 },
    models: [MODEL],
    decodeMs: 2,
    prefillMs: 0.05
  })
  const { planning } = a.source()
  const usedFor = async (promptTokens: number, newTokens: number) => {
    const found = await planning.solve(planning.scenario(needsOf(MODEL, { promptTokens, newTokens })))
    return found.feasible && found.stages.map(({ processor, layers }) => [processor, layers])
  }
  // A head computes one token of a prompt, so it is where a token takes less.
  expect(await usedFor(200, 8)).toEqual([
    ['gpu', [0, 4]],
    ['cpu', [4, 5]]
  ])
  expect(await usedFor(5, 200)).toEqual([['cpu', [0, 5]]])
})

test('a device with both takes its place beside one that has a CPU and one that has a GPU alone', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a'], 0.42)
  mesh.get('a').decodeMs = 20
  mesh.add('b', both(0.3, 0.3))
  mesh.add('c', { memoryBytes: bytes(0.3) }).processors = [{ kind: 'gpu', name: 'a card', used: true }]
  const source = mesh.get('a').source().deployments
  const { tokens, stream } = await played(drawAnswer(source))
  expect(tokens).toEqual(expected)
  const classes = stream.plan.stages.map(({ peerId, processor, bitsClass }) => [peerId, processor, bitsClass])
  expect(classes).toHaveLength(4)
  expect(classes).toEqual(
    expect.arrayContaining([
      ['a', undefined, undefined],
      ['b', 'gpu', 'gpu'],
      ['b', 'cpu', undefined],
      ['c', undefined, 'gpu']
    ])
  )
  await expectAllGivenBack(mesh, source)
})

test('guesses ahead, right and wrong, change no token of two stages of a device', async () => {
  const newTokens = 40
  const alone = meshOf(['a'], 5).get('a').source().deployments
  const { tokens: answer } = await played(drawAnswer(alone, needsOf(MODEL, { newTokens })))
  const mesh = meshOf(['a'], 0.42)
  mesh.latencyMs = 10
  mesh.add('b', both(0.5, 0.5))
  const source = mesh.get('a').source().deployments
  const { vocabSize } = MODEL.manifest.shape
  const draft = new OracleDraft({ promptTokens: PROMPT.length, answer, right: 0.7, vocabSize })
  const { tokens, stream } = await played(drawAnswer(source, needsOf(MODEL, { newTokens, draft })))
  expect(tokens).toEqual(answer)
  expect(stream.guesses!.held).toBeGreaterThan(0)
  expect(stream.guesses!.dropped).toBeGreaterThan(0)
  await expectAllGivenBack(mesh, source)
})

test('another device has the place of one that is lost on whichever of its processors is faster', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a', 'b', 'c'])
  const d = mesh.add('d', { ...both(0.42, 0.42), decodeMs: 4 })
  d.besideDecodeMs = 1.1
  const source = mesh.get('a').source().deployments
  const { tokens, stream } = await played(
    drawAnswer(source, needsOf(), {
      onToken: tokens => {
        if (tokens.length === 3) mesh.vanish('c')
      }
    })
  )
  expect(tokens).toEqual(expected)
  expect(stream.plan.stages.map(({ peerId, processor }) => [peerId, processor])).toContainEqual(['d', 'cpu'])
  await expectAllGivenBack(mesh, source)
})

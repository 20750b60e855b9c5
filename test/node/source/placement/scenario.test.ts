import { describe, expect, test } from 'vitest'
import { LLAMA_BLOCK } from '../../../../models/import/architectures/architecture.ts'
import { kvCacheBytes, leaseBytes, weightBytes, workingBytes } from '../../../../models/runtime/memory.ts'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import type { LayerProfile } from '../../../../node/api.ts'
import { ASSUMED_LINK_MBPS, FRAME_BYTES, HOP_OVERHEAD_MS } from '../../../../node/constants.ts'
import { parseScenario, plan, predict, predictRate } from '../../../../node/plan/index.ts'
import type { Candidate } from '../../../../node/source/placement/candidate.ts'
import { Corrections } from '../../../../node/source/placement/corrections.ts'
import { type PlanningRequest, snapshotScenario } from '../../../../node/source/placement/scenario.ts'
import { SHAPES, TINY_SHAPE } from '../../../fixtures/random-model.ts'

const MODEL = 'model'
const profile = (decodeMs: number): LayerProfile => ({
  embedding: { decodeMs: 0.01, prefillMsPerToken: 0.01 },
  decoder: { decodeMs, decodeMsByBatch: { 1: decodeMs, 4: 2 * decodeMs }, prefillMsPerToken: decodeMs / 2 },
  head: { decodeMs: 2 * decodeMs, prefillMsPerToken: decodeMs }
})
const device = (peerId: string, own: LayerProfile | undefined): Candidate => ({
  record: {
    peerId,
    name: peerId,
    profiles: own === undefined ? {} : { [MODEL]: own },
    memory: { budgetBytes: 1e9, freeBytes: 1e9 },
    models: [],
    leases: []
  },
  memoryBytes: 1e9,
  rttMs: 10
})
const link = { mbps: 8, rttMs: 10, spread: 0, ageMs: 0 }
const request: PlanningRequest = {
  modelId: MODEL,
  modelName: MODEL,
  manifest: randomManifest(TINY_SHAPE, undefined),
  source: device('a', profile(1)),
  peers: [device('b', undefined)],
  apart: [],
  relayed: false,
  links: [
    { from: 'a', to: 'b', ...link },
    { from: 'b', to: 'a', ...link }
  ],
  promptTokens: 4,
  newTokens: 8,
  room: { slots: 1, maxTokens: 12 },
  batch: 1,
  cloud: undefined,
  objective: 'latency',
  privacy: 'prompt'
}
const three: PlanningRequest = {
  ...request,
  peers: [device('b', undefined), device('c', undefined)],
  links: [
    { from: 'a', to: 'b', ...link },
    { from: 'b', to: 'a', ...link },
    { from: 'c', to: 'a', ...link, mbps: 24 },
    { from: 'b', to: 'c', ...link }
  ],
  apart: [['b', 'c']]
}
const STAGES = [
  { device: 'a', layers: [0, 3] as const },
  { device: 'b', layers: [3, 5] as const }
]
// 8 Mbps are a byte a microsecond; half of the round trip is each way.
const HIDDEN_MS = (TINY_SHAPE.hiddenSize * 4) / 1000
const TOKEN_MS = 8 / 1000
const LATENCY_MS = 5 + FRAME_BYTES / 1000

test('what attention costs comes with a profile, corrected like its other times; older records have none', () => {
  const attends: LayerProfile = {
    ...profile(1),
    decoder: {
      ...profile(1).decoder!,
      decodeMsByContext: { 32: 1, 1024: 2 },
      prefillMsPerTokenByContext: { 16: 0.5, 1040: 1 }
    }
  }
  const snapshot = snapshotScenario({
    ...request,
    cachedTokens: 5,
    source: device('a', attends),
    peers: [device('b', profile(1))],
    corrections: {
      computeFactors: () => ({ single: 3, batched: 5 }),
      turnsMs: () => ({ single: 0, batched: 0, whole: 0 }),
      hopOverheadMs: 0
    }
  })
  expect(snapshot.workload.cachedTokens).toBe(5)
  expect(snapshot.profiles.a!.decoder).toMatchObject({
    decodeMs: 3,
    decodeMsByContext: { 32: 3, 1024: 6 },
    prefillMsPerTokenByContext: { 16: 1.5, 1040: 3 }
  })
  expect(Object.keys(snapshot.profiles.b!.decoder!)).not.toContain('decodeMsByContext')
})

test('what stages take beside layers is what devices have timed; of one that has not, what the source has', () => {
  const turning = (peerId: string, turns?: { turnMs: number; sharedTurnMs: number }): Candidate => {
    const { record, ...rest } = device(peerId, profile(1))
    return { ...rest, record: { ...record, stageTimes: turns && { ...turns, startMs: 40 } } }
  }
  const source = turning('a', { turnMs: 0.4, sharedTurnMs: 0.1 })
  const hostile = turning('d', { turnMs: 1e6, sharedTurnMs: 0 })
  const peers = [turning('b', { turnMs: 3, sharedTurnMs: 2 }), turning('c'), hostile]
  const turnsOf = (objective: 'latency' | 'throughput') =>
    snapshotScenario({ ...request, objective, source, peers }).devices.map(({ turnMs }) => turnMs)
  expect(turnsOf('latency')).toEqual([0.4, 3, 0.4, 20])
  expect(turnsOf('throughput')).toEqual([0.1, 2, 0.1, 0.025])
  const corrections = new Corrections(() => 0)
  const learned = snapshotScenario({ ...request, source, peers, corrections })
  expect(learned.devices.map(({ turnMs }) => turnMs)).toEqual([0.4, 3, 0.4, 20])
})

test('of a device whose GPU and CPU both compute, what stages take beside layers is kept by the one that is used', () => {
  const b = device('b', profile(1))
  const processors = [
    { kind: 'cpu', name: 'a processor', used: false, memory: b.record.memory, profiles: b.record.profiles },
    { kind: 'gpu', name: 'a card', used: true }
  ]
  const asked: unknown[] = []
  const corrections = {
    hopOverheadMs: 0,
    computeFactors: () => ({ single: 1, batched: 1 }),
    turnsMs: ({
      peerId,
      processor,
      borrowed
    }: {
      peerId: string
      processor?: string | undefined
      borrowed: boolean
    }) => {
      asked.push([peerId, processor, borrowed])
      return { single: 0, batched: 0, whole: 0 }
    }
  }
  const both = { ...b, record: { ...b.record, processors } }
  snapshotScenario({ ...request, peers: [both], corrections })
  expect(asked).toEqual([
    ['a', undefined, false],
    ['b', 'gpu', false]
  ])
})

test('tokens of answers keep a source that is held to a share with each step, and no other device', () => {
  const turning = (peerId: string): Candidate => {
    const { record, ...rest } = device(peerId, profile(1))
    const stageTimes = { turnMs: 0.5, sharedTurnMs: 0, startMs: 0, tokenMs: 5 }
    return { ...rest, record: { ...record, stageTimes } }
  }
  const devices = { source: turning('a'), peers: [turning('b')] }
  const problem = parseScenario(snapshotScenario({ ...request, ...devices, objective: 'throughput' }))
  const alone = [{ device: 'a', layers: [0, 5] as const }]
  const tokenMs = (batch: number, microBatches: number) =>
    1000 / predictRate(problem, alone, { batch, microBatches })!
  expect(tokenMs(1, 1)).toBeCloseTo(0.01 + 5 + 3 * 1 + 2)
  expect(tokenMs(3, 3)).toBeCloseTo(0.01 + 5 + 3 * 1 + 2)
  // Layers are what answers measure by themselves.
  const { stages } = predict(parseScenario(snapshotScenario({ ...request, ...devices })), STAGES)!
  expect(stages.map(({ computeMs }) => computeMs)).toEqual([expect.closeTo(0.01 + 2), expect.closeTo(1 + 2)])
  expect(stages.map(({ waitMs }) => waitMs)).toEqual([5.5, 0.5])
})

test('frames keep a device that is held to a share beside each of several stages, and none with all layers', () => {
  const turning = (peerId: string): Candidate => {
    const { record, ...rest } = device(peerId, profile(1))
    const stageTimes = { turnMs: 0, sharedTurnMs: 0.5, startMs: 0, frameMs: 4 }
    return { ...rest, record: { ...record, stageTimes } }
  }
  const scenario = (objective: 'latency' | 'throughput') =>
    snapshotScenario({ ...request, source: turning('a'), peers: [turning('b')], objective })
  const waits = (stages: readonly { device: string; layers: readonly [number, number] }[]) =>
    predict(parseScenario(scenario('throughput')), stages)!.stages.map(({ waitMs }) => waitMs)
  expect(waits(STAGES)).toEqual([4.5, 4.5])
  expect(waits([{ device: 'a', layers: [0, 5] }])).toEqual([0.5])
  // One step at a time leaves devices time for them.
  expect(scenario('latency').devices.map(({ frameMs }) => frameMs)).toEqual([0, 0])
})

test('several stages take what answers have taught of several, where all layers at once take more beside them, too', () => {
  const corrections = {
    hopOverheadMs: 0,
    computeFactors: () => ({ single: 1, batched: 1 }),
    turnsMs: () => ({ single: 0, batched: 2.5, whole: 6 })
  }
  const scenario = snapshotScenario({ ...request, corrections, objective: 'throughput' })
  const problem = parseScenario(JSON.parse(JSON.stringify(scenario)))
  const waits = (stages: readonly { device: string; layers: readonly [number, number] }[]) =>
    predict(problem, stages)!.stages.map(({ waitMs }) => waitMs)
  expect(waits(STAGES)).toEqual([2.5, 2.5])
  expect(waits([{ device: 'a', layers: [0, 5] }])).toEqual([6])
})

test('a prompt takes what its chunks take, and the head one row of it', () => {
  const short = { ...profile(1).decoder!, prefillMsPerToken: 0.25, prefillMsByTokens: { 8: 4, 32: 8 } }
  const source = device('a', { ...profile(1), decoder: short })
  const { ttftMs } = predict(parseScenario(snapshotScenario({ ...request, source })), [
    { device: 'a', layers: [0, 5] }
  ])!
  // Four tokens lie between the one of a step and the eight of a short prompt.
  const decoderMs = 1 + (3 * (4 - 1)) / 7
  expect(ttftMs).toBeCloseTo(4 * 0.01 + 3 * decoderMs + 2)
})

describe('a prediction from a snapshot', () => {
  test('has every stage and hop, which add up to the time of a token', () => {
    const parts = predict(parseScenario(snapshotScenario(request)), STAGES)!
    expect(parts.stages.map(({ computeMs }) => computeMs)).toEqual([
      expect.closeTo(0.01 + 2 * 1),
      expect.closeTo(1 + 2)
    ])
    expect(parts.linksMs).toEqual([
      expect.closeTo(HIDDEN_MS + LATENCY_MS + HOP_OVERHEAD_MS),
      expect.closeTo(TOKEN_MS + LATENCY_MS + HOP_OVERHEAD_MS)
    ])
    const all = [...parts.stages.map(({ computeMs }) => computeMs), ...parts.linksMs]
    expect(parts.tpotMs).toBeCloseTo(all.reduce((sum, ms) => sum + ms))
  })

  test('takes what answers have taught: a factor a device and model, its turn, and the hop', () => {
    const asked: unknown[] = []
    const corrections = {
      hopOverheadMs: 2,
      computeFactors: (timed: { peerId: string }) => {
        asked.push(timed)
        return timed.peerId === 'b' ? { single: 3, batched: 2 } : { single: 1, batched: 1 }
      },
      turnsMs: (timed: { peerId: string }) =>
        timed.peerId === 'b' ? { single: 0.7, batched: 4, whole: 3 } : { single: 0, batched: 0, whole: 0 }
    }
    const scenario = snapshotScenario({ ...request, corrections })
    const parts = predict(parseScenario(scenario), STAGES)!
    expect(parts.stages.map(({ computeMs }) => computeMs)).toEqual([
      expect.closeTo(2.01),
      expect.closeTo(3 * (1 + 2))
    ])
    expect(parts.stages.map(({ waitMs = 0 }) => waitMs)).toEqual([0, 0.7])
    const many = snapshotScenario({ ...request, objective: 'throughput', corrections })
    expect(many.devices[1]).toMatchObject({ turnMs: 3, frameMs: 1 })
    expect(parts.linksMs[1]).toBeCloseTo(TOKEN_MS + LATENCY_MS + 2)
    expect(scenario.profiles.b!.decoder!.decodeMsByBatch).toEqual({ 1: 3, 4: 4 })
    expect(asked.slice(0, 2)).toEqual([
      { peerId: 'a', modelId: MODEL, borrowed: false, exact: false },
      { peerId: 'b', modelId: MODEL, borrowed: true, exact: false }
    ])
  })

  test('is the planner’s own for the plan that it chooses', () => {
    const problem = parseScenario(snapshotScenario(request))
    const chosen = plan(problem, { explain: false })
    if (!chosen.feasible) throw new Error(chosen.reason)
    expect(predict(problem, chosen.stages)).toEqual({
      ttftMs: chosen.predicted.ttftMs,
      tpotMs: chosen.predicted.tpotMs,
      stages: chosen.predicted.stages,
      linksMs: chosen.predicted.linksMs
    })
  })

  test('one stage has no hops, a tail on the source no return, and a device that left no prediction', () => {
    const problem = parseScenario(snapshotScenario(request))
    expect(predict(problem, [{ device: 'a', layers: [0, 5] }])!.linksMs).toEqual([])
    const loop = [
      STAGES[0]!,
      { device: 'b', layers: [3, 4] as const },
      { device: 'a', layers: [4, 5] as const }
    ]
    expect(predict(problem, loop)!.linksMs[2]).toBe(0)
    expect(predict(problem, loop)!.linksMs[1]).toBeCloseTo(HIDDEN_MS + LATENCY_MS + HOP_OVERHEAD_MS)
    expect(predict(problem, [STAGES[0]!, { device: 'gone', layers: [3, 5] }])).toBeUndefined()
  })
})

test('devices that are not connected have no link, though one of them says it has measured one', () => {
  const { links } = parseScenario(snapshotScenario(three))
  expect([links[1]![2]!.mbps, links[2]![1]!.mbps]).toEqual([0, 0])
  expect(links[0]![1]!.mbps).toBe(8)
  const gone = parseScenario(snapshotScenario({ ...three, apart: [['b', 'x']] }))
  expect(gone.links[1]![2]!.mbps).toBe(8)
})

test('a link of the source has the round trip that its heartbeats take, where a measurement found a longer one', () => {
  const peers = [{ ...device('b', undefined), rttMs: 4 }, device('c', undefined)]
  const delays = (rttMs: number) => {
    const links = three.links.map(each => ({ ...each, rttMs }))
    return parseScenario(snapshotScenario({ ...three, apart: [], peers, links })).links
  }
  const fixedMs = FRAME_BYTES / 1000 + HOP_OVERHEAD_MS
  const slow = delays(30)
  expect(slow[0]![1]!.delayMs).toBeCloseTo(2 + fixedMs)
  expect(slow[1]![0]!.delayMs).toBeCloseTo(2 + fixedMs)
  // Of two peers this node has no heartbeats.
  expect(slow[1]![2]!.delayMs).toBeCloseTo(15 + fixedMs)
  expect(delays(3)[0]![1]!.delayMs).toBeCloseTo(1.5 + fixedMs)
})

test('through the source a link is its two hops, one after the other', () => {
  const { links } = parseScenario(snapshotScenario({ ...three, relayed: true }))
  const [way, back] = [links[1]![2]!, links[2]![1]!]
  // From a to c only the round trip is known, so its speed is assumed.
  expect(way.mbps).toBeCloseTo(1 / (1 / 8 + 1 / ASSUMED_LINK_MBPS))
  expect(back.mbps).toBeCloseTo(6)
  expect(back.delayMs).toBeCloseTo(links[2]![0]!.delayMs + links[0]![1]!.delayMs)
})

test('layers of several blocks have times, weights and memory of their own', () => {
  const [block] = TINY_SHAPE.blocks
  const wide = {
    ...block!,
    attention: { ...block!.attention, kvHeads: 4 },
    feedForward: { ...block!.feedForward, size: 192 }
  }
  const manifest = randomManifest({ ...TINY_SHAPE, blocks: [block!, wide], layout: [0, 1] }, undefined)
  const own = { ...profile(1), 'decoder-1': { decodeMs: 5, prefillMsPerToken: 3 } }
  const { model, profiles } = snapshotScenario({
    ...request,
    manifest,
    source: device('a', own),
    // A device of an older version has timed the first block only.
    peers: [device('b', profile(2)), device('c', undefined)]
  })
  const { layers } = model
  expect(layers.map(({ kind }) => kind)).toEqual(['embedding', 'decoder', 'decoder-1', 'decoder', 'head'])
  expect(layers.map(({ kvBytesPerToken }) => kvBytesPerToken)).toEqual([0, 256, 512, 256, 0])
  expect(layers[2]!.weightBytes).toBeGreaterThan(layers[1]!.weightBytes)
  expect(['a', 'b', 'c'].map(id => profiles[id]!['decoder-1']!.decodeMs)).toEqual([5, 2, 5])
})

test.each([
  { mbps: 1e-300, rttMs: 1e9 },
  { mbps: 1e7, rttMs: 1e9 }
])('whatever peers say of their links ($mbps Mbps, $rttMs ms) is a scenario', said => {
  const links = three.links.map(each => ({ ...each, ...said }))
  for (const relayed of [false, true]) {
    const { links: parsed } = parseScenario(snapshotScenario({ ...three, links, relayed }))
    for (const { mbps, delayMs } of parsed.flat()) expect(Number.isFinite(mbps + delayMs)).toBe(true)
  }
})

test('a layer with a window counts no more than it keeps, whatever the context', () => {
  const windowed = { ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, window: 8 } }
  const shape = { ...TINY_SHAPE, blocks: [windowed, LLAMA_BLOCK], layout: [0, 1], contextLength: 4096 }
  const room = { slots: 2, maxTokens: 2000 }
  const manifest = randomManifest(shape, undefined)
  const { model } = snapshotScenario({ ...request, manifest, room })
  const kv = model.layers.map(({ kvBytesPerToken = 0 }) => kvBytesPerToken * 2 * 2001)
  expect(kv[2]).toBe(kvCacheBytes(shape, [2, 3], room))
  expect(kv[1]).toBeCloseTo(kvCacheBytes(shape, [1, 2], room), 3)
  expect(kv[1]).toBeLessThan(kv[2]! / 5)
})

test('guesses of a draft are in the workload, priced by what one reads, and in what is predicted', () => {
  const { manifest } = request
  const draftBytes = weightBytes(manifest) / 10
  const guessed = snapshotScenario({ ...request, guesses: { acceptance: 0.8, draftBytes } })
  const wholeMs = 0.01 + TINY_SHAPE.decoderLayers * 1 + 2
  expect(guessed.workload.speculation).toEqual({ acceptance: 0.8, draftMs: expect.closeTo(wholeMs / 10) })
  const predicted = predict(parseScenario(guessed), STAGES)!
  expect(predicted.speculatedTpotMs).toBeLessThan(predicted.tpotMs)
  expect(snapshotScenario(request).workload.speculation).toBeUndefined()
})

test.each(Object.entries(SHAPES))('what a plan counts of layers is what their leases cost: %s', (_, own) => {
  const shape = { ...TINY_SHAPE, ...own, contextLength: 4096 }
  const manifest = randomManifest(shape, undefined)
  for (const objective of ['latency', 'throughput'] as const) {
    for (const maxTokens of [100, 1000]) {
      const room = { slots: 4, maxTokens }
      const batch = objective === 'latency' ? 1 : 4
      const scenario = snapshotScenario({ ...request, manifest, objective, room, batch })
      const { layers } = parseScenario(scenario)
      for (const [start, end] of [
        [0, 1],
        [1, 3],
        [2, 5]
      ] as const) {
        const counted = layers
          .slice(start, end)
          .reduce((sum, { weightBytes, kvBytesPerToken, stateBytes }) => {
            return (
              sum + weightBytes + batch * (kvBytesPerToken * scenario.workload.contextTokens! + stateBytes)
            )
          }, 0)
        const { weightBytes, ownBytes } = leaseBytes(manifest, [start, end], room)
        const working = workingBytes(manifest, [start, end], room)
        expect(counted, `${objective} [${start}, ${end})`).toBeCloseTo(weightBytes + ownBytes - working, 2)
        expect(working).toBeLessThanOrEqual(workingBytes(manifest, [0, 5], room))
      }
    }
  }
})

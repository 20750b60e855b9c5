import { describe, expect, test } from 'vitest'
import { HOP_OVERHEAD_MS } from '../../../../node/constants.ts'
import {
  Corrections,
  type Observation,
  type ObservedStage
} from '../../../../node/source/placement/corrections.ts'
import type { Settled, SettledTimes } from '../../../../node/source/placement/settled-times.ts'

const MODEL = 'model'
const profile = { decoder: { decodeMs: 1, prefillMsPerToken: 0.25 } }
const a: ObservedStage = { peerId: 'a', modelId: MODEL, borrowed: false, own: true, profile }
const b: ObservedStage = { peerId: 'b', modelId: MODEL, borrowed: false, own: false, profile }
const MINUTE_MS = 60_000
const SHORT = { computeMs: 0.1, waitMs: 0 }

/**
 * Two stages over two hops, as the lab measured them: b takes `slow` times its profile, each stage `turnMs` beside that, a hop
 * `hopMs` beyond the wire.
 */
function answer({
  slow = 1,
  turnMs = 0.1,
  hopMs = HOP_OVERHEAD_MS,
  steps = 39,
  sequences = 1
} = {}): Observation {
  const wireMs = [1.3, 0.9]
  const stepMs = 1.2 + 2 * slow + 2 * turnMs + wireMs[0]! + wireMs[1]! + 2 * hopMs
  return {
    stages: [a, b],
    expected: {
      stages: [{ computeMs: 1.2 }, { computeMs: 2 }],
      linksMs: wireMs.map(ms => ms + HOP_OVERHEAD_MS)
    },
    batch: Math.round(sequences),
    measured: {
      steps,
      sequences,
      contextTokens: 60,
      stepMs,
      doubted: 0,
      doubt: undefined,
      stages: [
        { computeMs: 1.2, waitMs: turnMs },
        { computeMs: 2 * slow, waitMs: turnMs }
      ],
      // The clocks of the two devices are 250 ms apart.
      linksMs: [wireMs[0]! + hopMs - 250, wireMs[1]! + hopMs + 250]
    }
  }
}

function corrections(...answers: Observation[]): Corrections {
  const corrections = new Corrections(() => 0)
  for (const observed of answers) corrections.observe(observed)
  return corrections
}

describe('corrections', () => {
  test('are the constants before anything was measured', () => {
    const { hopOverheadMs } = corrections()
    expect(hopOverheadMs).toBe(HOP_OVERHEAD_MS)
    expect(corrections().computeFactors(b).single).toBe(1)
  })

  test('follow what answers agree on', () => {
    const learned = corrections(
      ...Array.from({ length: 3 }, () => answer({ slow: 4, turnMs: 1.5, hopMs: 0.7 }))
    )
    expect(learned.computeFactors(b).single).toBeCloseTo(4)
    expect(learned.computeFactors(a).single).toBeCloseTo(1)
    expect(learned.turnsMs(a).single).toBeCloseTo(1.5)
    expect(learned.turnsMs(b).single).toBeCloseTo(1.5)
    expect(learned.hopOverheadMs).toBeCloseTo(0.7)
  })

  test('what a stage waits beyond any turn counts as computing, which grows with its layers', () => {
    const learned = corrections(...Array.from({ length: 3 }, () => answer({ turnMs: 120 })))
    expect(learned.turnsMs(b).single).toBe(20)
    expect(learned.computeFactors(b).single).toBeCloseTo((2 + 100) / 2)
  })

  test('steps that follow each other wait for the device that is busiest, which is what it takes beside its layers', () => {
    // Three under way: b computes 6 ms of every 10, and takes the other 4 for itself; a waits for nobody.
    const { measured, ...rest } = answer()
    const stages = [
      { computeMs: 1.2, waitMs: 0.5 },
      { computeMs: 6, waitMs: 17 }
    ]
    const shared = { ...rest, measured: { ...measured, stages, stepMs: 30, underWay: 3 } }
    const learned = corrections(shared, shared, shared)
    expect(learned.turnsMs(b).batched).toBeCloseTo(4)
    expect(learned.turnsMs(a).batched).toBeCloseTo(0.5)
    expect(learned.computeFactors(b).batched).toBeCloseTo(3)
    // It is no slowness of a step alone, and no hop.
    expect(learned.computeFactors(b).single).toBe(1)
    expect(learned.turnsMs(b).single).toBe(0)
    expect(learned.hopOverheadMs).toBe(HOP_OVERHEAD_MS)
    // Some steps waited for prompts of others.
    const usual = { ...shared, measured: { ...shared.measured, usualWaitsMs: [0.3, 1] } }
    const calm = corrections(usual, usual, usual)
    expect([calm.turnsMs(a).batched, calm.turnsMs(b).batched]).toEqual([
      expect.closeTo(0.3),
      expect.closeTo(1)
    ])
    // Now alone and now not it says nothing.
    const mixed = { ...rest, measured: { ...measured, stages, stepMs: 30, underWay: 1.3 } }
    expect(corrections(mixed, mixed, mixed).turnsMs(b)).toEqual({ single: 0, batched: 0, whole: 0 })
  })

  test('believe no stage that rests that its device is much faster than in the long run', () => {
    const resting = (slow: number) => ({ ...answer({ slow }), stages: [a, { ...b, rests: true }] })
    const factorOf = (observed: Observation) =>
      corrections(observed, observed, observed).computeFactors(b).single
    expect(factorOf(answer({ slow: 0.3 }))).toBeCloseTo(0.3)
    expect(factorOf(resting(0.3))).toBe(0.8)
    expect(factorOf(resting(3))).toBeCloseTo(3)
  })

  test('learn what a stage with all layers takes beside them apart from what one of several takes, whose frames pass', () => {
    const said = { turnMs: 0.3, sharedTurnMs: 0.2, frameMs: 1.5 }
    expect(corrections().turnsMs(a, profile, said)).toMatchObject({ batched: 1.7, whole: 0.2 })
    const { expected, measured, ...rest } = answer({ sequences: 4 })
    const alone = {
      ...rest,
      stages: [a],
      expected: { stages: expected.stages.slice(0, 1), linksMs: [] },
      measured: { ...measured, stages: [{ computeMs: 1.2, waitMs: 0.4 }], linksMs: [], stepMs: 1.6 }
    }
    const learned = corrections(alone, alone, alone)
    expect(learned.turnsMs(a, profile, said)).toMatchObject({ batched: 1.7, whole: expect.closeTo(0.4) })
    const several = answer({ sequences: 4, turnMs: 2 })
    for (let i = 0; i < 3; i++) learned.observe(several)
    expect(learned.turnsMs(a, profile, said)).toMatchObject({
      batched: expect.closeTo(2),
      whole: expect.closeTo(0.4)
    })
  })

  test('that found one of several stages to take less than a device says leave one with all layers no more', () => {
    const said = { turnMs: 3, sharedTurnMs: 3, frameMs: 1 }
    const several = answer({ sequences: 4, turnMs: 2 })
    const learned = corrections(several, several, several)
    expect(learned.turnsMs(a, profile, said)).toMatchObject({
      batched: expect.closeTo(2),
      whole: expect.closeTo(2)
    })
  })

  test('begin where earlier answers settled, and tell what they settle on', () => {
    const times = {
      single: 1.5,
      batched: 1.2,
      singleTurnMs: 3,
      batchedTurnMs: 6,
      wholeTurnMs: 5,
      share: 0.75
    }
    const told: Settled[][] = []
    const settled: SettledTimes = {
      of: (_, asked) => (asked === profile ? times : undefined),
      hopOverheadMs: 0.9,
      usualTurnsMs: { alone: 2, shared: 5 },
      settle: devices => void told.push([...devices]),
      loadFactorOf: () => undefined,
      settleLoad: () => {}
    }
    const learned = new Corrections(() => 0, settled)
    expect(learned.computeFactors(b, profile)).toEqual({ single: 1.5, batched: 1.2 })
    expect(learned.turnsMs(b, profile)).toEqual({ single: 3, batched: 6, whole: 5 })
    // What is left of old turns is filled up with what the device says.
    const said = { turnMs: 2, sharedTurnMs: 4, frameMs: 8 }
    expect(learned.turnsMs(b, profile, said)).toEqual({ single: 3.5, batched: 9, whole: 6 })
    expect(learned.computeFactors(b, {})).toEqual({ single: 1, batched: 1 })
    // Of a device that nothing is kept of, what is of the others.
    expect(learned.turnsMs({ ...b, peerId: 'c' })).toEqual({ single: 2, batched: 5, whole: 5 })
    expect(learned.hopOverheadMs).toBe(0.9)
    for (let i = 0; i < 3; i++) learned.observe(answer({ slow: 4 }))
    expect(learned.computeFactors(b, profile).single).toBeCloseTo(4)
    expect(told.at(-1)?.map(({ timed }) => timed.peerId)).toEqual(['a', 'b'])
    expect(told.at(-1)?.[1]?.times.single).toBeCloseTo(4)
  })

  test('settle after a single answer on what a device has timed of itself, which stays', () => {
    const turns = { turnMs: 0.5, sharedTurnMs: 0.2 }
    const told: Settled[][] = []
    const settled: SettledTimes = {
      of: () => undefined,
      hopOverheadMs: undefined,
      usualTurnsMs: undefined,
      settle: devices => void told.push([...devices]),
      loadFactorOf: () => undefined,
      settleLoad: () => {}
    }
    const learned = new Corrections(() => 0, settled)
    learned.observe({ ...answer({ turnMs: 3 }), stages: [a, { ...b, turns }] })
    expect(told[0]![1]!.times).toMatchObject({ singleTurnMs: 0.5, batchedTurnMs: 0.2 })
  })

  test('take a device that no answer has taught for one like the others, in what a stage takes beside its layers', () => {
    const c = { ...b, peerId: 'c' }
    expect(corrections().turnsMs(c)).toEqual({ single: 0, batched: 0, whole: 0 })
    // A single answer moves nothing.
    expect(corrections(answer({ turnMs: 3 })).turnsMs(c)).toEqual({ single: 0, batched: 0, whole: 0 })
    const alone = Array.from({ length: 3 }, () => answer({ turnMs: 3 }))
    const learned = corrections(...alone)
    expect(learned.turnsMs(c)).toEqual({
      single: expect.closeTo(3),
      batched: expect.closeTo(3),
      whole: expect.closeTo(3)
    })
    // Its layers are its own matter, and what it takes itself is known soon enough.
    expect(learned.computeFactors(c).single).toBe(1)
    for (let i = 0; i < 3; i++) learned.observe({ ...answer({ turnMs: 1 }), stages: [a, c] })
    expect(learned.turnsMs(c).single).toBeCloseTo(1)
    expect(learned.turnsMs(b).single).toBeCloseTo(3)
  })

  test('take what a device has timed of itself, until answers teach what it takes', () => {
    const said = { turnMs: 0.5, sharedTurnMs: 0.2 }
    const c = { ...b, peerId: 'c' }
    expect(corrections().turnsMs(c, profile, said)).toEqual({ single: 0.5, batched: 0.2, whole: 0.2 })
    const learned = corrections(...Array.from({ length: 3 }, () => answer({ turnMs: 3 })))
    // Of others it says less than it does of itself.
    expect(learned.turnsMs(c, profile, said)).toEqual({ single: 0.5, batched: 0.2, whole: 0.2 })
    expect(learned.turnsMs(b, profile, said).single).toBeCloseTo(3)
  })

  test('of lone exact answers are those of others, and a little more, until some were seen', () => {
    const exactly = (each: ObservedStage) => ({ ...each, exact: true })
    const exact = (slow: number) => {
      const { stages, ...rest } = answer({ slow })
      return { ...rest, stages: (stages as ObservedStage[]).map(exactly) }
    }
    expect(corrections().computeFactors(exactly(b)).single).toBeCloseTo(1.24)
    const plain = corrections(answer({ slow: 2 }), answer({ slow: 2 }), answer({ slow: 2 }))
    expect(plain.computeFactors(b).single).toBeCloseTo(2)
    expect(plain.computeFactors(exactly(b)).single).toBeCloseTo(2 * 1.24)
    for (let i = 0; i < 5; i++) plain.observe(exact(3))
    expect(plain.computeFactors(exactly(b)).single).toBeCloseTo(3)
    // Five exact ones have not pushed the others out.
    expect(plain.computeFactors(b).single).toBeCloseTo(2)
    expect(plain.measuredFactor(b)).toBeCloseTo(2)
    const only = corrections(exact(3), exact(3), exact(3))
    expect(only.computeFactors(b).single).toBeCloseTo(3 / 1.24)
    expect(only.measuredFactor(b)).toBeCloseTo(3 / 1.24)
    expect(only.profileOf(b)).toBe(profile)
    // A batch is computed by the same kernels.
    expect(plain.computeFactors(exactly(b)).batched).toBe(plain.computeFactors(b).batched)
  })

  test('are no other model’s, and none of times that a peer published since', () => {
    const learned = corrections(...Array.from({ length: 3 }, () => answer({ slow: 4 })))
    expect(learned.computeFactors({ ...b, modelId: 'other' }).single).toBe(1)
    expect(learned.computeFactors({ ...b, borrowed: true }).single).toBe(1)
  })

  test('a single answer moves nothing, the first or any other', () => {
    const outlier = answer({ slow: 50, hopMs: 40 })
    for (const before of [0, 1, 2, 3, 5]) {
      const learned = corrections(...Array.from({ length: before }, () => answer()), outlier)
      expect(learned.computeFactors(b).single).toBeCloseTo(1)
      expect(learned.hopOverheadMs).toBeCloseTo(HOP_OVERHEAD_MS)
    }
  })

  test('stay within their bounds', () => {
    const slow = corrections(...Array.from({ length: 5 }, () => answer({ slow: 1e6, hopMs: 1e6 })))
    expect(slow.computeFactors(b).single).toBe(1000)
    expect(slow.hopOverheadMs).toBe(10)
    const fast = corrections(...Array.from({ length: 5 }, () => answer({ slow: 0, hopMs: -1e6 })))
    expect(fast.computeFactors(b).single).toBe(0.01)
    expect(fast.hopOverheadMs).toBe(0)
  })

  test('answers of a few steps, of steps now shared and now not, or of other stages do not count', () => {
    const twoStages = answer({ slow: 4 })
    const oneStage = { ...twoStages, stages: [a] }
    const learned = corrections(
      ...Array.from({ length: 5 }, () => [
        answer({ slow: 4, steps: 7 }),
        answer({ slow: 4, sequences: 1.4 }),
        oneStage
      ]).flat()
    )
    expect(learned.computeFactors(b).single).toBe(1)
  })

  test('steps of several sequences are corrected apart, by their computing alone, and say nothing of hops', () => {
    const learned = corrections(
      ...Array.from({ length: 3 }, () => answer({ slow: 4, hopMs: 9, sequences: 2.6 }))
    )
    expect(learned.computeFactors(b).single).toBe(1)
    expect(learned.computeFactors(b).batched).toBeCloseTo(4)
    expect(learned.hopOverheadMs).toBe(HOP_OVERHEAD_MS)
    // Until some were seen they are as much slower as single ones.
    const single = corrections(...Array.from({ length: 3 }, () => answer({ slow: 4 })))
    expect(single.computeFactors(b).batched).toBeCloseTo(4)
  })

  test('one stage says nothing of hops, and no profile nothing of a device', () => {
    const alone: Observation = {
      stages: [a],
      expected: { stages: [{ computeMs: 0 }], linksMs: [] },
      measured: {
        steps: 39,
        sequences: 1,
        contextTokens: 60,
        stepMs: 2.1,
        doubted: 0,
        doubt: undefined,
        stages: [{ computeMs: 2, waitMs: 0.1 }],
        linksMs: []
      },
      batch: 1
    }
    const learned = corrections(alone, alone, alone)
    expect(learned.computeFactors(a).single).toBe(1)
    expect(learned.hopOverheadMs).toBe(HOP_OVERHEAD_MS)
  })

  test('two stages of one device are corrected together', () => {
    const { measured, expected } = answer()
    const learned = corrections(
      ...Array.from({ length: 3 }, () => ({ stages: [a, a], measured, expected: { ...expected }, batch: 1 }))
    )
    expect(learned.computeFactors(a).single).toBeCloseTo((1.2 + 2) / (1.2 + 2))
  })

  test('a batch teaches how much slower a device is, and hardly how much faster', () => {
    const boast = corrections(
      ...Array.from({ length: 3 }, () => answer({ slow: 2 })),
      ...Array.from({ length: 3 }, () => answer({ slow: 0.01, sequences: 2 }))
    )
    expect(boast.computeFactors(b)).toEqual({
      single: expect.closeTo(2),
      batched: expect.closeTo(1)
    })
  })

  test('the times that factors are of stay those of the first answer, as long as one counts', () => {
    let nowMs = 0
    const learned = new Corrections(() => nowMs)
    expect(learned.profileOf(b)).toBeUndefined()
    expect(learned.measuredFactor(b)).toBeUndefined()
    const boast = { decoder: { decodeMs: 0.001, prefillMsPerToken: 0.001 } }
    const since = { ...answer({ slow: 4 }), stages: [a, { ...b, profile: boast }] }
    for (const observed of [answer({ slow: 4 }), since, since]) learned.observe(observed)
    expect(learned.profileOf(b)).toBe(profile)
    expect(learned.measuredFactor(b)).toBeCloseTo(4)
    nowMs = 11 * MINUTE_MS
    expect(learned.profileOf(b)).toBeUndefined()
    expect(learned.measuredFactor(b)).toBeUndefined()
    learned.observe(since)
    expect(learned.profileOf(b)).toBe(boast)
  })

  describe('of a device that takes 60 ms a step', () => {
    const honest = answer({ slow: 30 })
    const c: ObservedStage = { ...b, peerId: 'c' }
    const thrice = (observed: Observation) => corrections(observed, observed, observed)

    test('and says that it is the network, are what a network does not explain', () => {
      const { measured, ...rest } = honest
      const stages = [measured.stages[0]!, { computeMs: 0.1, waitMs: 0 }]
      const linksMs = [measured.linksMs[0]! + 59.9, measured.linksMs[1]!]
      const learned = thrice({ ...rest, measured: { ...measured, stages, linksMs } })
      expect(learned.hopOverheadMs).toBe(10)
      // All but 10 ms for each of two hops.
      expect(learned.computeFactors(b).single).toBeCloseTo((60.1 - 2 * (10 - HOP_OVERHEAD_MS)) / 2)
      expect(learned.computeFactors(a).single).toBeCloseTo(1)
    })

    test('and says nothing that can be true, are what its steps took', () => {
      const { measured, ...rest } = honest
      const nothing = { ...measured, steps: 0, stages: [], linksMs: [], doubted: 39, doubt: 'a reason' }
      const learned = thrice({ ...rest, measured: nothing })
      expect(learned.computeFactors(b).single).toBeCloseTo((60.2 - 2 * (10 - HOP_OVERHEAD_MS)) / 2)
      // Of this node and of hops such steps say nothing.
      expect(learned.computeFactors(a).single).toBe(1)
      expect(learned.hopOverheadMs).toBe(HOP_OVERHEAD_MS)
      // Nor do those of several sequences of anybody.
      const shared = { ...rest, batch: 2, measured: { ...nothing, sequences: 2 } }
      expect(thrice(shared).computeFactors(b).batched).toBe(1)
    })

    test('are shared among the peers, as nobody knows whose it is', () => {
      const { measured, expected } = honest
      const learned = thrice({
        stages: [a, b, c],
        expected: { stages: [...expected.stages, { computeMs: 2 }], linksMs: [...expected.linksMs, 1] },
        measured: { ...measured, stepMs: 100, stages: [...measured.stages.slice(0, 1), SHORT, SHORT] },
        batch: 1
      })
      expect(learned.computeFactors(b).single).toBeGreaterThan(10)
      expect(learned.computeFactors(c).single).toBe(learned.computeFactors(b).single)
      expect(learned.computeFactors(a).single).toBeCloseTo(1)
    })
  })

  test('of guesses sent ahead the waiting for each other is not taken for slowness', () => {
    const { measured, ...rest } = answer()
    const waiting = measured.stages.map(({ computeMs }) => ({ computeMs, waitMs: 10 * computeMs }))
    const guessed = {
      ...rest,
      measured: { ...measured, stages: waiting, stepMs: 10 * measured.stepMs },
      guessed: true
    }
    const learned = corrections(guessed, guessed, guessed)
    expect(learned.computeFactors(b).single).toBeCloseTo(1)
    expect(learned.hopOverheadMs).toBe(HOP_OVERHEAD_MS)
  })

  test('what is old does not count any more', () => {
    let nowMs = 0
    const learned = new Corrections(() => nowMs)
    for (let i = 0; i < 5; i++) learned.observe(answer({ slow: 4 }))
    nowMs = 9 * MINUTE_MS
    expect(learned.computeFactors(b).single).toBeCloseTo(4)
    nowMs = 11 * MINUTE_MS
    expect(learned.computeFactors(b).single).toBe(1)
  })
})

test('each processor of a device has a factor of its own, and what stays inside a device is no hop', () => {
  const corrections = new Corrections(() => 0)
  const gpu = { ...b, processor: 'gpu' }
  const cpu = { ...b, processor: 'cpu' }
  const linksMs = [2, 0.001, 2]
  const stages = [1, 1, 1].map(computeMs => ({ computeMs }))
  const took = [1, 2, 3].map(computeMs => ({ computeMs, waitMs: 0 }))
  const observation: Observation = {
    stages: [a, gpu, cpu],
    expected: { stages, linksMs },
    batch: 1,
    measured: {
      ...{ steps: 39, sequences: 1, contextTokens: 60, doubted: 0, doubt: undefined },
      stages: took,
      linksMs,
      // Two hops, each half a millisecond longer than expected.
      stepMs: 6 + 4.001 + 1
    }
  }
  for (let i = 0; i < 3; i++) corrections.observe(observation)
  expect(corrections.computeFactors(gpu).single).toBeCloseTo(2)
  expect(corrections.computeFactors(cpu).single).toBeCloseTo(3)
  expect(corrections.computeFactors(b).single).toBe(1)
  expect(corrections.hopOverheadMs).toBeCloseTo(HOP_OVERHEAD_MS + 0.5)
})

import { describe, expect, test } from 'vitest'
import { HOP_OVERHEAD_MS } from '../../../../node/constants.ts'
import { Corrections, type Observation, type Timed } from '../../../../node/source/placement/corrections.ts'

const MODEL = 'model'
const a: Timed = { peerId: 'a', modelId: MODEL, borrowed: false }
const b: Timed = { peerId: 'b', modelId: MODEL, borrowed: false }
const MINUTE_MS = 60_000

/** Two stages over two hops, as the lab measured them: b takes `slow` times its profile, a hop `hopMs` beyond the wire. */
function answer({ slow = 1, hopMs = HOP_OVERHEAD_MS, steps = 39, sequences = 1 } = {}): Observation {
  const wireMs = [1.3, 0.9]
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
      stages: [
        { computeMs: 1.1, waitMs: 0.1 },
        { computeMs: 1.9 * slow, waitMs: 0.1 * slow }
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
    const learned = corrections(...Array.from({ length: 3 }, () => answer({ slow: 4, hopMs: 0.7 })))
    expect(learned.computeFactors(b).single).toBeCloseTo(4)
    expect(learned.computeFactors(a).single).toBeCloseTo(1)
    expect(learned.hopOverheadMs).toBeCloseTo(0.7)
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
    expect(slow.computeFactors(b).single).toBe(20)
    expect(slow.hopOverheadMs).toBe(50)
    const fast = corrections(...Array.from({ length: 5 }, () => answer({ slow: 0, hopMs: -1e6 })))
    expect(fast.computeFactors(b).single).toBe(0.1)
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
    expect(learned.computeFactors(b).batched).toBeCloseTo((4 * 1.9) / 2)
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

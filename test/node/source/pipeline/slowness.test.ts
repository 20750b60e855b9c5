import { describe, expect, test } from 'vitest'
import { Slowness } from '../../../../node/source/pipeline/slowness.ts'

/** How far the second device's clock is off: differences of its times with others' mean nothing. */
const CLOCK_MS = -5_000

interface Phase {
  count: number
  computeMs: [number, number]
  wayMs?: number
  backMs?: number
  sequences?: number
  contextTokens?: number
}

/** Steps over two stages, on the clock of each: computing, and the way between them. */
function play(slowness: Slowness, ...phases: Phase[]) {
  return phases.flatMap(
    ({ count, computeMs: [first, second], wayMs = 1, backMs = 1, sequences = 1, contextTokens = 100 }) =>
      Array.from({ length: count }).flatMap(() => {
        const rows = Array(sequences).fill({ position: contextTokens })
        const sentAtMs = 1e6 + first
        const arrivedAtMs = sentAtMs + wayMs
        // Its turn came later than it arrived.
        const backAtMs = arrivedAtMs + second + 500
        const timings = [
          { arrivedAtMs: 1e6, sentAtMs, computeMs: first },
          { arrivedAtMs: arrivedAtMs + CLOCK_MS, sentAtMs: backAtMs + CLOCK_MS, computeMs: second }
        ]
        return slowness.add(timings, backAtMs + backMs, rows) ?? []
      })
  )
}

test('a stage that computes ten times slower from some token on is named', () => {
  const found = play(new Slowness(), { count: 24, computeMs: [8, 10] }, { count: 36, computeMs: [8, 110] })
  expect(found[0]).toMatchObject({ stage: 1, way: false })
  expect(found[0]?.recentMs).toBeCloseTo(120, 0)
})

test('a link that turns slow is the stage behind it', () => {
  const found = play(
    new Slowness(),
    { count: 24, computeMs: [8, 10] },
    { count: 36, computeMs: [8, 10], wayMs: 200 }
  )
  expect(found[0]).toMatchObject({ stage: 1, way: true })
})

test('a token that comes back late is the way to the source', () => {
  const steady = { count: 24, computeMs: [8, 10] as [number, number] }
  const found = play(new Slowness(), steady, { ...steady, count: 36, backMs: 200 })
  expect(found[0]).toMatchObject({ stage: 0, way: true })
})

test('the source itself is seen, too', () => {
  const found = play(new Slowness(), { count: 24, computeMs: [8, 10] }, { count: 36, computeMs: [300, 10] })
  expect(found[0]).toMatchObject({ stage: 0, way: false })
})

const STEADY: Phase = { count: 24, computeMs: [8, 10] }

test.each<[string, Phase[]]>([
  ['steady steps', [STEADY, STEADY]],
  ['one hiccup', [STEADY, { count: 1, computeMs: [8, 300] }, STEADY]],
  ['a pause of a second', [STEADY, { count: 2, computeMs: [8, 1000] }, STEADY]],
  ['twice the time', [STEADY, { count: 36, computeMs: [16, 24] }]],
  [
    'tiny steps that are all jitter',
    [
      { count: 24, computeMs: [0.2, 0.3] },
      { count: 36, computeMs: [2, 8] }
    ]
  ]
])('%s are no slow stage', (_, phases) => {
  expect(play(new Slowness(), ...phases)).toEqual([])
})

test('steps that more sessions share are compared with each other', () => {
  const slowness = new Slowness()
  const shared = { computeMs: [40, 60] as [number, number], sequences: 8 }
  expect(play(slowness, STEADY, { ...shared, count: 48 }, STEADY)).toEqual([])
  const found = play(slowness, { ...shared, count: 36, computeMs: [40, 600] })
  expect(found[0]).toMatchObject({ stage: 1 })
})

describe('a context that grows', () => {
  /** Attention takes all of the time, and the context doubles again and again. */
  const growing: Phase[] = [100, 500, 1000, 2000, 4000, 8000, 16_000].map(contextTokens => ({
    count: 36,
    computeMs: [8, (contextTokens * 10) / 100],
    contextTokens
  }))

  test('makes no stage slow', () => {
    expect(play(new Slowness(), ...growing)).toEqual([])
    // The next answer begins deep in a conversation.
    expect(play(new Slowness(), growing[0]!, growing.at(-1)!)).toEqual([])
  })

  test('hides no stage that turns slow within it, nor one that was slow from its first step on', () => {
    const last = growing.at(-1)!
    const slow = (contextTokens: number): Phase => ({ count: 36, computeMs: [8, 16_000], contextTokens })
    expect(play(new Slowness(), ...growing, slow(last.contextTokens!))[0]).toMatchObject({ stage: 1 })
    expect(play(new Slowness(), ...growing.slice(0, 3), slow(4000))[0]).toMatchObject({ stage: 1 })
  })
})

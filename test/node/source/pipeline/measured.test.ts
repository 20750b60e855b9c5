import { expect, test } from 'vitest'
import { MeasuredSteps } from '../../../../node/source/pipeline/measured.ts'

const T = 1_790_000_000_000
/** Two stages whose clocks are 5 s apart. */
const step = (atMs: number, waitMs: number) => [
  { arrivedAtMs: atMs, sentAtMs: atMs + 2 + waitMs, computeMs: 2 },
  { arrivedAtMs: atMs + 5000, sentAtMs: atMs + 5003, computeMs: 3 }
]

test('means over steps; the links’ sum is right whatever the clocks say', () => {
  const measured = new MeasuredSteps()
  measured.add(step(T, 0), T + 8, 1, 100)
  measured.add(step(T + 8, 1), T + 16, 2, 103)
  const { steps, sequences, contextTokens, stages, linksMs } = measured.means
  expect({ steps, sequences, contextTokens }).toEqual({ steps: 2, sequences: 1.5, contextTokens: 101.5 })
  expect(stages).toEqual([
    { computeMs: 2, waitMs: 0.5 },
    { computeMs: 3, waitMs: 0 }
  ])
  expect(linksMs[0]! + linksMs[1]!).toBeCloseTo(8 - 2.5 - 3)
})

test('nothing measured is nothing, and one stage has no links', () => {
  const measured = new MeasuredSteps()
  expect(measured.means).toEqual({ steps: 0, sequences: 0, contextTokens: 0, stages: [], linksMs: [] })
  measured.add([{ arrivedAtMs: T, sentAtMs: T + 4, computeMs: 4 }], T + 4, 3, 7)
  expect(measured.means).toEqual({
    steps: 1,
    sequences: 3,
    contextTokens: 7,
    stages: [{ computeMs: 4, waitMs: 0 }],
    linksMs: []
  })
})

test('steps that cannot be true are left out of the means, but not out of the time that passed', () => {
  const measured = new MeasuredSteps()
  measured.add(step(T, 0), T + 8, 1, 100)
  const before = measured.means
  measured.doubt(40, 1, 'a reason')
  // A step of other stages than those before.
  measured.add([{ arrivedAtMs: T, sentAtMs: T + 1, computeMs: 1 }], T + 12, 1, 101)
  expect(measured.means).toEqual(before)
  expect(measured.observed).toEqual({
    ...before,
    underWay: 1,
    stepMs: (8 + 40 + 12) / 3,
    doubted: 2,
    doubt: 'a reason',
    usualWaitsMs: [0, 0]
  })
})

test('what stages usually take beside their layers is that of most of the last steps, whatever some waited for', () => {
  const measured = new MeasuredSteps()
  expect(measured.observed.usualWaitsMs).toEqual([])
  for (const waitMs of [1, 50, 0.5, 2, 0.6]) measured.add(step(T, waitMs), T + 60, 4, 100)
  expect(measured.observed.usualWaitsMs![0]).toBeCloseTo(1, 3)
  expect(measured.means.stages[0]!.waitMs).toBeCloseTo(54.1 / 5, 3)
  for (let i = 0; i < 128; i++) measured.add(step(T, 3), T + 60, 4, 100)
  expect(measured.observed.usualWaitsMs).toEqual([3, 0])
})

test('how many steps were under way at once is a mean over those that are not doubted', () => {
  const measured = new MeasuredSteps()
  expect(measured.observed.underWay).toBe(1)
  measured.add(step(T, 0), T + 8, 1, 100, 3)
  measured.add(step(T + 8, 0), T + 16, 1, 101, 2)
  measured.doubt(40, 1, 'a reason')
  expect(measured.observed.underWay).toBe(2.5)
})

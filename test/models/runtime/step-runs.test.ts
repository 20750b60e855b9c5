import { expect, test } from 'vitest'
import { cutParts, planRuns } from '../../../models/runtime/step-runs.ts'

const part = (tokens: number, exact = false, draws = 1) => ({ position: 0, tokens, draws, exact })
const LIMITS = { lanes: 4, draws: 8 }
const lanesOf = (...args: Parameters<typeof planRuns>) => planRuns(...args).map(({ lanes }) => lanes)

test('single tokens share a lane, whatever has more tokens or has to be exact gets one of its own', () => {
  expect(lanesOf([part(1), part(1), part(1)], LIMITS)).toEqual([[[0, 1, 2]]])
  expect(lanesOf([part(5), part(1), part(2), part(1)], LIMITS)).toEqual([[[1, 3], [0], [2]]])
  expect(lanesOf([part(1, true), part(1), part(1, true), part(1)], LIMITS)).toEqual([[[1, 3], [0], [2]]])
})

test('a run ends where its lanes are used up, or the rows that the head may compute', () => {
  const exact = Array.from({ length: 6 }, () => part(1, true))
  expect(lanesOf(exact, LIMITS)).toEqual([
    [[0], [1], [2], [3]],
    [[4], [5]]
  ])
  expect(lanesOf(exact, { lanes: 1, draws: 8 })).toEqual([0, 1, 2, 3, 4, 5].map(i => [[i]]))
  expect(planRuns([part(6, true, 5), part(4, true, 4), part(3, true, 3)], LIMITS)).toEqual([
    { lanes: [[0]], draws: 5 },
    { lanes: [[1], [2]], draws: 7 }
  ])
})

test('a part with more tokens than a run may have is cut, its draws and its mask behind the same tokens', () => {
  const mask = Uint8Array.of(1)
  const cut = cutParts(
    [
      { position: 3, tokens: 1, draws: 1, row: 0 },
      { position: 10, tokens: 7, draws: 5, row: 1, mask }
    ],
    3
  )
  expect(cut).toEqual([
    [
      { position: 3, tokens: 1, draws: 1, row: 0 },
      { position: 10, tokens: 3, draws: 1, row: 1 }
    ],
    [{ position: 13, tokens: 3, draws: 3, row: 4 }],
    [{ position: 16, tokens: 1, draws: 1, row: 7, mask }]
  ])
})

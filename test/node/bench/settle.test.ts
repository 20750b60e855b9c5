import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { settle } from '../../../node/bench/round.ts'
import type { BenchApi } from '../../../node/bench/types.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Rounds that each ran on the next of some placements, and how many were taken. */
async function settled(placements: readonly string[], rounds: number): Promise<number> {
  let asked = 0
  const api = {
    async *generate() {
      yield { type: 'done', result: { tokens: [] } } as unknown as GenerateEvent
    }
  } as unknown as BenchApi
  const placementOf = async () => placements[Math.min(asked++, placements.length - 1)]!
  const taking = settle(
    api,
    [{ input: { kind: 'raw', text: '' } }],
    { rounds, placementOf },
    new AbortController().signal
  )
  await vi.runAllTimersAsync()
  return await taking
}

test('it is settled where three rounds in a row ran on one placement', async () => {
  expect(await settled(['a'], 10)).toBe(3)
  expect(await settled(['a', 'b', 'b', 'a', 'a', 'a', 'b'], 10)).toBe(6)
})

test('it goes on for no more rounds than it may', async () => {
  expect(await settled(['a', 'b', 'a', 'b', 'a', 'b'], 4)).toBe(4)
  expect(await settled(['a'], 0)).toBe(0)
})

import { expect, it } from 'vitest'
import { ReplyHistory } from '../../../models/runtime/reply-history.ts'
import { prng } from '../../fixtures/prng.ts'

/** How often each is among the last `window` of them. */
function plainCounts(reply: readonly number[], window: number): [number, number][] {
  const counts = new Map<number, number>()
  for (const id of window === 0 ? [] : reply.slice(-window)) counts.set(id, (counts.get(id) ?? 0) + 1)
  return [...counts].sort(([a], [b]) => a - b)
}

const sorted = (counts: ReadonlyMap<number, number>) => [...counts].sort(([a], [b]) => a - b)

it.each([0, 1, 5, 1000])('counts the last %i tokens, wherever the source goes back to', window => {
  const random = prng(3 + window)
  for (let round = 0; round < 40; round++) {
    const promptTokens = 1 + Math.floor(random() * 9)
    const reply = Array.from({ length: Math.floor(random() * 12) }, () => Math.floor(random() * 6))
    const known = reply.length
    // No more is told than counts.
    const lastIds = window === 0 ? [] : reply.slice(-window)
    const history = new ReplyHistory({ promptTokens, knownTokens: known, lastIds }, window)
    for (let step = 0; step < 60; step++) {
      const backwards = random() < 0.2
      if (backwards) reply.length = known + Math.floor(random() * (reply.length - known + 1))
      const position = promptTokens + reply.length - 1
      expect(history.lengthAt(position)).toBe(reply.length)
      expect(sorted(history.countsAt(position))).toEqual(plainCounts(reply, window))
      const id = Math.floor(random() * 6)
      history.drawn(position, id)
      reply.push(id)
    }
  }
})

it('what is drawn in the place of a known token, or within the prompt, changes nothing', () => {
  const known = [4, 4, 9, 2]
  const history = new ReplyHistory({ promptTokens: 3, knownTokens: 4, lastIds: known }, 3)
  // As tokens of an answer are drawn again to check them, in any order.
  for (const position of [0, 1, 2, 3, 5, 4, 2]) {
    const reply = known.slice(0, Math.max(0, history.lengthAt(position)))
    expect(sorted(history.countsAt(position))).toEqual(plainCounts(reply, 3))
    history.drawn(position, 7)
  }
  expect(sorted(history.countsAt(6))).toEqual(plainCounts(known, 3))
})

it('tokens that nobody told of, where a source leaves some out, count as none', () => {
  const history = new ReplyHistory({ promptTokens: 1, knownTokens: 5, lastIds: [8] }, 4)
  expect(sorted(history.countsAt(2))).toEqual([])
  history.drawn(9, 3)
  expect(sorted(history.countsAt(10))).toEqual([[3, 1]])
  expect(sorted(history.countsAt(5))).toEqual([[8, 1]])
})

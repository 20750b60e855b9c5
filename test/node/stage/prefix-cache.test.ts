import { expect, test } from 'vitest'
import { kvBytes } from '../../../models/runtime/memory.ts'
import type { SavedTokens } from '../../../models/runtime/saved-tokens.ts'
import { PrefixCache } from '../../../node/stage/prefix-cache.ts'
import { STATEFUL, TINY_SHAPE } from '../../fixtures/random-model.ts'

const saved = (tokens: number): SavedTokens => ({ tokens, parts: [] })
const RANGE = { shape: TINY_SHAPE, range: [0, 5] as [number, number], frameTokens: 32 }
const bytesOf = (tokens: number) => kvBytes(TINY_SHAPE, RANGE.range, tokens)

/** A cache for so many tokens, and what two leases have of it. */
function cacheFor(tokens: number) {
  const cache = new PrefixCache({ bytes: bytesOf(tokens) })
  return { cache, a: cache.of('a', RANGE)!, b: cache.of('b', RANGE)! }
}

test('never holds more than it may, and gives up what was not used for the longest time', async () => {
  const { cache, a, b } = cacheFor(300)
  for (const [lease, key] of [
    [a, 0],
    [b, 0],
    [a, 1]
  ] as const) {
    expect(lease.makeRoom({ key, tokens: 100 })).toBe(true)
    expect(lease.put(key, saved(100))).toBe(true)
  }
  expect(cache.heldBytes).toBe(bytesOf(300))
  await a.get(0)
  expect(b.makeRoom({ key: 1, tokens: 150 })).toBe(true)
  expect(cache.heldBytes).toBeLessThanOrEqual(bytesOf(300))
  expect(await a.get(0)).toEqual(saved(100))
  for (const gone of [b.get(0), a.get(1)]) await expect(gone).rejects.toThrow('has made room')
  // What is being taken out of its slot cannot be had yet.
  await expect(b.get(1)).rejects.toThrow('has made room')
})

test('says what it holds, and what has come of what it was asked for', async () => {
  const { cache, a } = cacheFor(100)
  a.makeRoom({ key: 0, tokens: 60 })
  a.put(0, saved(60))
  a.makeRoom({ key: 1, tokens: 10 })
  a.put(1, undefined)
  await a.get(0)
  await a.get(0)
  await expect(a.get(1)).rejects.toThrow('has made room')
  expect(cache.state).toEqual({
    budgetBytes: bytesOf(100),
    heldBytes: bytesOf(60),
    fileBytes: 0,
    stored: 1,
    asked: { memory: 2, file: 0, gone: 1 }
  })
})

test('what is larger than all of it makes nothing else go', async () => {
  const { a, b } = cacheFor(100)
  a.makeRoom({ key: 0, tokens: 100 })
  a.put(0, saved(100))
  expect(b.makeRoom({ key: 0, tokens: 2 ** 24 })).toBe(false)
  expect(await a.get(0)).toEqual(saved(100))
})

test('a number that is used again has what came last, or nothing where that could not be taken out', async () => {
  const { cache, a } = cacheFor(100)
  for (const tokens of [40, 60]) {
    a.makeRoom({ key: 7, tokens })
    a.put(7, saved(tokens))
  }
  expect([await a.get(7), cache.heldBytes]).toEqual([saved(60), bytesOf(60)])
  a.makeRoom({ key: 7, tokens: 10 })
  expect([a.put(7, undefined), cache.heldBytes]).toEqual([false, 0])
  await expect(a.get(7)).rejects.toThrow('has made room')
})

test('a lease finds nothing of another one, and leaves nothing behind', async () => {
  const { cache, a, b } = cacheFor(100)
  a.makeRoom({ key: 3, tokens: 50 })
  a.put(3, saved(50))
  await expect(b.get(3)).rejects.toThrow('has made room')
  b.close()
  expect(await a.get(3)).toEqual(saved(50))
  a.close()
  expect(cache.heldBytes).toBe(0)
  expect(a.put(3, saved(50))).toBe(false)
})

test('keeps nothing of a model with states, nor where it has no memory', () => {
  const { cache } = cacheFor(100)
  expect(cache.of('a', { ...RANGE, shape: { ...TINY_SHAPE, ...STATEFUL } })).toBeUndefined()
  expect(new PrefixCache({ bytes: 0 }).of('a', RANGE)).toBeUndefined()
})

import { expect, test } from 'vitest'
import { KvSlots } from '../../../../node/source/pipeline/kv-slots.ts'

const SCOPE = 'chat-1'
const PROMPT = [1, 2, 3, 4]
const ANSWER = [5, 6]
/** The next turn of the conversation, as its client sends it. */
const NEXT = [...PROMPT, ...ANSWER, 7, 8]

const request = (scope: string, prompt: readonly number[], known: readonly number[] = []) => ({
  scope,
  prompt,
  known
})

function cached(slots = new KvSlots(2, 2)): KvSlots {
  const { slot } = slots.take(request(SCOPE, PROMPT))!
  slots.giveBack(slot, { scope: SCOPE, tokens: [...PROMPT, ...ANSWER], cachedTokens: 5 })
  return slots
}

test('the next turn of a conversation goes on from its KV cache', () => {
  expect(cached().take(request(SCOPE, NEXT))).toEqual({ slot: 0, keepTokens: 5, intactFrom: 0 })
})

test.each([
  ['another client', request('chat-2', NEXT)],
  ['the same prompt again', request(SCOPE, PROMPT)],
  ['a prompt that begins like it', request(SCOPE, [1, 2, 3, 9, 9, 9, 9, 9])],
  ['the whole prompt with another answer', request(SCOPE, [...PROMPT, 5, 9, 7, 8])]
])('%s finds no cache: hitting one would tell what somebody else has asked', (_, request) => {
  const taken = cached().take(request)!
  expect(taken.keepTokens).toBe(0)
  // A slot that holds nothing is taken first.
  expect(taken.slot).toBe(1)
})

test('what was computed to the bit serves all, what was not serves none that is to be', () => {
  const exact = { ...request(SCOPE, NEXT), exact: true }
  expect(cached().take(exact)?.keepTokens).toBe(0)
  const slots = new KvSlots(2, 2)
  const { slot } = slots.take({ ...request(SCOPE, PROMPT), exact: true })!
  slots.giveBack(slot, { scope: SCOPE, exact: true, tokens: [...PROMPT, ...ANSWER], cachedTokens: 5 })
  expect(slots.take(exact)?.keepTokens).toBe(5)
})

test('a cache is used once: its slot is another conversation from then on', () => {
  const slots = cached()
  expect(slots.take(request(SCOPE, NEXT))?.keepTokens).toBe(5)
  expect(slots.take(request(SCOPE, NEXT))).toEqual({ slot: 1, keepTokens: 0, intactFrom: 0 })
  expect(slots.take(request(SCOPE, NEXT))).toBeUndefined()
})

test('the cache that was used longest ago makes room', () => {
  const slots = new KvSlots(3, 3)
  const held = [0, 1, 2].map(i => slots.take(request(`${i}`, [i]))!)
  for (const i of [1, 2, 0]) {
    slots.giveBack(held[i]!.slot, { scope: `${i}`, tokens: [i, 9], cachedTokens: 1 })
  }
  expect(slots.take(request('new', [7]))?.slot).toBe(held[1]!.slot)
  expect(slots.take(request('2', [2, 9, 9]))).toEqual({ slot: held[2]!.slot, keepTokens: 1, intactFrom: 0 })
})

test('sessions of a micro-batch are neighbours where that costs nobody a cache, and else before the oldest one goes', () => {
  const slots = new KvSlots(8, 8)
  const take = (scope: string) => slots.take(request(scope, [1]))!.slot
  const held = Array.from({ length: 8 }, (_, i) => take(`${i}`))
  const giveBack = (slot: number) =>
    slots.giveBack(slot, { scope: `${slot}`, tokens: [1, 9], cachedTokens: 1 })
  for (const slot of [0, 1, 7, 3, 6]) giveBack(held[slot]!)
  // 2, 4 and 5 are taken: 3 lies between them, and what is next to them makes the step longer by one slot.
  expect([take('a'), take('b'), take('c')]).toEqual([3, 1, 0])
  slots.giveBack(4)
  expect(take('d')).toBe(4)
})

test('sessions spread over the micro-batches, so that none waits for a larger one', () => {
  const slots = new KvSlots(6, 2)
  const taken = Array.from({ length: 6 }, () => slots.take(request('', [1]))!.slot)
  expect(taken.slice(0, 3).map(slot => Math.floor(slot / 2))).toEqual([0, 1, 2])
  expect([...taken].sort()).toEqual([0, 1, 2, 3, 4, 5])
  expect(slots.free).toBe(0)
  slots.giveBack(3)
  expect(slots.take(request('', [1]))).toEqual({ slot: 3, keepTokens: 0, intactFrom: 0 })
})

test('an answer that was cut off goes on from the cache of what is known of it', () => {
  expect(cached().take(request(SCOPE, PROMPT, ANSWER))).toEqual({ slot: 0, keepTokens: 5, intactFrom: 0 })
  const slots = new KvSlots(1, 1)
  slots.take(request(SCOPE, PROMPT))
  slots.giveBack(0, { scope: SCOPE, tokens: [...PROMPT, ...ANSWER], cachedTokens: 6 })
  // The last token is fed again, for the next one to be drawn.
  expect(slots.take(request(SCOPE, PROMPT, ANSWER))?.keepTokens).toBe(5)
})

test('where a stage was lost, only those behind it have kept their part', () => {
  const slots = cached()
  slots.lost(1, 4)
  expect(slots.take(request(SCOPE, NEXT))).toEqual({ slot: 0, keepTokens: 5, intactFrom: 2 })
  slots.giveBack(0, { scope: SCOPE, tokens: NEXT, cachedTokens: NEXT.length })
  // What was computed since is whole.
  expect(slots.take(request(SCOPE, [...NEXT, 9]))?.intactFrom).toBe(0)
})

test('a cache of which no stage has kept a part is none', () => {
  const slots = cached()
  slots.lost(1, 4)
  slots.lost(3, 4)
  expect(slots.take(request(SCOPE, NEXT))).toEqual({ slot: 0, keepTokens: 0, intactFrom: 0 })
})

test('what is pooled finds no cache, whatever it is called: all of its tokens have to be computed', () => {
  const pooled = { ...request(SCOPE, NEXT), pooling: 'mean' as const }
  expect(cached().take(pooled)).toEqual({ slot: 1, keepTokens: 0, intactFrom: 0 })
})

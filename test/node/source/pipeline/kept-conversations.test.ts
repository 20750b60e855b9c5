import { expect, test } from 'vitest'
import { KeptConversations } from '../../../../node/source/pipeline/kept-conversations.ts'
import { KvSlots } from '../../../../node/source/pipeline/kv-slots.ts'
import { MAX_KEPT_PREFIXES } from '../../../../protocols/lease/constants.ts'

const promptOf = (kind: number, tokens = 100, common = 0): number[] =>
  Array.from({ length: tokens }, (_, i) => (i < common ? i : 1000 * kind + i))

const request = (scope: string, prompt: readonly number[]) => ({ scope, prompt, known: [] })

/** Answers a prompt in the only slot, which then holds it. */
function answer(slots: KvSlots, scope: string, prompt: number[]) {
  const taken = slots.take(request(scope, prompt))!
  slots.giveBack(taken.slot, {
    scope,
    tokens: [...prompt, 7, 8],
    promptTokens: prompt.length,
    cachedTokens: prompt.length + 1
  })
  return taken
}

test('what another prompt takes the slot of is stored, and found again by who it is of', () => {
  const slots = new KvSlots(1, 1)
  answer(slots, 'one', promptOf(1))
  const { store } = answer(slots, 'two', promptOf(2))
  expect(store).toMatchObject({ key: 0, conversation: { scope: 'one', cachedTokens: 101 } })
  // Nobody has said yet that it is stored.
  expect(slots.held(request('one', promptOf(1)))).toBe(0)
  slots.stored(store!, true)
  expect(slots.held(request('one', [...promptOf(1), 7, 8, 9]))).toBe(101)
  for (const scope of ['two', '', 'three']) expect(slots.held(request(scope, promptOf(1)))).toBe(0)
  const back = slots.take(request('one', [...promptOf(1), 7, 8, 9]))!
  expect(back).toMatchObject({ slot: 0, keepTokens: 101, intactFrom: 0, restore: 0, store: { key: 1 } })
})

test('who has named nothing finds it by what is said in full alone', () => {
  const slots = new KvSlots(1, 1)
  answer(slots, '', promptOf(1))
  slots.stored(answer(slots, 'two', promptOf(2)).store!, true)
  expect(slots.held(request('', promptOf(1)))).toBe(0)
  expect(slots.held(request('', [...promptOf(1), 7, 8, 9]))).toBe(101)
})

test('what goes on in its slot, is short, or is whole on no stage is not stored', () => {
  const slots = new KvSlots(1, 1)
  answer(slots, 'one', promptOf(1))
  expect(answer(slots, 'one', [...promptOf(1), 7, 8, 9]).store).toBeUndefined()
  const short = new KvSlots(1, 1)
  answer(short, 'one', promptOf(1, 20))
  expect(answer(short, 'two', promptOf(2)).store).toBeUndefined()
  const lost = new KvSlots(1, 1)
  answer(lost, 'one', promptOf(1))
  lost.lost(0, 2)
  expect(answer(lost, 'two', promptOf(2)).store).toBeUndefined()
})

test('a stage that never stores is asked once; one that takes its place is asked again, and has nothing', () => {
  const slots = new KvSlots(1, 1)
  answer(slots, 'one', promptOf(1))
  slots.stored(answer(slots, 'two', promptOf(2)).store!, undefined)
  expect(answer(slots, 'three', promptOf(3)).store).toBeUndefined()
  slots.lost(0, 1)
  answer(slots, 'four', promptOf(4))
  const { store } = answer(slots, 'five', promptOf(5))
  slots.stored(store!, true)
  expect(slots.held(request('four', promptOf(4)))).toBe(96)
  slots.lost(0, 1)
  expect(slots.held(request('four', promptOf(4)))).toBe(0)
})

test('what a stage has given up is computed anew', () => {
  const slots = new KvSlots(1, 1)
  answer(slots, 'one', promptOf(1))
  slots.stored(answer(slots, 'two', promptOf(2)).store!, true)
  slots.forget(0)
  expect(slots.take(request('one', promptOf(1)))).toMatchObject({ keepTokens: 0 })
})

test('a conversation takes the number of what it goes on from, else one that is free, else the oldest one', () => {
  const kept = new KeptConversations()
  const conversation = (scope: string, length: number) => ({
    scope,
    tokens: Array.from({ length }, (_, i) => i),
    cachedTokens: length
  })
  const keep = (scope: string, length: number) => {
    const key = kept.begin(conversation(scope, length))!
    kept.end(key, conversation(scope, length))
    return key
  }
  expect([keep('a', 100), keep('b', 100), keep('a', 120), keep('a', 90)]).toEqual([0, 1, 0, 2])
  for (let i = 3; i < MAX_KEPT_PREFIXES; i++) keep(`${i}`, 100)
  kept.touch(1)
  expect(keep('new', 100)).toBe(0)
  expect(keep('newer', 100)).toBe(2)
  expect(kept.entries.length).toBe(MAX_KEPT_PREFIXES)
})

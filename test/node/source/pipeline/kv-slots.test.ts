import { expect, test } from 'vitest'
import { LLAMA_BLOCK } from '../../../../models/import/architectures/architecture.ts'
import { cutsOf } from '../../../../node/source/pipeline/dropped-tokens.ts'
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
  slots.giveBack(slot, { scope: SCOPE, tokens: [...PROMPT, ...ANSWER], promptTokens: 4, cachedTokens: 5 })
  return slots
}

test('the next turn of a conversation goes on from its KV cache', () => {
  expect(cached().take(request(SCOPE, NEXT))).toEqual({ slot: 0, keepTokens: 5, intactFrom: 0 })
})

/** A prompt of so many tokens that begins with `common` ones which are everybody's. */
const promptOf = (kind: number, tokens: number, common = 0): number[] =>
  Array.from({ length: tokens }, (_, i) => (i < common ? i : 1000 * kind + i))

/** Slots of which the first ones hold such prompts, answered with one token that was fed back. */
function holding(held: { scope?: string; prompt: number[]; exact?: boolean }[], slots = 4): KvSlots {
  const kvSlots = new KvSlots(slots, slots)
  const taken = held.map(({ scope = SCOPE, prompt, exact = false }) => {
    const { slot } = kvSlots.take({ ...request(scope, prompt), exact })!
    const promptTokens = prompt.length
    const conversation = {
      scope,
      exact,
      tokens: [...prompt, 7, 8],
      promptTokens,
      cachedTokens: promptTokens + 1
    }
    return { slot, conversation }
  })
  for (const { slot, conversation } of taken) kvSlots.giveBack(slot, conversation)
  return kvSlots
}

test.each([
  ['another client', request('chat-2', NEXT)],
  ['one that names nothing', request('', NEXT)],
  ['another prompt of its own', request(SCOPE, [9, 2, 3, 4, 5, 6, 7, 8])]
])('%s finds no cache: hitting one would tell what somebody else has asked', (_, request) => {
  const taken = cached().take(request)!
  expect(taken.keepTokens).toBe(0)
  // A slot that holds nothing is taken first.
  expect(taken.slot).toBe(1)
})

test.each([
  ['the same prompt again', PROMPT],
  ['a prompt that begins like it', [1, 2, 3, 9, 9, 9, 9, 9]],
  ['the whole prompt with another answer', [...PROMPT, 5, 9, 7, 8]]
])('who has named nothing hits by what is said in full alone, not by %s', (_, prompt) => {
  const slots = new KvSlots(2, 2)
  const { slot } = slots.take(request('', PROMPT))!
  slots.giveBack(slot, { scope: '', tokens: [...PROMPT, ...ANSWER], promptTokens: 4, cachedTokens: 5 })
  expect(slots.take(request('', prompt))).toEqual({ slot: 1, keepTokens: 0, intactFrom: 0 })
  expect(slots.take(request('', NEXT))?.keepTokens).toBe(5)
})

const LONG = promptOf(1, 100)

test.each([
  ['the same prompt again, for another answer', LONG, 99],
  ['its last message edited', [...LONG.slice(0, 90), ...promptOf(2, 30)], 90],
  ['another question behind the same instructions', [...LONG.slice(0, 70), ...promptOf(2, 30)], 70],
  ['an answer of which a part came back otherwise', [...LONG, 7, 5, 5], 101],
  ['a next turn behind an answer that was cut', [...LONG, 9, 9], 100]
])('within one scope it goes on from where the prompts part: %s', (_, prompt, common) => {
  // The step that has the last common token among others goes in again as a whole, for it would round otherwise.
  const keepTokens = common >= 100 ? common : 32 * Math.floor(common / 32)
  expect(holding([{ prompt: LONG }]).take(request(SCOPE, prompt))).toEqual({
    slot: 0,
    keepTokens,
    intactFrom: 0
  })
  const exact = holding([{ prompt: LONG, exact: true }])
  expect(exact.take({ ...request(SCOPE, prompt), exact: true })?.keepTokens).toBe(common)
})

test('a cut falls between two steps of whichever turn computed what is there', () => {
  const slots = holding([{ prompt: LONG }], 1)
  // 101 tokens are cached; the next turn's chunks begin there.
  const next = [...LONG, 7, 8, ...promptOf(2, 98)]
  expect(slots.take(request(SCOPE, next))?.keepTokens).toBe(101)
  slots.giveBack(0, { scope: SCOPE, tokens: next, promptTokens: 200, cachedTokens: 200 })
  expect(slots.take(request(SCOPE, next.slice(0, 150)))?.keepTokens).toBe(133)
  // What the one before kept of it was computed as ever, and nothing is behind it.
  slots.giveBack(0, { scope: SCOPE, tokens: next.slice(0, 150), promptTokens: 150, cachedTokens: 150 })
  expect(slots.take(request(SCOPE, next))?.keepTokens).toBe(150)
  slots.giveBack(0, { scope: SCOPE, tokens: next, promptTokens: 200, cachedTokens: 200 })
  expect(slots.take(request(SCOPE, next.slice(0, 100)))?.keepTokens).toBe(96)
})

test('the longest common beginning is gone on from, and of equal ones what has the least to lose', () => {
  const held = () =>
    holding([
      { prompt: promptOf(1, 64) },
      { prompt: promptOf(1, 128) },
      { prompt: [...promptOf(1, 128), 5, 5] }
    ])
  expect(held().take(request(SCOPE, [...promptOf(1, 128), 4]))).toEqual({
    slot: 1,
    keepTokens: 128,
    intactFrom: 0
  })
  expect(held().take(request(SCOPE, promptOf(1, 97)))).toMatchObject({ slot: 1, keepTokens: 96 })
  expect(held().take(request(SCOPE, promptOf(1, 70)))).toMatchObject({ slot: 0, keepTokens: 64 })
})

const NONE_RUNNING = new Map()

test('where more would be forgotten than is kept it is copied, and what is copied from stays', () => {
  const slots = holding([{ prompt: promptOf(1, 400, 100) }])
  const other = promptOf(2, 150, 100)
  const taken = { slot: 1, keepTokens: 96, intactFrom: 0, copyFrom: 0 }
  expect(slots.take(request(SCOPE, other), NONE_RUNNING)).toEqual(taken)
  // Cut between two steps of those that were copied.
  slots.giveBack(1, { scope: SCOPE, tokens: other, promptTokens: 150, cachedTokens: 150 })
  expect(slots.take(request(SCOPE, promptOf(2, 140, 100)), NONE_RUNNING)).toMatchObject({
    slot: 1,
    keepTokens: 128
  })
  expect(slots.take(request(SCOPE, [...promptOf(1, 400, 100), 7, 9]), NONE_RUNNING)).toMatchObject({
    slot: 0,
    keepTokens: 401
  })
})

test('what a session of the same scope has by now is copied while it runs', () => {
  const slots = new KvSlots(4, 4)
  const prompt = promptOf(1, 200)
  slots.take(request(SCOPE, prompt))
  const running = new Map([[0, { scope: SCOPE, tokens: prompt, promptTokens: 200, cachedTokens: 160 }]])
  const copied = { slot: 1, keepTokens: 160, intactFrom: 0, copyFrom: 0 }
  expect(slots.take(request(SCOPE, prompt), running)).toEqual(copied)
  const fresh = { keepTokens: 0, intactFrom: 0 }
  expect(slots.take(request('chat-2', prompt), running)).toEqual({ slot: 2, ...fresh })
  const nameless = new Map([[0, { ...running.get(0)!, scope: '' }]])
  expect(slots.take(request('', prompt), nameless)).toEqual({ slot: 3, ...fresh })
  expect(slots.take(request(SCOPE, prompt), running)).toBeUndefined()
})

test('nothing is copied of which a stage was lost, and the only slot is cut, whatever is forgotten', () => {
  const lost = holding([{ prompt: promptOf(1, 400, 100) }])
  lost.lost(0, 3)
  expect(lost.take(request(SCOPE, promptOf(2, 150, 100)), NONE_RUNNING)?.copyFrom).toBeUndefined()
  const only = holding([{ prompt: promptOf(1, 400, 100) }], 1)
  // The stages are asked to keep what is forgotten.
  const taken = { slot: 0, keepTokens: 96, intactFrom: 0, store: expect.objectContaining({ key: 0 }) }
  expect(only.take(request(SCOPE, promptOf(2, 150, 100)), NONE_RUNNING)).toEqual(taken)
})

test('what a request would find is told without taking it', () => {
  const slots = holding([{ prompt: LONG }])
  expect([slots.held(request(SCOPE, LONG)), slots.held(request('chat-2', LONG))]).toEqual([96, 0])
  slots.lost(0, 3)
  expect([slots.held(request(SCOPE, LONG)), slots.take(request(SCOPE, LONG))?.keepTokens]).toEqual([0, 96])
})

test('what others may come back to is told: of clients that are known, but of the one that goes on', () => {
  const [mine, yours, nobodys] = [promptOf(1, 100), promptOf(2, 80), promptOf(3, 60)]
  const slots = holding([
    { prompt: mine },
    { scope: 'chat-2', prompt: yours },
    { scope: '', prompt: nobodys }
  ])
  expect(slots.heldBeside(request(SCOPE, mine))).toEqual([81])
  expect(slots.heldBeside(request('chat-3', mine))).toEqual([81, 101])
  // Where it has made room in its slot it may be kept beside.
  const full = holding([{ prompt: mine }], 1)
  const { slot, store } = full.take(request('chat-2', yours))!
  full.stored(store!, true)
  full.giveBack(slot, { scope: 'chat-2', tokens: [...yours, 7], promptTokens: 80, cachedTokens: 80 })
  expect(full.heldBeside(request('chat-3', mine))).toEqual([80, 101])
  expect(full.heldBeside(request(SCOPE, mine))).toEqual([80])
})

test('a conversation that was stored and goes on in a slot again is told once', () => {
  const [mine, yours] = [promptOf(1, 100), promptOf(2, 80)]
  const slots = holding([{ prompt: mine }], 1)
  const other = slots.take(request('chat-2', yours))!
  slots.stored(other.store!, true)
  slots.giveBack(other.slot, { scope: 'chat-2', tokens: [...yours, 7], promptTokens: 80, cachedTokens: 80 })
  const next = [...mine, 7, 8, 9]
  const again = slots.take(request(SCOPE, next))!
  expect(again.restore).toBe(0)
  slots.stored(again.store!, true)
  const goneOn = { scope: SCOPE, tokens: [...next, 7], promptTokens: 103, cachedTokens: 103 }
  slots.giveBack(again.slot, goneOn)
  expect(slots.heldBeside(request('chat-3', mine))).toEqual([103, 80])
  expect(slots.heldBeside()).toEqual([103, 80])
  // What it goes on from, and what was stored of it before, would be computed for it anyway.
  expect(slots.heldBeside(request(SCOPE, [...next, 7, 8]))).toEqual([80])
})

test('a few words that all prompts begin with cost no long conversation its cache', () => {
  const slots = holding([{ prompt: promptOf(1, 400, 40) }])
  expect(slots.take(request(SCOPE, promptOf(2, 100, 40)))).toEqual({ slot: 1, keepTokens: 0, intactFrom: 0 })
  // Where most of the prompt is there it is used, whatever is lost.
  const taken = { slot: 0, keepTokens: 32, intactFrom: 0, store: expect.objectContaining({ key: 0 }) }
  expect(slots.take(request(SCOPE, promptOf(2, 50, 40)))).toEqual(taken)
})

test('whoever sends one new prompt after the other fills slots of its own, and no memory', () => {
  const slots = holding(
    [
      { scope: 'ann\nchat', prompt: LONG },
      { scope: 'eve\n0', prompt: promptOf(2, 100) }
    ],
    3
  )
  for (let i = 0; i < 10_000; i++) {
    const prompt = [i, ...LONG]
    const { slot } = slots.take(request(`eve\n${i}`, prompt))!
    slots.giveBack(slot, { scope: `eve\n${i}`, tokens: prompt, promptTokens: 101, cachedTokens: 101 })
  }
  expect(slots.cached).toBeLessThanOrEqual(3)
  expect(slots.take(request('ann\nchat', [...LONG, 7, 8, 9]))?.keepTokens).toBe(101)
})

test('what was computed to the bit serves all, what was not serves none that is to be', () => {
  const exact = { ...request(SCOPE, NEXT), exact: true }
  expect(cached().take(exact)?.keepTokens).toBe(0)
  const slots = new KvSlots(2, 2)
  const { slot } = slots.take({ ...request(SCOPE, PROMPT), exact: true })!
  slots.giveBack(slot, {
    scope: SCOPE,
    exact: true,
    tokens: [...PROMPT, ...ANSWER],
    promptTokens: 4,
    cachedTokens: 5
  })
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
    slots.giveBack(held[i]!.slot, { scope: `${i}`, tokens: [i, 9], promptTokens: 1, cachedTokens: 1 })
  }
  expect(slots.take(request('new', [7]))?.slot).toBe(held[1]!.slot)
  expect(slots.take(request('2', [2, 9, 9]))).toEqual({ slot: held[2]!.slot, keepTokens: 1, intactFrom: 0 })
})

test('sessions of a micro-batch are neighbours where that costs nobody a cache, and else before the oldest one goes', () => {
  const slots = new KvSlots(8, 8)
  const take = (scope: string) => slots.take(request(scope, [1]))!.slot
  const held = Array.from({ length: 8 }, (_, i) => take(`${i}`))
  const giveBack = (slot: number) =>
    slots.giveBack(slot, { scope: `${slot}`, tokens: [1, 9], promptTokens: 1, cachedTokens: 1 })
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
  slots.giveBack(0, { scope: SCOPE, tokens: [...PROMPT, ...ANSWER], promptTokens: 4, cachedTokens: 6 })
  // The last token is fed again, for the next one to be drawn.
  expect(slots.take(request(SCOPE, PROMPT, ANSWER))?.keepTokens).toBe(5)
})

test('where a stage was lost, only those behind it have kept their part', () => {
  const slots = cached()
  slots.lost(1, 4)
  expect(slots.take(request(SCOPE, NEXT))).toEqual({ slot: 0, keepTokens: 5, intactFrom: 2 })
  slots.giveBack(0, { scope: SCOPE, tokens: NEXT, promptTokens: 4, cachedTokens: NEXT.length })
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

/** One slot with a conversation of a model with states, of which the given lengths are kept. */
function withStates(states: number[]): KvSlots {
  const slots = new KvSlots(1, 1)
  slots.take(request(SCOPE, LONG))
  const tokens = [...LONG, 7, 8, 9]
  slots.giveBack(0, { scope: SCOPE, tokens, promptTokens: 100, cachedTokens: 102, states })
  return slots
}

test.each([
  ['all of it repeated', [...LONG, 7, 8, 9, 5, 5], 102],
  ['the answer cut', [...LONG, 7, 5, 5, 5], 100],
  ['the prompt ended otherwise', [...LONG.slice(0, 98), 5, 5, 5, 5], 80],
  ['the prompt parting before every state', [...LONG.slice(0, 70), 5, 5, 5, 5], 0],
  ['the same prompt again', LONG, 80]
])('a model with states goes on from one that is kept: %s', (_, prompt, keepTokens) => {
  expect(withStates([80, 100, 102]).take(request(SCOPE, prompt))?.keepTokens).toBe(keepTokens)
})

test('a conversation of which no state is kept for certain is begun again', () => {
  expect(withStates([]).take(request(SCOPE, [...LONG, 7, 8, 9, 5]))?.keepTokens).toBe(0)
})

test('what one stage has lost all begin again with, where they have states', () => {
  const slots = withStates([80, 100, 102])
  slots.lost(0, 3)
  expect(slots.take(request(SCOPE, [...LONG, 7, 8, 9, 5]))).toEqual({
    slot: 0,
    keepTokens: 0,
    intactFrom: 0
  })
})

test('where layers drop what no window sees any more, a cache is cut near its end or not at all', () => {
  const windowed = { ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, window: 8 } }
  const mayCut = cutsOf({ decoderLayers: 2, blocks: [LLAMA_BLOCK, windowed], layout: [0, 1] })
  const prompt = promptOf(1, 300)
  const keptBy = (common: number, cuts = mayCut, length = 300) => {
    const slots = new KvSlots(1, 1, cuts)
    const { slot } = slots.take(request(SCOPE, prompt.slice(0, 1)))!
    const tokens = prompt.slice(0, length)
    slots.giveBack(slot, { scope: SCOPE, tokens, promptTokens: 1, cachedTokens: length, exact: true })
    const next = [...prompt.slice(0, common), 7, 8]
    return slots.take({ ...request(SCOPE, next), exact: true })!.keepTokens
  }
  // Stages may have been 32 guesses ahead, and have kept 64 tokens behind the window.
  expect([300, 290, 268].map(common => keptBy(common))).toEqual([300, 290, 268])
  expect([200, 100].map(common => keptBy(common))).toEqual([0, 0])
  // Nothing is dropped yet.
  expect(keptBy(10, mayCut, 60)).toBe(10)
  const without = cutsOf({ decoderLayers: 2, blocks: [LLAMA_BLOCK], layout: [0] })
  expect(keptBy(100, without)).toBe(100)
})

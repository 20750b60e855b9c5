import fc from 'fast-check'
import { expect, test } from 'vitest'
import { AnswerPool } from '../../../../node/source/draft/answer-pool.ts'
import { MAX_PROPOSED_TOKENS, NGramDraft } from '../../../../node/source/draft/ngram-draft.ts'
import { prng } from '../../../fixtures/prng.ts'

const fresh = (pool = new AnswerPool(), scope = '') => new NGramDraft({ scope, pool })

test('what followed the last tokens before is proposed', () => {
  expect(fresh().propose([1, 2, 3, 4, 5, 6, 1, 2, 3], 3)).toEqual([4, 5, 6])
})

test('where more tokens agree is looked at first, then where they occurred last', () => {
  expect(fresh().propose([1, 2, 3, 7, 9, 2, 3, 8, 1, 2, 3], 1)).toEqual([7])
  expect(fresh().propose([2, 3, 7, 2, 3, 8, 2, 3], 1)).toEqual([8])
})

test('what repeats itself goes on repeating itself', () => {
  expect(fresh().propose([7, 7], 4)).toEqual([7, 7, 7, 7])
  expect(fresh().propose([5, 1, 2, 1, 2, 1], 5)).toEqual([2, 1, 2, 1, 2])
})

test.each([
  ['nothing was said', [], 4],
  ['there is a single token', [1], 4],
  ['no token occurred before', [1, 2, 3, 4], 4],
  ['nothing is asked for', [1, 2, 1], 0]
])('nothing is proposed where %s', (_, tokens, count) => {
  expect(fresh().propose(tokens, count)).toEqual([])
})

test('however much is asked for, a window is proposed', () => {
  expect(fresh().propose([7, 7], Number.MAX_SAFE_INTEGER)).toHaveLength(MAX_PROPOSED_TOKENS)
})

test('wrong guesses leave nothing behind: what is proposed afterwards is of the conversation alone', () => {
  const draft = fresh()
  draft.propose([1, 2, 3], 1)
  draft.propose([1, 2, 3, 8, 8, 8], 1)
  expect(draft.propose([1, 2, 3, 4, 8], 4)).toEqual([])
  expect(draft.propose([1, 2, 3, 4, 3], 1)).toEqual([4])
})

test('a guess that was wrong does not take the place of what was right before', () => {
  const draft = fresh()
  const said = [1, 2, 3, 4, 9, 2]
  expect(draft.propose(said, 1)).toEqual([3])
  // A window of guesses, of which none held.
  for (let guess = 20; guess < 30; guess++) draft.propose([...said, guess, 2], 1)
  expect(draft.propose(said, 1)).toEqual([3])
})

test('an earlier answer to the same client is found, where it agrees with more', () => {
  const pool = new AnswerPool()
  pool.remember('chat-1', [1, 2, 3, 4])
  expect(fresh(pool, 'chat-1').propose([9, 2, 3], 3)).toEqual([4])
  expect(fresh(pool, 'chat-1').propose([2, 3, 7, 2, 3], 1)).toEqual([7])
  expect(fresh(pool, 'chat-1').propose([3, 7, 2, 3], 1)).toEqual([4])
})

test('nothing of one client is ever proposed to another, and nothing at all of one who has not named itself', () => {
  const pool = new AnswerPool()
  pool.remember('chat-1', [1, 2, 3, 4])
  pool.remember('', [1, 2, 3, 4])
  for (const scope of ['', 'chat-2', 'chat-']) expect(fresh(pool, scope).propose([1, 2, 3], 3)).toEqual([])
})

test('no answer goes on in the next one', () => {
  const pool = new AnswerPool()
  pool.remember('chat', [1, 2, 3])
  pool.remember('chat', [4, 5, 6])
  const draft = fresh(pool, 'chat')
  expect(draft.propose([2, 3], 3)).toEqual([])
  expect(draft.propose([3, 4], 3)).toEqual([5, 6])
})

test('a conversation that goes on is kept once', () => {
  const pool = new AnswerPool()
  pool.remember('chat', [1, 2, 3])
  pool.remember('chat', [1, 2, 3, 4, 5])
  expect(fresh(pool, 'chat').propose([2, 3], 4)).toEqual([4, 5])
})

test('of a client that says very much, and of very many clients, the latest is kept', () => {
  const pool = new AnswerPool()
  const saying = (from: number) => Array.from({ length: 1000 }, (_, i) => from + i)
  for (let n = 0; n < 50; n++) pool.remember('chatty', saying(1000 * n))
  const chatty = fresh(pool, 'chatty')
  expect(chatty.propose(saying(49_000).slice(0, 10), 2)).toEqual([49_010, 49_011])
  expect(chatty.propose(saying(0).slice(0, 10), 2)).toEqual([])
  pool.remember(
    'long',
    Array.from({ length: 100_000 }, (_, i) => i)
  )
  expect(fresh(pool, 'long').propose([99_990, 99_991], 2)).toEqual([99_992, 99_993])
  for (let n = 0; n < 31; n++) pool.remember(`client ${n}`, [1, 2, 3])
  expect(fresh(pool, 'long').propose([99_990, 99_991], 2)).toEqual([99_992, 99_993])
  expect(chatty.propose(saying(49_000).slice(0, 10), 2)).toEqual([])
})

/** Whether the last tokens of `text`, one at least, stand before `at` in it. */
const isFollower = (texts: readonly (readonly number[])[], context: readonly number[], token: number) =>
  texts.some(text => text.some((other, at) => other === token && at > 0 && text[at - 1] === context.at(-1)))

test('each proposal is a true continuation of an occurrence, whatever was said and guessed', () => {
  const token = fc.integer({ min: 0, max: 4 })
  const turn = fc.record({
    known: fc.array(token, { maxLength: 12 }),
    keep: fc.nat(40),
    count: fc.integer({ min: 0, max: 9 })
  })
  fc.assert(
    fc.property(
      fc.array(turn, { maxLength: 12 }),
      fc.array(fc.array(token), { maxLength: 4 }),
      (turns, earlier) => {
        const pool = new AnswerPool()
        for (const tokens of earlier) pool.remember('chat', tokens)
        const draft = fresh(pool, 'chat')
        let tokens: number[] = []
        for (const { known, keep, count } of turns) {
          tokens = [...tokens.slice(0, keep), ...known]
          const proposed = draft.propose(tokens, count)
          expect(proposed.length).toBeLessThanOrEqual(count)
          proposed.forEach((next, i) => {
            const context = [...tokens, ...proposed.slice(0, i)]
            expect(isFollower([context, ...earlier], context, next)).toBe(true)
          })
          // A token that was said before the last one always leads to a proposal.
          const last = tokens.at(-1)
          if (count > 0 && tokens.indexOf(last!) < tokens.length - 1) expect(proposed).not.toEqual([])
        }
      }
    )
  )
})

test('a token costs as much behind a long conversation as behind a short one', () => {
  const random = prng(1)
  const pool = new AnswerPool()
  const reads: number[] = []
  for (const length of [2_000, 16_000]) {
    const tokens = Array.from({ length }, () => Math.floor(random() * 500))
    const draft = fresh(pool)
    draft.propose(tokens, 4)
    // What is read of the conversation by one further call: each of its tokens once, to see what is new.
    let count = 0
    const watched = new Proxy([...tokens, 1], {
      get(target, key, receiver) {
        count++
        return Reflect.get(target, key, receiver)
      }
    })
    draft.propose(watched, 4)
    reads.push(count / length)
  }
  expect(Math.max(...reads)).toBeLessThan(3)
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ForwardInput, ForwardOutput } from '../../../../models/runtime/runtime.ts'
import { ModelDraft } from '../../../../node/source/draft/model-draft.ts'

const VOCABULARY = 100
/** What the model says behind tokens: it hangs on all of them, so a KV cache that is not the conversation's shows. */
const next = (tokens: readonly number[]) => tokens.reduce((sum, id) => (7 * sum + id + 1) % VOCABULARY, 0)

/** What the model says behind `tokens`, one token behind the other. */
function spoken(tokens: readonly number[], count: number): number[] {
  const said: number[] = []
  while (said.length < count) said.push(next([...tokens, ...said]))
  return said
}

/** A session that computes `next`, and refuses what no session takes. */
class Session {
  readonly fed: number[] = []
  /** Tokens of each step. */
  readonly steps: number[] = []
  failing = false
  held: Promise<void> | undefined
  readonly begun = Promise.withResolvers<void>()

  async forward({ position, input, sample }: ForwardInput): Promise<ForwardOutput> {
    const ids = [...(input as Int32Array)]
    if (this.failing) throw new Error('the worker has ended')
    if (position !== this.fed.length || ids.length === 0 || ids.length > 32) throw new Error('no such step')
    this.fed.push(...ids)
    this.steps.push(ids.length)
    this.begun.resolve()
    await this.held
    if (!sample) return { kind: 'none', computeMs: 0 }
    return { kind: 'token', token: { id: next(this.fed), logprob: 0, top: [] }, computeMs: 0 }
  }

  async trim(length: number): Promise<void> {
    if (length > this.fed.length) throw new Error('no such length')
    this.fed.length = length
  }
}

function draftOf({ maxTokens = 512, vocabSize = VOCABULARY } = {}) {
  const session = new Session()
  return { session, draft: new ModelDraft({ session, maxTokens, vocabSize }) }
}

const PROMPT = Array.from({ length: 70 }, (_, i) => i)

test('a prompt is fed in chunks, and what follows is what the model says', async () => {
  const { session, draft } = draftOf()
  expect(await draft.propose(PROMPT, 3)).toEqual(spoken(PROMPT, 3))
  expect(session.steps).toEqual([32, 32, 6, 1, 1])
})

test('where the guesses were right only the last token is fed, where they were wrong what is behind them is trimmed', async () => {
  const { session, draft } = draftOf()
  const [first, second] = spoken(PROMPT, 2)
  await draft.propose(PROMPT, 4)
  session.steps.length = 0
  const right = [...PROMPT, first!, second!]
  expect(await draft.propose(right, 2)).toEqual(spoken(right, 2))
  expect(session.steps).toEqual([1, 1])
  const wrong = [...PROMPT, first!, second! + 1]
  expect(await draft.propose(wrong, 2)).toEqual(spoken(wrong, 2))
  expect(session.steps).toEqual([1, 1, 1, 1])
})

test('the KV cache can be brought up to the conversation ahead', async () => {
  const { session, draft } = draftOf()
  expect(await draft.propose(PROMPT, 0)).toEqual([])
  expect(session.fed).toEqual(PROMPT.slice(0, -1))
  session.steps.length = 0
  expect(await draft.propose(PROMPT, 1)).toEqual(spoken(PROMPT, 1))
  expect(session.steps).toEqual([1])
})

test('while a long prompt is fed nothing is proposed, and nobody waits for it', async () => {
  const { session, draft } = draftOf()
  const long = Array.from({ length: 300 }, (_, i) => i % VOCABULARY)
  const hold = Promise.withResolvers<void>()
  session.held = hold.promise
  expect(await Promise.all([draft.propose(long, 3), draft.propose([...long, 1], 3)])).toEqual([[], []])
  expect(await draft.propose([...long, 1, 2], 3)).toEqual([])
  hold.resolve()
  await expect.poll(() => session.fed.length).toBe(299)
  const later = [...long, 1, 2, 3]
  await expect.poll(() => draft.propose(later, 3)).toEqual(spoken(later, 3))
  expect(session.steps.slice(0, 10)).toEqual([...Array(9).fill(32), 11])
  expect(session.steps.slice(10)).toEqual([4, 1, 1])
})

test('the end cuts the feeding of a long prompt short, and so does an error', async () => {
  const long = Array.from({ length: 300 }, (_, i) => i % VOCABULARY)
  const one = draftOf()
  await one.draft.propose(long, 3)
  await one.draft.end()
  expect(one.session.fed.length).toBeLessThan(299)
  const other = draftOf()
  other.session.failing = true
  await other.draft.propose(long, 3)
  await other.draft.end()
  expect(await other.draft.propose([1], 3)).toEqual([])
})

test('whatever the conversation turns into, what is proposed is what the model says behind it', async () => {
  const tokens = fc.array(fc.integer({ min: 0, max: VOCABULARY - 1 }), { maxLength: 40 })
  const turn = fc.record({ keep: fc.nat(80), follow: fc.nat(5), known: tokens, count: fc.nat(6) })
  await fc.assert(
    fc.asyncProperty(fc.array(turn, { maxLength: 8 }), async turns => {
      const { draft } = draftOf({ maxTokens: 100 })
      let said: number[] = []
      let proposed: readonly number[] = []
      for (const { keep, follow, known, count } of turns) {
        // Some guesses hold, then something else is said, or an earlier turn goes on otherwise.
        said = [...said, ...proposed.slice(0, follow)].slice(0, keep)
        said = [...said, ...known]
        proposed = await draft.propose(said, count)
        const most = said.length === 0 || said.length > 100 ? 0 : Math.min(count, 101 - said.length)
        expect(proposed).toEqual(spoken(said, most))
      }
    })
  )
})

test('a call cuts short the one before it, and is answered for itself', async () => {
  const { session, draft } = draftOf()
  const hold = Promise.withResolvers<void>()
  session.held = hold.promise
  const early = draft.propose(PROMPT, 50)
  const late = draft.propose([...PROMPT, 1], 2)
  hold.resolve()
  expect(await early).toEqual([])
  expect(await late).toEqual(spoken([...PROMPT, 1], 2))
  expect(session.steps).toEqual([32, 32, 7, 1])
})

test.each([
  ['nothing was said', [], 3],
  ['the conversation has outgrown the KV cache', Array(51).fill(1), 3],
  ['a token is none of its vocabulary', [1, VOCABULARY, 2], 3]
])('nothing is proposed where %s', async (_, tokens, count) => {
  const { draft } = draftOf({ maxTokens: 50 })
  expect(await draft.propose(tokens, count)).toEqual([])
  expect(await draft.propose([1, 2], 1)).toEqual(spoken([1, 2], 1))
})

test('no token is proposed that only one of two padded vocabularies has', async () => {
  const { draft } = draftOf({ vocabSize: 50 })
  const context = [1, 2]
  const least = spoken(context, 30).findIndex(id => id >= 50)
  expect(await draft.propose(context, 30)).toEqual(spoken(context, least))
})

test('an error ends the drafting, and fails nothing', async () => {
  const { session, draft } = draftOf()
  session.failing = true
  expect(await draft.propose(PROMPT, 3)).toEqual([])
  session.failing = false
  expect(await draft.propose(PROMPT, 3)).toEqual([])
  expect(session.steps).toEqual([])
})

test('the end waits for the step under way, and nothing is computed behind it', async () => {
  const { session, draft } = draftOf()
  const hold = Promise.withResolvers<void>()
  session.held = hold.promise
  const proposing = draft.propose(PROMPT, 3)
  await session.begun.promise
  let ended = false
  const ending = draft.end().then(() => {
    ended = true
  })
  await Promise.race([ending, Promise.resolve()])
  expect(ended).toBe(false)
  hold.resolve()
  await ending
  expect(await proposing).toEqual([])
  expect(await draft.propose(PROMPT, 3)).toEqual([])
  expect(session.steps).toEqual([32])
})

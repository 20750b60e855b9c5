import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ForwardInput, ForwardOutput } from '../../../../models/runtime/runtime.ts'
import { GuessingDraft } from '../../../../node/source/draft/guessing-draft.ts'
import { deadlineMs } from '../../../fixtures/machine.ts'

const VOCABULARY = 100
const HIDDEN = 2
/** What the model makes of a position: the layer can tell it from what it has made itself. */
const stateOf = (position: number) => 1000 + position

interface Row {
  token: number
  state: number
}

/** What the layer makes of rows: it hangs on all of them, so a KV cache that is not the conversation's shows. */
const made = (rows: readonly Row[]) =>
  rows.reduce((sum, { token, state }) => (7 * sum + token + 3 * state + 1) % 997, 0)

/** A session that computes `made`, and refuses what no session takes. */
class Session {
  readonly fed: Row[] = []
  /** Rows of each step. */
  readonly steps: number[] = []
  failing = false

  async forward({ position, input, sample, previous }: ForwardInput): Promise<ForwardOutput> {
    const ids = [...(input as Int32Array)]
    if (this.failing) throw new Error('the worker has ended')
    if (position !== this.fed.length || ids.length === 0 || ids.length > 32) throw new Error('no such step')
    if (previous?.length !== HIDDEN * ids.length) throw new Error('no such states')
    const states = new Float32Array(HIDDEN * ids.length)
    ids.forEach((token, i) => {
      this.fed.push({ token, state: previous[HIDDEN * i]! })
      states.fill(made(this.fed), HIDDEN * i, HIDDEN * (i + 1))
    })
    this.steps.push(ids.length)
    if (!sample) return { kind: 'none', states, computeMs: 0 }
    const id = made(this.fed) % VOCABULARY
    return { kind: 'token', token: { id, logprob: 0, top: [] }, states, computeMs: 0 }
  }

  async trim(length: number): Promise<void> {
    if (length > this.fed.length) throw new Error('no such length')
    this.fed.length = length
  }
}

/** The states of positions `[start, end)` of a conversation. */
const statesOf = (start: number, end: number) =>
  Float32Array.from({ length: HIDDEN * (end - start) }, (_, i) => stateOf(start + Math.floor(i / HIDDEN)))

/** What the layer says behind a conversation, whose states are known in `[from, known)`, token by token. */
function spoken(
  tokens: readonly number[],
  [from, known]: readonly [number, number],
  count: number
): number[] {
  const rows: Row[] = []
  const feed = (position: number, token: number) => {
    const state = position < known ? stateOf(position) : made(rows)
    rows.push({ token, state })
  }
  for (let position = from; position + 1 < tokens.length; position++) feed(position, tokens[position + 1]!)
  const said: number[] = []
  while (said.length < count) {
    said.push(made(rows) % VOCABULARY)
    feed(tokens.length - 2 + said.length, said.at(-1)!)
  }
  return said
}

function draftOf(maxTokens = 512) {
  const session = new Session()
  return { session, draft: new GuessingDraft({ session, maxTokens, hiddenSize: HIDDEN }) }
}

const PROMPT = Array.from({ length: 70 }, (_, i) => i)

test('a prompt is fed while its states come, and what is known of it when something is to be proposed', async () => {
  const { session, draft } = draftOf()
  expect(await draft.propose(PROMPT, 0)).toEqual([])
  draft.saw(0, statesOf(0, 32))
  draft.saw(32, statesOf(32, 64))
  draft.saw(64, statesOf(64, 70))
  const tokens = [...PROMPT, 5]
  expect(await draft.propose(tokens, 3)).toEqual(spoken(tokens, [0, 70], 3))
  expect(session.steps.slice(-3)).toEqual([expect.any(Number), 1, 1])
})

test('nothing is proposed before a state is known, nor where the last ones are missing', async () => {
  const { draft } = draftOf()
  expect(await draft.propose([1, 2, 3], 2)).toEqual([])
  draft.saw(0, statesOf(0, 1))
  expect(await draft.propose([1, 2], 2)).toEqual(spoken([1, 2], [0, 1], 2))
})

test('guesses under way stand for what was said, and are fed again with the states of the model', async () => {
  const { session, draft } = draftOf()
  draft.saw(0, statesOf(0, 4))
  const said = [1, 2, 3, 4, 5]
  const guesses = await draft.propose(said, 3)
  expect(guesses).toEqual(spoken(said, [0, 4], 3))
  expect(await draft.propose([...said, ...guesses.slice(0, 2)], 1)).toEqual(guesses.slice(2))
  draft.saw(4, statesOf(4, 5))
  const next = [...said, guesses[0]!]
  session.steps.length = 0
  expect(await draft.propose(next, 2)).toEqual(spoken(next, [0, 5], 2))
  expect(session.steps).toEqual([1, 1])
})

test('what is known from the middle of a prompt on is enough, and a gap begins anew behind it', async () => {
  const { draft } = draftOf()
  draft.saw(40, statesOf(40, 70))
  const tokens = [...PROMPT, 9]
  expect(await draft.propose(tokens, 2)).toEqual(spoken(tokens, [40, 70], 2))
  const later = [...tokens, 8, 7, 6]
  draft.saw(72, statesOf(72, 73))
  expect(await draft.propose(later, 2)).toEqual(spoken(later, [72, 73], 2))
})

test('a conversation that has outgrown the room goes on from its last half', async () => {
  const { session, draft } = draftOf(40)
  draft.saw(0, statesOf(0, 30))
  expect(await draft.propose(PROMPT.slice(0, 31), 1)).toHaveLength(1)
  draft.saw(30, statesOf(30, 69))
  const tokens = PROMPT.slice(0, 70)
  expect(await draft.propose(tokens, 1)).toEqual(spoken(tokens, [69 - 20, 69], 1))
  expect(session.fed.length).toBeLessThanOrEqual(40)
})

test('while a long part waits to be fed nothing is proposed, and nobody waits for it', async () => {
  const { draft } = draftOf()
  const long = Array.from({ length: 300 }, (_, i) => i % VOCABULARY)
  for (let i = 0; i < 299; i++) draft.saw(i, statesOf(i, i + 1))
  expect(await draft.propose(long, 2)).toEqual([])
  await expect.poll(() => draft.propose(long, 2)).toEqual(spoken(long, [0, 299], 2))
})

test('the end cuts it short, and what fails ends it and nothing else', async () => {
  const one = draftOf()
  one.draft.saw(0, statesOf(0, 1))
  await one.draft.end()
  expect(await one.draft.propose([1, 2], 1)).toEqual([])
  const other = draftOf()
  other.session.failing = true
  other.draft.saw(0, statesOf(0, 1))
  expect(await other.draft.propose([1, 2], 1)).toEqual([])
  other.session.failing = false
  expect(await other.draft.propose([1, 2], 1)).toEqual([])
})

test('whatever the conversation turns into, what is proposed is what the layer says behind it', async () => {
  const tokens = fc.array(fc.integer({ min: 0, max: VOCABULARY - 1 }), { minLength: 1, maxLength: 20 })
  const turn = fc.record({ said: tokens, follow: fc.nat(4), count: fc.integer({ min: 1, max: 5 }) })
  await fc.assert(
    fc.asyncProperty(fc.nat(9), fc.array(turn, { minLength: 1, maxLength: 6 }), async (from, turns) => {
      const { draft } = draftOf()
      let conversation = Array.from({ length: 10 }, (_, i) => i)
      let known = from
      let proposed: readonly number[] = []
      for (const { said, follow, count } of turns) {
        // Some guesses hold, then something else is said; its states come token by token.
        conversation = [...conversation, ...proposed.slice(0, follow), ...said]
        for (; known < conversation.length - 1; known++) draft.saw(known, statesOf(known, known + 1))
        proposed = await draft.propose(conversation, count)
        expect(proposed).toEqual(spoken(conversation, [from, known], count))
        const underWay = [...conversation, ...proposed]
        expect(await draft.propose(underWay, 1)).toEqual(spoken(underWay, [from, known], 1))
      }
    }),
    { numRuns: 200 }
  )
})

test('a long answer does not fill the memory with states that are of no use any more', {
  timeout: 2 * deadlineMs(5000)
}, async () => {
  const hiddenSize = 65_536
  const stateBytes = hiddenSize * Float32Array.BYTES_PER_ELEMENT
  const session = {
    forward: async ({ input }: ForwardInput): Promise<ForwardOutput> => ({
      ...{ kind: 'token', token: { id: 1, logprob: 0, top: [] }, computeMs: 0 },
      states: new Float32Array(hiddenSize * (input as Int32Array).length)
    }),
    trim: async () => {}
  }
  const draft = new GuessingDraft({ session, maxTokens: 512, hiddenSize })
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const before = process.memoryUsage().arrayBuffers
  for (let length = 2; length < 302; length++) {
    draft.saw(length - 2, new Float32Array(hiddenSize))
    expect(await draft.propose(Array(length).fill(1), 1)).toEqual([1])
  }
  const held = () => {
    collect()
    return process.memoryUsage().arrayBuffers - before
  }
  // Of the model's some 64 are kept behind what is fed, and as many of the layer's own.
  await expect.poll(held, { timeout: deadlineMs(5000) }).toBeLessThan(150 * stateBytes)
  await draft.end()
})

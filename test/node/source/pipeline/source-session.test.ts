import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Lead } from '../../../../node/source/pipeline/lead.ts'
import {
  GOES_ON_ELSEWHERE,
  SourceSession,
  type SourceSessionInit
} from '../../../../node/source/pipeline/source-session.ts'
import { OracleDraft } from '../oracle-draft.ts'
import { token } from './pipeline-fixture.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const END = 99

function sessionOf(over: Partial<SourceSessionInit> = {}) {
  const told: string[] = []
  const session = new SourceSession({
    id: 'a',
    slot: 0,
    fromToken: 0,
    prompt: [1, 2, 3],
    known: [],
    ends: new Set([END]),
    maxTokens: 100,
    scope: 'mine',
    vocabSize: 100,
    predicted: { ttftMs: 30, tpotMs: 2, stages: [], linksMs: [] },
    onReady: () => void told.push('ready'),
    onStalled: () => void told.push('stalled'),
    ...over
  })
  return { session, told }
}

/** Draws tokens for it until no step may be made; returns how many. */
function drawAll(session: SourceSession): number {
  session.accept(token(7))
  let drawn = 1
  for (; session.ready; drawn++) {
    session.takeStep()
    session.accept(token(7))
  }
  return drawn
}

test('a reader that falls behind stops the steps, and starts them again when it reads', async () => {
  const { session, told } = sessionOf()
  const drawn = drawAll(session)
  expect(drawn).toBe(16)
  await session.read()
  expect([session.ready, told]).toEqual([true, ['ready']])
  // It was never gone.
  await vi.advanceTimersByTimeAsync(120_000)
  expect(told).toEqual(['ready'])
})

test('a reader that reads no more is gone after a while, and its session over', async () => {
  const { session, told } = sessionOf()
  const drawn = drawAll(session)
  await vi.advanceTimersByTimeAsync(59_000)
  expect(told).toEqual([])
  await vi.advanceTimersByTimeAsync(2_000)
  expect(told).toEqual(['stalled'])
  // What came before is his to read.
  for (let i = 0; i < drawn; i++) await session.read()
  await expect(session.read()).rejects.toThrow('nobody has read')
})

test('steps start behind what is cached, and their tokens are awaited there until a deadline', async () => {
  const { session } = sessionOf({ known: [4] })
  let late = 0
  session.expectToken(3)
  expect([session.mayDraw(3, 0), session.mayDraw(2, 0), session.prefilling, session.cachedTokens]).toEqual([
    true,
    false,
    true,
    0
  ])
  session.accept(token(7))
  expect([session.stepping, session.ready]).toEqual([false, true])
  expect(session.takeStep()).toEqual({ token: 7, position: 4, epoch: 0 })
  session.awaitUntil({ position: 4, epoch: 0 }, 1000, () => late++)
  expect(session.prefilling).toBe(false)
  await vi.advanceTimersByTimeAsync(1000)
  expect(late).toBe(1)
})

test('a token that was faster than the news that its step is sent is not awaited', async () => {
  const { session } = sessionOf()
  let late = 0
  session.expectToken(0)
  session.accept(token(7))
  session.awaitUntil({ position: 0, epoch: 0 }, 1000, () => late++)
  await vi.advanceTimersByTimeAsync(5000)
  expect(late).toBe(0)
})

test('a round is a chunk of its prompt at first, later a step, which takes longer deep in its context', () => {
  const { session } = sessionOf({ prompt: Array(64).fill(1), maxTokens: 400 })
  session.expectToken(32)
  // The second chunk of two costs at most three quarters of a prompt that is all attention.
  expect(session.roundMs).toBeCloseTo(30 * 0.75)
  session.accept(token(7))
  session.takeStep()
  expect(session.roundMs).toBe(2)
  for (let i = 0; i < 464; i++) {
    session.accept(token(7))
    void session.read()
  }
  expect(session.roundMs).toBeCloseTo((2 * 528) / 264)
})

test.each([
  ['its last token', { maxTokens: 1 }, 7],
  ['a token that ends the answer', {}, END]
])('%s is not fed back, and what is cached is told without it', async (_, over, id) => {
  const { session } = sessionOf(over)
  session.expectToken(0)
  session.accept(token(id))
  expect(session.ready).toBe(false)
  expect(await session.read()).toEqual(token(id))
  const tokens = id === END ? [1, 2, 3] : [1, 2, 3, id]
  expect(session.conversation()).toEqual({ scope: 'mine', tokens, promptTokens: 3, cachedTokens: 3 })
})

test('of a prompt that did not get through as much is left as did, and nothing of bad numbers', () => {
  const { session } = sessionOf()
  expect(session.conversation()).toBeUndefined()
  session.through(1)
  session.expectToken(2)
  const left = (cachedTokens: number) => ({ scope: 'mine', tokens: [1, 2, 3], promptTokens: 3, cachedTokens })
  expect(session.conversation()).toEqual(left(1))
  session.through(2)
  session.fail(new Error('the client has left'))
  expect(session.conversation()).toEqual(left(2))
  const pooled = sessionOf({ pooling: 'mean' }).session
  pooled.through(2)
  expect(pooled.conversation()).toBeUndefined()
  const { session: spoilt } = sessionOf()
  spoilt.accept(token(7))
  spoilt.spoil(new Error('not finite'))
  expect(spoilt.conversation()).toBeUndefined()
})

test('a session that fails awaits nothing and makes no steps; a prompt that never got through leaves nothing', async () => {
  const { session } = sessionOf()
  let late = 0
  session.expectToken(0)
  session.awaitUntil({ position: 0, epoch: 0 }, 1000, () => late++)
  session.fail(new Error('lost'))
  session.expectToken(0)
  session.awaitUntil({ position: 0, epoch: 0 }, 1000, () => late++)
  await vi.advanceTimersByTimeAsync(5000)
  expect([late, session.ready, session.stepping, session.conversation()]).toEqual([
    0,
    false,
    false,
    undefined
  ])
  await expect(session.read()).rejects.toThrow('lost')
})

/** A session of a model with states whose prompt of 50 tokens is through, and which has drawn two tokens. */
async function statefulSession(): Promise<SourceSession> {
  const prompt = Array.from({ length: 50 }, (_, i) => i)
  const { session } = sessionOf({ prompt, hasState: true, ends: new Set([END]) })
  session.opened(false)
  session.expectToken(32)
  session.accept(token(7))
  session.takeStep()
  session.accept(token(8))
  for (const _ of [7, 8]) await session.read()
  return session
}

test('a conversation says of which lengths every stage has a state', async () => {
  const session = await statefulSession()
  // The token that was drawn last was not fed.
  session.fail(new Error('it is over'))
  expect(session.conversation()).toMatchObject({ cachedTokens: 51, states: [32, 50, 51] })
})

test('what some stages may have computed already is not gone on from', async () => {
  const session = await statefulSession()
  session.takeStep()
  session.fail(new Error('its client has gone'))
  expect(session.conversation()).toMatchObject({ cachedTokens: 51, states: [32, 50] })
})

test('nothing is sure of a prompt that was not through', () => {
  const { session } = sessionOf({ prompt: [1, 2, 3, 4], hasState: true })
  session.opened(false)
  session.expectToken(0)
  session.through(3)
  session.fail(new Error('its client has gone'))
  expect(session.conversation()).toMatchObject({ states: [] })
})

test('who waits for a token as its answer goes on elsewhere is sent there, also while a grammar is asked', async () => {
  const asked = Promise.withResolvers<undefined>()
  const { session } = sessionOf({ grammar: { maskAfter: () => asked.promise as never } })
  session.accept(token(7))
  await session.read()
  const next = session.read()
  session.pause(true)
  asked.resolve(undefined)
  await expect(next).rejects.toBe(GOES_ON_ELSEWHERE)
  session.pause(false)
  expect(session.ready).toBe(true)
})

test('what was certain elsewhere as it was fed counts as no guess where it goes on', async () => {
  const answer = [7, 8, 9, 10, 11, 12]
  const lead = new Lead([])
  for (const id of answer.slice(0, 3)) lead.add({ id })
  const draft = new OracleDraft({ promptTokens: 3, answer, right: 1, vocabSize: 100 })
  const { session } = sessionOf({ lead, draft })
  session.accept(token(7))
  session.takeStep()
  expect([session.takeGuess()?.token, session.takeGuess()?.token]).toEqual([8, 9])
  session.goAlone()
  for (const id of answer.slice(1, 4)) session.accept(token(id))
  expect(session.guesses).toEqual({ sent: 0, held: 0, dropped: 0 })
})

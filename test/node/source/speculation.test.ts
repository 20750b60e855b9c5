import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Guesses } from '../../../node/api.ts'
import { pass, played, sleep, stopClock } from '../simulation/clock.ts'
import { onMeeting } from '../simulation/peers.ts'
import { OracleDraft, type OracleInit } from './oracle-draft.ts'
import { type AnswerNeeds, drawAnswer, MODEL, meshOf, needsOf, PROMPT } from './simulated-answer.ts'

const NEW_TOKENS = 96
const STEP_MS = 8

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

/** Three devices on links of 10 ms, of which only the first has the model. */
function meshOfThree(spare: string[] = []) {
  const mesh = meshOf(['a', 'b', 'c', ...spare])
  mesh.latencyMs = 10
  for (const { runtime } of mesh.nodes.values()) runtime.speed.stepMs = STEP_MS
  return mesh
}

/** What a device that holds all of the model draws alone. */
async function truthOf(over: Partial<AnswerNeeds> = {}): Promise<number[]> {
  const alone = meshOf(['a'], 5).get('a').source()
  const { tokens } = await played(
    drawAnswer(alone.deployments, needsOf(MODEL, { newTokens: NEW_TOKENS, ...over }))
  )
  await played(alone.deployments.close())
  return tokens
}

function oracle(answer: readonly number[], right: number, over: Partial<OracleInit> = {}): OracleDraft {
  const { vocabSize } = MODEL.manifest.shape
  return new OracleDraft({ promptTokens: PROMPT.length, answer, right, vocabSize, ...over })
}

interface Timed {
  tokens: number[]
  tokenMs: number
  guesses: Guesses | undefined
}

/** An answer on a mesh, and what a token of it took by the stopped clock. */
async function timed(mesh = meshOfThree(), over: Partial<AnswerNeeds> = {}): Promise<Timed> {
  const { deployments } = mesh.get('a').source()
  let firstMs = 0
  let lastMs = 0
  const needs = needsOf(MODEL, { newTokens: NEW_TOKENS, ...over })
  const { tokens, stream } = await played(
    drawAnswer(deployments, needs, {
      onToken: () => {
        lastMs = performance.now()
        firstMs ||= lastMs
      }
    })
  )
  await played(deployments.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
  return { tokens, tokenMs: (lastMs - firstMs) / (tokens.length - 1), guesses: stream.guesses }
}

test.each([
  [10, 0.45],
  [5, 0.5],
  [0.25, 0.6]
])(
  'on links of %f ms guesses that hold bring tokens sooner, wrong ones cost nothing, and the tokens are the same',
  async (latencyMs, aim) => {
    const truth = await truthOf()
    const on = async (draft?: OracleDraft) => {
      const mesh = meshOfThree()
      mesh.latencyMs = latencyMs
      return await timed(mesh, { draft })
    }
    const plain = await on()
    expect(plain).toMatchObject({ tokens: truth, guesses: undefined })
    for (const [right, atMost] of [
      [0, 1.02],
      [0.7, aim],
      [1, aim]
    ] as const) {
      const { tokens, tokenMs, guesses } = await on(oracle(truth, right))
      expect(tokens, `right ${right}`).toEqual(truth)
      expect(guesses!.held + guesses!.dropped).toBe(guesses!.sent)
      expect(tokenMs / plain.tokenMs, `right ${right}`).toBeLessThanOrEqual(atMost)
    }
  }
)

test('on short links three devices answer one prompt faster than one that computes all layers', async () => {
  const truth = await truthOf()
  const mesh = meshOfThree()
  mesh.latencyMs = 0.2
  const { tokens, tokenMs } = await timed(mesh, { draft: oracle(truth, 0.7) })
  expect(tokens).toEqual(truth)
  expect(tokenMs).toBeLessThan(0.75 * 3 * STEP_MS)
})

test('a draft that takes its time guesses as well', async () => {
  const truth = await truthOf()
  const plain = await timed()
  const draft = oracle(truth, 0.9, { delay: () => sleep(3) })
  const { tokens, tokenMs, guesses } = await timed(undefined, { draft })
  expect(tokens).toEqual(truth)
  expect(guesses!.held).toBeGreaterThan(NEW_TOKENS / 3)
  expect(tokenMs).toBeLessThan(0.6 * plain.tokenMs)
})

test.each([
  [
    'throws',
    () => {
      throw new Error('no weights')
    }
  ],
  ['rejects', () => Promise.reject(new Error('no weights'))],
  ['proposes nothing', () => []],
  ['proposes what is no token', () => [-1]],
  ['proposes tokens that the model does not have', async () => [MODEL.manifest.shape.vocabSize, 1]],
  ['never answers', () => new Promise<number[]>(() => {})]
])('a draft that %s is no harm', async (_, propose) => {
  const truth = await truthOf()
  const { tokens, guesses } = await timed(undefined, { draft: { propose } })
  expect(tokens).toEqual(truth)
  expect(guesses).toEqual({ sent: 0, held: 0, dropped: 0 })
})

test('an answer ends at its last token or at one that ends it, and no guess goes beyond', async () => {
  const truth = await truthOf()
  const end = truth[60]!
  const at = truth.indexOf(end)
  const ended = await timed(undefined, { draft: oracle(truth, 1), ends: new Set([end]), newTokens: at + 1 })
  expect(ended.tokens).toEqual(truth.slice(0, at + 1))
  const short = await timed(undefined, { draft: oracle(truth, 1), newTokens: 20 })
  expect(short.tokens).toEqual(truth.slice(0, 20))
  // The last token is not fed, and the first follows the prompt.
  expect(short.guesses!.sent).toBeLessThanOrEqual(18)
  expect(short.guesses!.dropped).toBe(0)
})

test('a source that holds the tail, too, guesses as well; one that holds all has nothing to hide', async () => {
  const truth = await truthOf()
  const mesh = meshOfThree()
  const sealed = await timed(mesh, { draft: oracle(truth, 0.7), privacy: 'sealed' })
  expect(sealed.tokens).toEqual(truth)
  expect(sealed.guesses!.held).toBeGreaterThan(NEW_TOKENS / 4)
  const alone = meshOf(['a'], 5)
  const draft = oracle(truth, 1)
  expect(await timed(alone, { draft })).toMatchObject({ tokens: truth, guesses: undefined })
  expect(draft.asked).toBe(0)
})

test('the next turn goes on from a cache that guesses have passed through', async () => {
  const truth = await truthOf()
  const prompt = [...PROMPT, ...truth.slice(0, 30), 7, 7]
  const next = await truthOf({ prompt })
  const mesh = meshOfThree()
  const { deployments } = mesh.get('a').source()
  const needs = needsOf(MODEL, { newTokens: 30, scope: 'mine', draft: oracle(truth, 0.6) })
  expect((await played(drawAnswer(deployments, needs))).tokens).toEqual(truth.slice(0, 30))
  const draft = oracle(next, 0.6, { promptTokens: prompt.length })
  const turn = needsOf(MODEL, {
    prompt,
    promptTokens: prompt.length,
    newTokens: NEW_TOKENS,
    scope: 'mine',
    draft
  })
  const { tokens, stream } = await played(drawAnswer(deployments, turn))
  expect(tokens).toEqual(next)
  expect(stream.cachedTokens).toBeGreaterThanOrEqual(PROMPT.length + 29)
  await played(deployments.close())
})

test.each([
  ['no-bubble', 4],
  ['bubble', 4],
  ['no-bubble', 2]
] as const)(
  'answers that share the stages are right and as fast as without guesses: %s, %i',
  async (strategy, batch) => {
    const truth = await truthOf()
    const run = async (right: number | undefined) => {
      const mesh = meshOf(['a', 'b', 'c'], 0.9)
      mesh.latencyMs = 10
      for (const { runtime } of mesh.nodes.values()) runtime.speed.stepMs = STEP_MS
      const { deployments } = mesh.get('a').source()
      const beginMs = performance.now()
      const answers = await played(
        Promise.all(
          Array.from({ length: batch }, (_, i) =>
            drawAnswer(
              deployments,
              needsOf(MODEL, {
                newTokens: NEW_TOKENS,
                objective: 'throughput',
                placement: { batch, strategy },
                ...(right !== undefined && { draft: oracle(truth, right, { seed: i }) })
              })
            )
          )
        )
      )
      const tookMs = performance.now() - beginMs
      for (const { tokens } of answers) expect(tokens).toEqual(truth)
      await played(deployments.close())
      await pass(1000)
      expect(mesh.empty).toBe(true)
      return tookMs
    }
    const plainMs = await run(undefined)
    expect(await run(0.7)).toBeLessThanOrEqual(1.02 * plainMs)
  }
)

describe('a stage that is lost in the middle of a window', () => {
  test.each(['b', 'c'].flatMap(id => [8, 19, 33, 47].map(frame => [id, frame] as const)))(
    '%s, at its frame %i: the answer goes on with the same tokens',
    async (id, frame) => {
      const truth = await truthOf()
      const mesh = meshOfThree(['d'])
      onMeeting(mesh.get(id), 'frame', () => mesh.vanish(id), frame)
      const { deployments } = mesh.get('a').source()
      const needs = needsOf(MODEL, { newTokens: NEW_TOKENS, draft: oracle(truth, 0.7) })
      const { tokens, stream } = await played(drawAnswer(deployments, needs))
      expect(tokens).toEqual(truth)
      expect(stream.recoveries).toBe(1)
      expect(stream.guesses!.held).toBeGreaterThan(10)
      await played(deployments.close())
    }
  )
})

test('an answer whose guesses were counted before says what a token should take with them', async () => {
  const guesses = { acceptance: 0.8, draftBytes: 0 }
  const mesh = meshOfThree()
  const { deployments } = mesh.get('a').source()
  const { stream } = await played(drawAnswer(deployments, needsOf(MODEL, { guesses })))
  const { tpotMs, speculatedTpotMs } = stream.predicted!
  expect(speculatedTpotMs).toBeLessThan(tpotMs)
  await played(deployments.close())
})

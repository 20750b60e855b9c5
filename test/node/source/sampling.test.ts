import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import { MAX_PENALTY_WINDOW } from '../../../models/runtime/sampling-limits.ts'
import { played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { onMeeting } from '../simulation/peers.ts'
import { OracleDraft } from './oracle-draft.ts'
import { type AnswerNeeds, drawAnswer, MODEL, meshOf, needsOf, PROMPT } from './simulated-answer.ts'

const NEW_TOKENS = 72
const GREEDY: Sampling = { temperature: 0, topP: 1, seed: 5, topLogprobs: 0 }
const SEEDED: Sampling = { ...GREEDY, temperature: 1, topP: 0.95 }
const penalties = { repetition: 1.5, frequency: 0.5, presence: 0.4, window: MAX_PENALTY_WINDOW }

/** Ways to draw whose tokens depend on those before them, or on how many there are. */
const WAYS: [name: string, sampling: Sampling][] = [
  ['penalties over all of the reply', { ...GREEDY, penalties }],
  ['penalties over a window', { ...GREEDY, penalties: { ...penalties, window: 7 } }],
  [
    'all of it, seeded',
    { ...SEEDED, topK: 30, minP: 0.02, penalties, minTokens: 40, ends: [1, 2, 3, 4, 5, 6] }
  ]
]

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const asked = (sampling: Sampling, over: Partial<AnswerNeeds> = {}) =>
  needsOf(MODEL, { newTokens: NEW_TOKENS, sampling, ...over })

async function drawnOn(mesh: SimulatedMesh, needs: AnswerNeeds) {
  const { deployments } = mesh.get('a').source()
  const drawn = await played(drawAnswer(deployments, needs))
  await played(deployments.close())
  return drawn
}

/** What a device that holds all of the model draws alone, which differs from what it draws without. */
async function truthOf(sampling: Sampling, over: Partial<AnswerNeeds> = {}): Promise<number[]> {
  const { tokens } = await drawnOn(meshOf(['a'], 5), asked(sampling, over))
  const { penalties: _, minTokens: __, ...without } = sampling
  expect(tokens).not.toEqual((await drawnOn(meshOf(['a'], 5), asked(without, over))).tokens)
  return tokens
}

function oracle(answer: readonly number[], seed = 1): OracleDraft {
  const { vocabSize } = MODEL.manifest.shape
  return new OracleDraft({ promptTokens: PROMPT.length, answer, right: 0.6, vocabSize, seed })
}

function meshOfThree(spare: string[] = []): SimulatedMesh {
  const mesh = meshOf(['a', 'b', 'c', ...spare])
  mesh.latencyMs = 10
  for (const { runtime } of mesh.nodes.values()) runtime.speed.stepMs = 8
  return mesh
}

/** What sessions on the last layers, and on others, were told of drawing. */
function told(mesh: SimulatedMesh): { last: (Sampling | undefined)[]; others: (Sampling | undefined)[] } {
  const opened = [...mesh.nodes.values()].flatMap(({ runtime }) => runtime.opened)
  const isLast = ({ range }: (typeof opened)[number]) => range[1] === MODEL.manifest.layers.length
  const samplings = (some: typeof opened) => some.map(({ sampling }) => sampling)
  return { last: samplings(opened.filter(isLast)), others: samplings(opened.filter(one => !isLast(one))) }
}

describe.each(WAYS)('%s', (_, sampling) => {
  test('draws the same tokens on three devices as on one, with guesses and without', async () => {
    const truth = await truthOf(sampling)
    const plain = meshOfThree()
    expect((await drawnOn(plain, asked(sampling))).tokens).toEqual(truth)
    // Only the stage that draws is told, and of the prompt only its length.
    const reply = { promptTokens: PROMPT.length, knownTokens: 0, lastIds: [] }
    expect(told(plain).last).toEqual([{ ...sampling, reply }])
    expect(new Set(told(plain).others)).toEqual(new Set([undefined]))
    const { tokens, stream } = await drawnOn(meshOfThree(), asked(sampling, { draft: oracle(truth) }))
    expect(tokens).toEqual(truth)
    expect([stream.guesses!.held > 10, stream.guesses!.dropped > 5]).toEqual([true, true])
  })

  test.each([
    ['b', 30, false],
    ['c', 30, false],
    ['c', 47, true]
  ])(
    'goes on with the same tokens where %s is lost at frame %i (guesses: %s)',
    async (id, frame, guesses) => {
      const truth = await truthOf(sampling)
      const mesh = meshOfThree(['d'])
      onMeeting(mesh.get(id), 'frame', () => mesh.vanish(id), frame)
      const draft = guesses ? oracle(truth) : undefined
      const { tokens, stream } = await drawnOn(mesh, asked(sampling, { draft }))
      expect(stream.recoveries).toBe(1)
      expect(tokens).toEqual(truth)
      const again = told(mesh).last.at(-1)!.reply!
      const known = truth.slice(0, again.knownTokens)
      expect(known.length).toBeGreaterThan(5)
      expect(again).toEqual({
        promptTokens: PROMPT.length,
        knownTokens: known.length,
        lastIds: known.slice(-sampling.penalties!.window)
      })
    }
  )

  test('is the same in company', async () => {
    const truth = await truthOf(sampling)
    const other: Sampling = { ...SEEDED, seed: 9, penalties: { ...penalties, window: 3 } }
    const truthOfOther = await truthOf(other)
    const { deployments } = meshOf(['a', 'b', 'c'], 0.9).get('a').source()
    const placement = { batch: 4 }
    const draw = (sampling: Sampling) =>
      drawAnswer(deployments, asked(sampling, { objective: 'throughput', placement }))
    const answers = await played(Promise.all([sampling, other, sampling, other].map(draw)))
    expect(answers.map(({ tokens }) => tokens)).toEqual([truth, truthOfOther, truth, truthOfOther])
    await played(deployments.close())
  })
})

test('the next turn of a conversation counts its own reply alone', async () => {
  const [, sampling] = WAYS[0]!
  const truth = await truthOf(sampling)
  const prompt = [...PROMPT, ...truth, 7]
  const next = await truthOf(sampling, { prompt })
  const mesh = meshOfThree()
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments, asked(sampling, { scope: 'mine' })))
  const turn = asked(sampling, { prompt, promptTokens: prompt.length, scope: 'mine' })
  const { tokens, stream } = await played(drawAnswer(deployments, turn))
  expect(stream.cachedTokens).toBeGreaterThan(PROMPT.length)
  expect(tokens).toEqual(next)
  await played(deployments.close())
})

test('tokens that are drawn within a long prompt, to show how far it is, count for nothing', async () => {
  const [, sampling] = WAYS[0]!
  // 29 chunks, with a milestone behind each eighth.
  const prompt = Array.from({ length: 900 }, (_, i) => (i * 7919) % 200)
  const needs = asked(sampling, { prompt, promptTokens: prompt.length })
  const on = async (ids: string[], share: number) => {
    const mesh = new SimulatedMesh(MODEL)
    const memoryBytes = shareOf(MODEL, share, 1, 1024)
    ids.forEach((id, at) => void mesh.add(id, { memoryBytes, models: at === 0 ? [MODEL] : [] }))
    return await drawnOn(mesh, needs)
  }
  const alone = await on(['a'], 4)
  const spread = await on(['a', 'b', 'c'], 0.42)
  expect(spread.stream.plan.stages).toHaveLength(3)
  expect(spread.tokens).toEqual(alone.tokens)
})

test('no token of the reply is sent where nothing counts them', async () => {
  const mesh = meshOfThree(['d'])
  onMeeting(mesh.get('c'), 'frame', () => mesh.vanish('c'), 30)
  const sampling = { ...SEEDED, topK: 30, minP: 0.1 }
  const { stream } = await drawnOn(mesh, asked(sampling))
  expect(stream.recoveries).toBe(1)
  expect(told(mesh).last).toEqual([sampling, sampling])
})

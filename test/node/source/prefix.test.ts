import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Deployments } from '../../../node/source/placement/deployments.ts'
import { RefusedError } from '../../../protocols/lease/index.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { OracleDraft } from './oracle-draft.ts'
import { type AnswerNeeds, drawAnswer, MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const NEW_TOKENS = 24
/** Instructions that many prompts begin with, and a question behind them. */
const prompt = (question: number, tokens = 300, common = 280): number[] =>
  Array.from({ length: tokens }, (_, i) => ((i < common ? i : i + 31 * question) * 7919) % 200)
const FIRST = prompt(1)

const asked = (tokens: number[], over: Partial<AnswerNeeds> = {}): AnswerNeeds =>
  needsOf(MODEL, {
    prompt: tokens,
    promptTokens: tokens.length,
    newTokens: NEW_TOKENS,
    scope: 'mine',
    ...over
  })

/** Devices of which a placement for so many sessions takes three; only the first has the model. */
function meshWith(ids: string[], sessions = 1, contextTokens = 512): SimulatedMesh {
  const mesh = new SimulatedMesh(MODEL)
  const memoryBytes = shareOf(MODEL, 0.42, sessions, contextTokens)
  ids.forEach((id, at) => void mesh.add(id, { memoryBytes, models: at === 0 ? [MODEL] : [] }))
  return mesh
}

const answered = (deployments: Deployments, needs: AnswerNeeds, options?: Parameters<typeof drawAnswer>[2]) =>
  played(drawAnswer(deployments, needs, options))

/** What a prompt is answered with where nothing was before. */
async function freshly(tokens: number[], over: Partial<AnswerNeeds> = {}): Promise<number[]> {
  const { deployments } = meshWith(['a', 'b', 'c'], 1, 1024).get('a').source()
  const { tokens: drawn, stream } = await answered(deployments, asked(tokens, over))
  expect(stream.cachedTokens).toBe(0)
  await played(deployments.close())
  return drawn
}

/** The source of a mesh that has answered the first prompt. */
async function begun(mesh: SimulatedMesh, over: Partial<AnswerNeeds> = {}) {
  const { deployments } = mesh.get('a').source()
  const { tokens, stream } = await answered(deployments, asked(FIRST, over))
  expect(stream.plan.stages.length).toBeGreaterThan(1)
  return { deployments, first: tokens }
}

test.each([
  ['the same prompt again', (_: number[]) => FIRST, 288],
  ['its last message edited', () => [...FIRST.slice(0, 290), 7, 7, 7], 288],
  ['another question behind the same instructions', () => prompt(2), 256],
  ['an answer of which a part was cut off', (first: number[]) => [...FIRST, ...first.slice(0, 9), 5, 5], 309],
  ['a next turn', (first: number[]) => [...FIRST, ...first, 5, 5], 323]
])(
  '%s goes on from the cache over several devices, and is answered as a fresh prompt is',
  async (_, next, cached) => {
    const { deployments, first } = await begun(meshWith(['a', 'b', 'c']))
    const tokens = next(first)
    const again = await answered(deployments, asked(tokens))
    expect(again.stream.cachedTokens).toBe(cached)
    expect(again.tokens).toEqual(await freshly(tokens))
    // Whoever names another conversation, or none, has none of it.
    for (const scope of ['yours', '']) {
      const others = await answered(deployments, asked(tokens, { scope }))
      expect([others.stream.cachedTokens, others.tokens]).toEqual([0, again.tokens])
    }
    await played(deployments.close())
  }
)

test('what is exact goes on from the very token at which the prompts part', async () => {
  const { deployments } = await begun(meshWith(['a', 'b', 'c']), { exact: true })
  const { tokens, stream } = await answered(deployments, asked(prompt(2), { exact: true }))
  expect([stream.cachedTokens, tokens]).toEqual([280, await freshly(prompt(2))])
  await played(deployments.close())
})

test('what goes on from a cache is as exact as what is in it, whoever is there now', async () => {
  const mesh = meshWith(['a', 'b', 'c', 'd'])
  const { serving } = mesh.get('b')
  const { open } = serving
  // Its kernels round otherwise.
  serving.open = async (...of) => ({ ...(await open.apply(serving, of)), exact: false })
  const { deployments } = mesh.get('a').source()
  const draw = async (tokens: number[]) => {
    const { stream } = await answered(deployments, asked(tokens, { exact: true }))
    return { exact: stream.exact, devices: stream.plan.stages.map(({ peerId }) => peerId) }
  }
  expect(await draw(FIRST)).toEqual({ exact: false, devices: ['a', 'b', 'c'] })
  mesh.vanish('b')
  // The last device has computed what it keeps from what came out of that one.
  expect(await draw(prompt(2))).toEqual({ exact: false, devices: ['a', 'd', 'c'] })
  expect((await draw(prompt(5, 300, 0))).exact).toBe(true)
  await played(deployments.close())
})

test.each(['b', 'c'])('an answer behind a cut cache survives the loss of %s', async lost => {
  const mesh = meshWith(['a', 'b', 'c', 'd'])
  const { deployments } = await begun(mesh)
  const again = await answered(deployments, asked(prompt(2)), {
    onToken: ({ length }) => {
      if (length === 7) mesh.vanish(lost)
    }
  })
  expect([again.stream.recoveries, again.stream.cachedTokens]).toEqual([1, 256])
  expect(again.tokens).toEqual(await freshly(prompt(2)))
  // A cache of which a stage was lost is cut like any other.
  const third = await answered(deployments, asked(prompt(3)))
  expect(third.tokens).toEqual(await freshly(prompt(3)))
  await played(deployments.close())
})

test('a prompt that is computed anew after a loss was not in a cache', async () => {
  const mesh = meshWith(['a', 'b', 'c', 'd'])
  const { deployments } = await begun(mesh)
  const { peers } = mesh.get('c')
  peers.meet = async what => {
    if (what === 'frame') mesh.vanish('c')
  }
  const { tokens, stream } = await answered(deployments, asked(prompt(2)))
  expect([stream.recoveries, stream.cachedTokens]).toEqual([1, 0])
  expect(tokens).toEqual(await freshly(prompt(2)))
  await played(deployments.close())
})

test('guesses follow a cut cache, and are cut themselves by the next one', async () => {
  const draftOf = (answer: number[]) =>
    new OracleDraft({
      ...{ promptTokens: FIRST.length, answer, right: 0.5 },
      vocabSize: MODEL.manifest.shape.vocabSize
    })
  const [truth, next] = [await freshly(FIRST), await freshly(prompt(2))]
  const { deployments } = await begun(meshWith(['a', 'b', 'c']), { draft: draftOf(truth) })
  const second = await answered(deployments, asked(prompt(2), { draft: draftOf(next) }))
  expect([second.stream.cachedTokens, second.tokens]).toEqual([256, next])
  expect(second.stream.guesses?.dropped).toBeGreaterThan(0)
  const third = await answered(deployments, asked(FIRST, { draft: draftOf(truth) }))
  expect([third.stream.cachedTokens, third.tokens]).toEqual([256, truth])
  await played(deployments.close())
})

test('answers that decode together each go on from what is theirs', async () => {
  const { deployments } = meshWith(['a', 'b', 'c'], 4).get('a').source()
  const questions = [1, 2, 3, 4]
  const shared = { objective: 'throughput', placement: { batch: 4 } } as const
  const draw = (extra: number) =>
    played(
      Promise.all(
        questions.map(i => {
          const tokens = [...prompt(i, 300, 0), ...Array<number>(extra).fill(i)]
          return drawAnswer(deployments, asked(tokens, { ...shared, scope: `${i}` }))
        })
      )
    )
  await draw(0)
  const again = await draw(3)
  expect(again.map(({ stream }) => stream.cachedTokens)).toEqual([300, 300, 300, 300])
  for (const [at, { tokens }] of again.entries()) {
    const i = questions[at]!
    expect(tokens).toEqual(await freshly([...prompt(i, 300, 0), i, i, i]))
  }
  await played(deployments.close())
})

/** A source with four slots over three devices, whose first answer runs while the others begin. */
async function beside(mesh: SimulatedMesh, questions: number[], onToken = (_: number[]) => {}) {
  const { deployments } = mesh.get('a').source()
  const shared = { objective: 'throughput', placement: { batch: 4 } } as const
  const draw = (question: number) => drawAnswer(deployments, asked(prompt(question), shared))
  const others: ReturnType<typeof drawAnswer>[] = []
  const first = drawAnswer(deployments, asked(FIRST, shared), {
    onToken: tokens => {
      if (tokens.length === 3) others.push(...questions.map(draw))
      onToken(tokens)
    }
  })
  const answers = [await played(first), ...(await played(Promise.all(others)))]
  await played(deployments.close())
  return answers
}

test('questions that come while the first is answered begin behind its instructions, copied on every device', async () => {
  const answers = await beside(meshWith(['a', 'b', 'c'], 4), [2, 3])
  expect(answers.map(({ stream }) => stream.cachedTokens)).toEqual([0, 256, 256])
  expect(answers[0]!.stream.plan.stages.length).toBeGreaterThan(1)
  for (const [i, { tokens }] of answers.entries()) expect(tokens).toEqual(await freshly(prompt(i + 1)))
})

test.each(['b', 'c'])('answers behind a copied cache survive the loss of %s', async lost => {
  const mesh = meshWith(['a', 'b', 'c', 'd'], 4)
  const answers = await beside(mesh, [2, 3], ({ length }) => {
    if (length === 9) mesh.vanish(lost)
  })
  expect(answers.map(({ stream }) => stream.recoveries)).toEqual([1, 1, 1])
  for (const [i, { tokens }] of answers.entries()) expect(tokens).toEqual(await freshly(prompt(i + 1)))
})

test('an answer that comes back where another has drawn all that is known of it goes on behind that', async () => {
  const mesh = meshWith(['a', 'b', 'c', 'd'], 4)
  const { deployments } = mesh.get('a').source()
  const needs = asked(FIRST, { objective: 'throughput', placement: { batch: 4 } })
  const first = drawAnswer(deployments, needs, {
    onToken: ({ length }) => {
      if (length === 9) mesh.vanish('c')
    }
  })
  // Its client reads so slowly that the other one is through when it hears of the loss.
  const late = drawAnswer(deployments, needs, {
    onToken: async ({ length }) => {
      if (length === 5) await first
    }
  })
  const answers = await played(Promise.all([first, late]))
  await played(deployments.close())
  const truth = await freshly(FIRST)
  expect(answers.map(({ tokens, stream }) => [tokens, stream.recoveries])).toEqual([
    [truth, 1],
    [truth, 1]
  ])
})

test('a device of a version that cannot copy computes all of it', async () => {
  const mesh = meshWith(['a', 'b', 'c'], 4)
  const { serving } = mesh.get('c')
  const { open } = serving
  serving.open = async (peerId, request) => {
    if (request.copyFrom !== undefined) throw new RefusedError('not-understood', 'copyFrom is unknown')
    return await open.call(serving, peerId, request)
  }
  const answers = await beside(mesh, [2, 3])
  expect(answers.map(({ stream }) => [stream.recoveries, stream.cachedTokens])).toEqual([
    [0, 0],
    [0, 0],
    [0, 0]
  ])
  for (const [i, { tokens }] of answers.entries()) expect(tokens).toEqual(await freshly(prompt(i + 1)))
})

test('a client that leaves within its prompt finds again what was computed of it', async () => {
  const long = prompt(1, 900, 0)
  const mesh = meshWith(['a', 'b', 'c'], 1, 1024)
  for (const { runtime } of mesh.nodes.values()) runtime.speed.stepMs = 10
  const { deployments } = mesh.get('a').source()
  await answered(deployments, asked(prompt(5, 900, 0), { scope: 'other' }))
  const leaving = new AbortController()
  const left = answered(deployments, asked(long), { signal: leaving.signal })
  left.catch(() => {})
  // Of 29 chunks about half are through then.
  await pass(200)
  leaving.abort(new Error('the client has left'))
  await expect(left).rejects.toThrow('the client has left')
  const { tokens, stream } = await answered(deployments, asked(long))
  expect(stream.cachedTokens).toBeGreaterThanOrEqual(256)
  expect(stream.cachedTokens).toBeLessThan(900)
  expect(tokens).toEqual(await freshly(long))
  await played(deployments.close())
})

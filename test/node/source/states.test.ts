import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Deployments } from '../../../node/source/placement/deployments.ts'
import { prng } from '../../fixtures/prng.ts'
import { STATEFUL } from '../../fixtures/random-model.ts'
import { played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf, simulatedModel } from '../simulation/mesh.ts'
import { OracleDraft } from './oracle-draft.ts'
import { type AnswerNeeds, drawAnswer, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const MODEL = simulatedModel('states', STATEFUL)
const ROUNDS = 4
const ENDS = new Set(['StageLostError', 'PlanRefusedError', 'BusyError'])
/** 300 tokens go in as nine chunks of 32 at most, the last of 16: kept are the states of 284 and of all. */
const PROMPT = Array.from({ length: 300 }, (_, i) => (i * 7919) % 200)

const asked = (tokens: number[], over: Partial<AnswerNeeds> = {}): AnswerNeeds =>
  needsOf(MODEL, { prompt: tokens, promptTokens: tokens.length, newTokens: 24, scope: 'mine', ...over })

function meshWith(ids: string[], sessions = 1, share = 0.42): SimulatedMesh {
  const mesh = new SimulatedMesh(MODEL)
  const memoryBytes = shareOf(MODEL, share, sessions, 512)
  ids.forEach((id, at) => void mesh.add(id, { memoryBytes, models: at === 0 ? [MODEL] : [] }))
  return mesh
}

const answered = (deployments: Deployments, needs: AnswerNeeds, options?: Parameters<typeof drawAnswer>[2]) =>
  played(drawAnswer(deployments, needs, options))

async function freshly(tokens: number[], over: Partial<AnswerNeeds> = {}): Promise<number[]> {
  const { deployments } = meshWith(['a', 'b', 'c']).get('a').source()
  const { tokens: drawn } = await answered(deployments, asked(tokens, over))
  await played(deployments.close())
  return drawn
}

test.each([
  ['a next turn', (first: number[]) => [...PROMPT, ...first, 5, 5], 323],
  [
    'an answer of which a part was cut off',
    (first: number[]) => [...PROMPT, ...first.slice(0, 9), 5, 5],
    300
  ],
  ["a template's other end of the turn", () => [...PROMPT.slice(0, 298), 7, 7, 7], 284],
  ['the same prompt again', () => PROMPT, 284],
  ['what parts before every state', () => [...PROMPT.slice(0, 280), ...PROMPT.slice(0, 20)], 0]
])('%s goes on from a state that every device kept, or begins again', async (_, next, cached) => {
  const { deployments } = meshWith(['a', 'b', 'c']).get('a').source()
  const { tokens: first, stream } = await answered(deployments, asked(PROMPT))
  expect(stream.plan.stages.length).toBeGreaterThan(1)
  const tokens = next(first)
  const again = await answered(deployments, asked(tokens))
  expect(again.stream.cachedTokens).toBe(cached)
  expect(again.tokens).toEqual(await freshly(tokens))
  await played(deployments.close())
})

test('an answer that its client leaves is gone on from where its prompt ended', async () => {
  const { deployments } = meshWith(['a', 'b', 'c']).get('a').source()
  const gone = new AbortController()
  const leaving = answered(deployments, asked(PROMPT), {
    signal: gone.signal,
    onToken: ({ length }) => {
      if (length === 5) gone.abort(new Error('the client has gone'))
    }
  })
  await expect(leaving).rejects.toThrow('the client has gone')
  const next = [...PROMPT, 9, 9, 9]
  const again = await answered(deployments, asked(next))
  expect([again.stream.cachedTokens, again.tokens]).toEqual([300, await freshly(next)])
  await played(deployments.close())
})

test.each(['b', 'c'])('the loss of %s is made good by computing everything known again', async lost => {
  const mesh = meshWith(['a', 'b', 'c', 'd'])
  const { deployments } = mesh.get('a').source()
  const { tokens, stream } = await answered(deployments, asked(PROMPT), {
    onToken: ({ length }) => {
      if (length === 7) mesh.vanish(lost)
    }
  })
  expect([stream.recoveries, tokens]).toEqual([1, await freshly(PROMPT)])
  const next = [...PROMPT, ...tokens, 5]
  const again = await answered(deployments, asked(next))
  expect(again.tokens).toEqual(await freshly(next))
  await played(deployments.close())
})

test('nothing is guessed, whoever would draft', async () => {
  const truth = await freshly(PROMPT)
  const draft = new OracleDraft({
    ...{ promptTokens: PROMPT.length, answer: truth, right: 0.5 },
    vocabSize: MODEL.manifest.shape.vocabSize
  })
  const { deployments } = meshWith(['a', 'b', 'c']).get('a').source()
  const { tokens, stream } = await answered(deployments, asked(PROMPT, { draft }))
  expect([tokens, stream.guesses]).toEqual([truth, undefined])
  await played(deployments.close())
})

test('answers that decode together each go on from what is theirs, and copy nothing', async () => {
  const { deployments } = meshWith(['a', 'b', 'c'], 4, 0.6).get('a').source()
  const shared = { objective: 'throughput', placement: { batch: 4 } } as const
  const questions = [1, 2, 3, 4]
  const draw = (extra: number) =>
    played(
      Promise.all(
        questions.map(i => {
          const tokens = [...PROMPT, i, i, ...Array<number>(extra).fill(i)]
          return drawAnswer(deployments, asked(tokens, { ...shared, scope: 'mine' }))
        })
      )
    )
  await draw(0)
  const again = await draw(3)
  for (const [at, { tokens }] of again.entries()) {
    const i = questions[at]!
    expect(tokens).toEqual(await freshly([...PROMPT, i, i, i, i, i]))
  }
  await played(deployments.close())
})

test(`in ${ROUNDS} meshes with random losses every answer is right or says why not`, async () => {
  const turns = [PROMPT.slice(0, 40), [...PROMPT.slice(0, 40), 3, 3], PROMPT.slice(0, 35)]
  const expected: (number[] | undefined)[] = []
  let right = 0
  for (let seed = 1; seed <= ROUNDS; seed++) {
    const random = prng(seed)
    const mesh = meshWith(['a', 'b', 'c', 'd', 'e'], 2)
    const { deployments } = mesh.get('a').source()
    for (let losses = Math.floor(random() * 3); losses > 0; losses--) {
      const id = ['b', 'c', 'd', 'e'][Math.floor(random() * 4)]!
      const lose = random() < 0.5 ? () => mesh.vanish(id) : () => void mesh.silence(id)
      setTimeout(lose, Math.floor(random() * 600))
    }
    const drawn = turns.map(async (tokens, i) => {
      await new Promise(resolve => setTimeout(resolve, Math.floor(random() * 400)))
      try {
        return { i, answer: (await drawAnswer(deployments, asked(tokens))).tokens }
      } catch (error) {
        if (!ENDS.has((error as Error).name)) throw error
        return undefined
      }
    })
    for (const found of await played(Promise.all(drawn))) {
      if (found === undefined) continue
      expected[found.i] ??= await freshly(turns[found.i]!)
      expect(found.answer, `seed ${seed}`).toEqual(expected[found.i])
      right++
    }
    await played(deployments.close())
  }
  expect(right).toBeGreaterThan(ROUNDS)
})

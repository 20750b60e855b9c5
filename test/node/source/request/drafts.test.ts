import { expect, test } from 'vitest'
import { weightBytes } from '../../../../models/runtime/memory.ts'
import type { Speculate } from '../../../../node/api.ts'
import { RequestError } from '../../../../node/errors.ts'
import type { DraftPair, Guesses } from '../../../../node/source/draft/acceptances.ts'
import { AnswerPool } from '../../../../node/source/draft/answer-pool.ts'
import { Drafts } from '../../../../node/source/request/drafts.ts'
import { STATEFUL } from '../../../fixtures/random-model.ts'
import { simulatedModel } from '../../simulation/mesh.ts'
import { MODEL } from '../simulated-answer.ts'

const LAYER = simulatedModel('layer')

/** Drafts of a source without a model that drafts, for a target without a layer that guesses unless it has one. */
function draftsOf(usual: Speculate, target: typeof MODEL = MODEL, layer?: typeof MODEL) {
  const guessing = async () => {
    if (layer !== undefined) return layer
    throw new RequestError('it has no layer that guesses', 'speculate')
  }
  const models = { find: async () => undefined, guessing, open: async () => undefined }
  const counted: unknown[] = []
  const acceptances = {
    share: async ({ drafter }: DraftPair) => ({ ngram: 0.25, [LAYER.id]: 0.75 })[drafter],
    count: async (pair: DraftPair, guesses: Guesses) => void counted.push([pair, guesses])
  }
  const drafts = new Drafts({ pool: new AnswerPool(), models, acceptances }, usual)
  const open = async (speculate?: Speculate, named?: string) =>
    await drafts.open(
      { speculate, named, target, scope: 'mine', maxTokens: 64, requestId: 'r' },
      { signal: new AbortController().signal }
    )
  const expected = async (speculate?: Speculate, named?: string) =>
    await drafts.expected({ speculate, named, target }, { signal: new AbortController().signal })
  return { open, expected, counted }
}

test('a request says whether its tokens are guessed, else the node', async () => {
  expect(await draftsOf('off').open()).toBeUndefined()
  expect(await draftsOf('auto').open('off')).toBeUndefined()
  expect((await draftsOf('ngram').open())!.kind).toBe('ngram')
  expect((await draftsOf('off').open('auto'))!.kind).toBe('ngram')
})

test('a model that is asked for and is not there is refused by name', async () => {
  await expect(draftsOf('off').open('draft')).rejects.toMatchObject({ name: 'RequestError', param: 'draft' })
})

test('a model without a layer that guesses is refused where that is asked for', async () => {
  await expect(draftsOf('off').open('mtp')).rejects.toMatchObject({
    name: 'RequestError',
    param: 'speculate'
  })
})

test('what an answer said is where the next one to the same client is guessed from', async () => {
  const { open } = draftsOf('ngram')
  const first = (await open())!
  await first.end([1, 2, 3, 4, 5, 6])
  expect(await (await open())!.propose([9, 2, 3, 4], 2)).toEqual([5, 6])
})

test('whoever names a model that drafts wants it to, unless they say otherwise', async () => {
  await expect(draftsOf('off').open(undefined, 'mine')).rejects.toMatchObject({ param: 'draft' })
  expect(await draftsOf('off').open('off', 'mine')).toBeUndefined()
})

test('its guesses are counted when an answer ends, and what is known of others goes with it', async () => {
  const { open, counted } = draftsOf('ngram')
  const draft = (await open())!
  expect(draft.acceptance).toBe(0.25)
  for (const right of [true, false, true]) draft.judged?.(right)
  await draft.end()
  expect(counted).toEqual([
    [
      { modelId: MODEL.id, drafter: 'ngram' },
      { guesses: 3, held: 2 }
    ]
  ])
})

test('nothing is guessed for a model with states, and who asks for it is told', async () => {
  const { shape } = MODEL.manifest
  const target = { ...MODEL, manifest: { ...MODEL.manifest, shape: { ...shape, ...STATEFUL } } }
  expect(await draftsOf('auto', target).open()).toBeUndefined()
  expect(await draftsOf('auto', target).open('off')).toBeUndefined()
  const refused = /no tokens are guessed ahead for .*: its layers have states/
  await expect(draftsOf('off', target).open('ngram')).rejects.toThrow(refused)
  await expect(draftsOf('off', target).open(undefined, 'mine')).rejects.toThrow(refused)
})

test('a plan counts on what was counted of the draft that an answer would have, and opens none', async () => {
  const { expected, counted } = draftsOf('off')
  expect(await expected()).toBeUndefined()
  expect(await expected('ngram')).toEqual({ acceptance: 0.25, draftBytes: 0 })
  // No model drafts here: what is looked up does.
  expect(await expected('auto')).toEqual({ acceptance: 0.25, draftBytes: 0 })
  expect(await expected('draft')).toBeUndefined()
  expect(await draftsOf('ngram').expected()).toEqual({ acceptance: 0.25, draftBytes: 0 })
  const { shape } = MODEL.manifest
  const stateful = { ...MODEL, manifest: { ...MODEL.manifest, shape: { ...shape, ...STATEFUL } } }
  expect(await draftsOf('ngram', stateful).expected()).toBeUndefined()
  expect(counted).toEqual([])
})

test('a plan counts on the guesses of the layer that a model came with, and says where it came without', async () => {
  const draftBytes = weightBytes(LAYER.manifest)
  const counted = { acceptance: 0.75, draftBytes }
  expect(await draftsOf('off', MODEL, LAYER).expected('mtp')).toEqual(counted)
  expect(await draftsOf('mtp', MODEL, LAYER).expected()).toEqual(counted)
  await expect(draftsOf('off').expected('mtp')).rejects.toMatchObject({ param: 'speculate' })
})

import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRuntime } from '../../../../models/runtime/client.ts'
import { weightBytes } from '../../../../models/runtime/memory.ts'
import type { Runtime } from '../../../../models/runtime/runtime.ts'
import type { Sampling } from '../../../../models/runtime/sampler.ts'
import { ModelStore, type StoredModel } from '../../../../models/store/store.ts'
import { vocabularyId } from '../../../../models/tokenizer/vocabulary-id.ts'
import { BUNDLED_DIR } from '../../../../node/bundled.ts'
import { BUNDLED_DRAFT, DEFAULT_MODEL } from '../../../../node/constants.ts'
import { ModelDraft } from '../../../../node/source/draft/model-draft.ts'
import { sideFilesOf } from '../../../../node/source/placement/model-tokenizer.ts'
import { answersOf, heldOutPrompts, rightGuesses } from '../../../fixtures/acceptance.ts'
import { GREEDY } from '../../../fixtures/shards.ts'

const store = ModelStore.at(BUNDLED_DIR)
let runtime: Runtime
let target: StoredModel
let small: StoredModel
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
  target = await store.resolve(DEFAULT_MODEL)
  small = await store.resolve(BUNDLED_DRAFT)
})
afterAll(() => runtime.stop())

test('the draft that comes along has the vocabulary of the bundled model, its context, and about a tenth of its weights', async () => {
  const vocabularies = await Promise.all(
    [target, small].map(async model => vocabularyId(await sideFilesOf(store, model)))
  )
  expect(vocabularies[0]).toBe(vocabularies[1])
  expect(small.manifest.shape.contextLength).toBe(target.manifest.shape.contextLength)
  const decoders = ({ manifest }: StoredModel) => weightBytes(manifest, [1, manifest.layers.length])
  expect(decoders(small) / decoders(target)).toBeLessThan(0.15)
})

const SEEDED: Sampling = { temperature: 0.8, topP: 0.95, seed: 1, topLogprobs: 0 }
test.each([
  ['the likeliest tokens', GREEDY, 0.7],
  ['tokens drawn at 0.8', SEEDED, 0.6]
])('it is right with %s more often than the floor', async (_, sampling, floor) => {
  const prompts = await heldOutPrompts(8)
  const answers = await answersOf(runtime, store, target, { prompts, sampling, most: 24 })
  const range: [number, number] = [0, small.manifest.layers.length]
  const shard = await runtime.load({ manifest: small.manifest, range, blobsDir: store.blobsDir })
  let right = 0
  let guesses = 0
  for (const answer of answers) {
    const maxTokens = answer.prompt.length + answer.tokens.length
    const session = await shard.open({ maxTokens, sampling: GREEDY })
    const { vocabSize } = small.manifest.shape
    right += await rightGuesses(new ModelDraft({ session, maxTokens, vocabSize }), answer)
    guesses += answer.tokens.length
    await session.close()
  }
  await shard.release()
  expect(guesses).toBeGreaterThan(100)
  expect(right / guesses).toBeGreaterThan(floor)
})

test('a vocabulary is the tokens of its ids, whatever else tokenizer.json says', () => {
  const files = (json: object) => ({ 'tokenizer.json': new TextEncoder().encode(JSON.stringify(json)) })
  const base = { model: { vocab: { a: 0, b: 1 } }, added_tokens: [{ id: 2, content: '<end>' }] }
  const id = vocabularyId(files(base))
  expect(id).toMatch(/^[0-9a-f]{64}$/)
  expect(vocabularyId(files({ ...base, decoder: null, version: '1.0' }))).toBe(id)
  expect(vocabularyId(files({ ...base, model: { vocab: { b: 1, a: 0 }, merges: ['a b'] } }))).toBe(id)
  expect(vocabularyId(files({ ...base, model: { vocab: { a: 1, b: 0 } } }))).not.toBe(id)
  expect(vocabularyId(files({ ...base, added_tokens: [] }))).not.toBe(id)
  expect(vocabularyId(files({ ...base, added_tokens: [{ id: 1, content: '<end>' }] }))).not.toBe(id)
})

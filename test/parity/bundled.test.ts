import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore, type StoredModel } from '../../models/store/store.ts'
import { loadTokenizer } from '../../models/tokenizer/tokenizer.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { prepared } from '../fixtures/prepared.ts'
import { LocalStages } from '../fixtures/shards.ts'

const COUNT = 40

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

it('the bundled model gives the same tokens and log-probabilities wherever it is cut', async () => {
  const store = ModelStore.at(BUNDLED_DIR)
  const [model] = await store.list()
  const { manifest } = model!
  const prompt = await prepared('bundled-prompt', () => encodedPrompt(store, model!))
  const { blobsDir } = store
  await using whole = await LocalStages.open(runtime, { manifest, blobsDir })
  const expected = await whole.generate(prompt, COUNT)
  expect(expected.every(({ id }) => !manifest.eosTokenIds.includes(id))).toBe(true)
  const every = Array.from({ length: manifest.layers.length - 1 }, (_, i) => i + 1)
  for (const cuts of [...every.map(cut => [cut]), every]) {
    await using stages = await LocalStages.open(runtime, { manifest, blobsDir }, cuts)
    expect(await stages.generate(prompt, COUNT), `cut at ${cuts}`).toEqual(expected)
  }
})

async function encodedPrompt(store: ModelStore, model: StoredModel): Promise<number[]> {
  const { bosTokenId, eosTokenIds } = model.manifest
  const files: Record<string, Uint8Array> = {}
  for (const name of Object.keys(model.manifest.files)) files[name] = (await store.readSideFile(model, name))!
  const tokenizer = await loadTokenizer({ files, bosTokenId, eosTokenIds })
  const content = 'Tell me a story about a robot and a lamp.'
  const prompt = await tokenizer.encodeChat([{ role: 'user', content }])
  await tokenizer.close()
  return prompt
}

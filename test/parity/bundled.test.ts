import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { loadTokenizer } from '../../models/tokenizer/tokenizer.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
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
  const names = Object.keys(manifest.files)
  const files = await Promise.all(
    names.map(async name => [name, await store.readSideFile(model!, name)] as const)
  )
  const tokenizer = await loadTokenizer({
    files: Object.fromEntries(files) as Record<string, Uint8Array>,
    bosTokenId: manifest.bosTokenId,
    eosTokenIds: manifest.eosTokenIds
  })
  const prompt = await tokenizer.encodeChat([
    { role: 'user', content: 'Tell me a story about a robot and a lamp.' }
  ])
  await tokenizer.close()

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

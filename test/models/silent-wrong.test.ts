import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

/**
 * Small checkpoints that computed wrong numbers without a word: each is refused by the name of what is not computed, or
 * right beside transformers and llama.cpp in float64.
 */
const REFUSED: [name: string, message: RegExp][] = [
  ['gguf-add-eos.gguf', /tokenizer\.ggml\.add_eos_token/],
  ['gguf-attn-factor.gguf', /llama\.rope\.scaling\.attn_factor/],
  ['gguf-freqs-and-linear.gguf', /llama\.rope\.scaling\.factor 4 together with rope_freqs\.weight/],
  ['hf-rope-both-keys', /rope_parameters and rope_scaling/],
  ['hf-rope-both-keys-yarn', /rope_parameters and rope_scaling/]
]
/** With the context that must not be passed for the answer to stay right. */
const RIGHT: [name: string, key: 'right' | 'ignored', context: number][] = [
  ['gguf-rope-factor-without-type.gguf', 'right', 512],
  ['gguf-rope-scale-linear-old.gguf', 'right', 512],
  ['hf-tied-true-lm-head-differs', 'right', 512],
  // The prompt lies within the window that the class has by default, as if there were none.
  ['hf-mistral-window-absent', 'ignored', 32_768]
]

const TOLERANCE = 1e-3
const cases = (path: string) => sharedData(`../cases/silent-wrong/${path}`)

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

describe.skipIf(!hasSharedData)('nothing is computed wrong in silence', () => {
  it.each(REFUSED)('%s is refused by name', async (name, message) => {
    await using folder = await temporaryFolder()
    const store = await ModelStore.open(folder.path)
    await expect(importModel(cases(name), store, { name: 'x' })).rejects.toThrow(message)
  })

  it.each(RIGHT)('%s is right', async (name, key, context) => {
    await using folder = await temporaryFolder()
    const store = await ModelStore.open(folder.path)
    const { manifest } = await importModel(cases(name), store, { name: 'x' })
    expect(manifest.shape.contextLength).toBe(context)
    const json = async (file: string) => JSON.parse(await readFile(cases(file), 'utf8'))
    const ids: number[] = (await json('ids.json'))['*']
    const expected: number[] = (await json('expected.json'))[name][key]
    const model = { manifest, blobsDir: store.blobsDir }
    await using stages = await LocalStages.open(runtime, model, [2], { maxTokens: ids.length + 4 })
    const [first] = await stages.generate(ids, 1)
    for (const { id, logprob } of first!.top) {
      expect(Math.abs(logprob - expected[id]!), `token ${id}`).toBeLessThan(TOLERANCE)
    }
  })
})

import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { KvCache } from '../../models/kv-cache.ts'
import type { Manifest } from '../../models/manifest.ts'
import { Tensor } from '../../models/onnx/session.ts'
import { INPUT, LOG_SUM, LOGITS, ROWS } from '../../models/onnx/shard-graph.ts'
import { ShardExecutor } from '../../models/shard-executor.ts'
import { SlotTensors } from '../../models/slot-tensors.ts'
import { ModelStore } from '../../models/store/store.ts'
import { loadTokenizer } from '../../models/tokenizer/tokenizer.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

// These sessions are in this thread, without the runtime that sets it.
process.env.ORT_DISABLE_TELEMETRY = '1'

const WINDOW = 256

/** llama.cpp's own figures on the same text by the same rule (context 256). */
const CASES = [
  { path: 'stories260k/hf', expected: 6.048 },
  { path: 'stories260k/gguf/stories260K-pad192-q8_0.gguf', expected: 6.061 },
  { path: 'stories260k/gguf/stories260K-pad192-q4_0.gguf', expected: 6.803 }
]

describe.skipIf(!hasSharedData)('perplexity on TinyStories', () => {
  it.each(CASES)(
    "$path: within 0.5 % of llama.cpp's $expected",
    { timeout: 120_000 },
    async ({ path, expected }) => {
      await using folder = await temporaryFolder()
      const store = await ModelStore.open(folder.path)
      const model = await importModel(sharedData(path), store, { name: 'golden' })
      const text = await readFile(sharedData('text/tinystories-197k.txt'), 'utf8')
      const tokens = await encode(store, model, text)
      const perplexity = await measure(model.manifest, store.blobsDir, tokens)
      expect(Math.abs(perplexity / expected - 1), `perplexity ${perplexity}`).toBeLessThan(0.005)
    }
  )
})

async function encode(
  store: ModelStore,
  model: Awaited<ReturnType<typeof importModel>>,
  text: string
): Promise<number[]> {
  const files: Record<string, Uint8Array> = {}
  for (const name of Object.keys(model.manifest.files)) files[name] = (await store.readSideFile(model, name))!
  const { bosTokenId, eosTokenIds } = model.manifest
  const tokenizer = await loadTokenizer({ files, bosTokenId, eosTokenIds, callTimeoutMs: 60_000 })
  const tokens = await tokenizer.encode(text)
  await tokenizer.close()
  return tokens
}

/**
 * llama.cpp's rule: windows of 256 tokens with BOS in the first place, of which the second half is scored, each token
 * by the logits of the one before it.
 */
async function measure(manifest: Manifest, blobsDir: string, tokens: number[]): Promise<number> {
  const { vocabSize } = manifest.shape
  const range = [0, manifest.layers.length] as const
  const shard = await ShardExecutor.load({ manifest, range, blobsDir }, 2)
  const cache = new KvCache(manifest.shape, range, WINDOW)
  const { feeds, fetches, place } = bind(new SlotTensors(shard, cache, [0, 1]))
  const rows = Int32Array.from({ length: WINDOW / 2 - 1 }, (_, i) => WINDOW / 2 + i)
  const logits = new Float32Array(rows.length * vocabSize)
  const logSums = new Float32Array(rows.length)
  const ids = new Int32Array(WINDOW)
  feeds[INPUT] = new Tensor('int32', ids, [1, WINDOW])
  feeds[ROWS] = new Tensor('int32', rows, [rows.length])
  fetches[LOGITS] = new Tensor('float32', logits, [rows.length, vocabSize])
  fetches[LOG_SUM] = new Tensor('float32', logSums, [rows.length, 1])
  let sum = 0
  let count = 0
  for (let start = 0; start + WINDOW <= tokens.length; start += WINDOW) {
    ids.set(tokens.slice(start, start + WINDOW))
    ids[0] = manifest.bosTokenId!
    place([0], WINDOW)
    await shard.run(feeds, fetches)
    rows.forEach((row, i) => {
      sum += logSums[i]! - logits[i * vocabSize + ids[row + 1]!]!
      count++
    })
  }
  await shard.release()
  return Math.exp(sum / count)
}

function bind(tensors: SlotTensors) {
  return { feeds: tensors.feeds, fetches: tensors.fetches, place: tensors.place.bind(tensors) }
}

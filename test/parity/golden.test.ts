import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import type { Runtime } from '../../models/runtime.ts'
import { startRuntime } from '../../models/runtime-client.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

/** What llama.cpp answers: greedy ids and, for each, the five likeliest with their log-probabilities. */
interface Golden {
  prompt_tokens: number[]
  tokens: number[]
  top: [id: number, logprob: number][][]
}

/** Both sides compute in float32, in other orders; llama.cpp prints six decimals. */
const TOLERANCE = 1e-3

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 2 })
})
afterAll(() => runtime.stop())

const CHECKPOINTS = [
  { hf: 'stories260k/hf', reference: 'reference/stories260K-f32.p1.json' },
  ...['llama2-mha', 'llama3-gqa-rope', 'mistral', 'qwen2-bias', 'qwen3-qknorm'].map(name => ({
    hf: `arch/${name}/hf`,
    reference: `arch/${name}/reference.json`
  }))
]

describe.skipIf(!hasSharedData)('checkpoints against llama.cpp', () => {
  it.each(CHECKPOINTS)('$hf gives the same tokens and log-probabilities', async ({ hf, reference }) => {
    await using folder = await temporaryFolder()
    const store = await ModelStore.open(folder.path)
    const { manifest } = await importModel(sharedData(hf), store, { name: 'golden' })
    const golden: Golden = JSON.parse(await readFile(sharedData(reference), 'utf8'))
    await using stages = await LocalStages.open(runtime, { manifest, blobsDir: store.blobsDir }, [2])
    const drawn = await stages.generate(golden.prompt_tokens, golden.tokens.length)
    expect(drawn.map(token => token.id)).toEqual(golden.tokens)
    drawn.forEach((token, i) => {
      for (const [id, logprob] of golden.top[i]!) {
        const ours = token.top.find(t => t.id === id)
        // The fifth and sixth may be closer than the tolerance.
        if (ours !== undefined) expect(Math.abs(ours.logprob - logprob), `token ${i}`).toBeLessThan(TOLERANCE)
      }
      expect(token.top[0]!.logprob - golden.top[i]![0]![1], `token ${i}`).toBeCloseTo(0, 3)
    })
  })
})

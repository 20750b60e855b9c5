/**
 * Anonymous memory that a loaded shard adds to an empty runtime, against its weights' bytes: at most 1.3.
 *
 *     node test/bench/memory.ts [--threads 2]
 *
 * File pages of the weights are not counted: the system takes them back when it needs memory. Linux only.
 */
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import type { LayerRange } from '../../models/layers.ts'
import type { Quantization } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { kvBytes, weightBytes } from '../../models/runtime/memory.ts'
import { withAllocation } from './allocation.ts'
import { OWN, Q4_0, randomModel, SHAPE } from './runtime-models.ts'

const LAYERS = SHAPE.decoderLayers + 2
const GREEDY = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }
const MAX_TOKENS = 512
const PROMPT_TOKENS = 32

/** Ranges in the middle of a model, and all of it. */
const CASES: { label: string; quantization: Quantization; range: LayerRange }[] = [
  { label: '4 bits, blocks of 128', quantization: OWN, range: [1, LAYERS - 1] },
  { label: '4 bits, blocks of 128', quantization: OWN, range: [0, LAYERS] },
  { label: '4 bits, blocks of 32', quantization: Q4_0, range: [0, LAYERS] },
  { label: '8 bits, blocks of 128', quantization: { bits: 8, blockSize: 128 }, range: [0, LAYERS] }
]

const { values } = parseArgs({ options: { threads: { type: 'string', default: '2' } } })
if (withAllocation()) await main(Number(values.threads))

async function main(threads: number): Promise<void> {
  const head = ['weights', 'layers', 'MB', 'loaded', 'in use, less KV', 'after release']
  const table = new Table({ head, style: { head: [], border: [] } })
  for (const { label, quantization, range } of CASES) {
    await using model = await randomModel(label, quantization)
    const { manifest, blobsDir } = model
    const runtime = await startRuntime({ threads })
    const empty = anonymousBytes()
    const shard = await runtime.load({ manifest, range, blobsDir })
    const loaded = anonymousBytes() - empty
    const session = await shard.open({ maxTokens: MAX_TOKENS, sampling: GREEDY })
    const input =
      range[0] === 0
        ? new Int32Array(PROMPT_TOKENS)
        : {
            tokens: PROMPT_TOKENS,
            data: new Float32Array(new SharedArrayBuffer(4 * PROMPT_TOKENS * SHAPE.hiddenSize)).fill(0.1)
          }
    await session.forward({ position: 0, input, sample: true })
    const used = anonymousBytes() - empty - kvBytes(SHAPE, range, MAX_TOKENS)
    await shard.release()
    const released = anonymousBytes() - empty
    await runtime.stop()
    const bytes = weightBytes(manifest, range)
    const ratio = (measured: number) => (measured / bytes).toFixed(2)
    table.push([label, `[${range}]`, (bytes / 1e6).toFixed(0), ratio(loaded), ratio(used), ratio(released)])
  }
  console.log(table.toString())
}

function anonymousBytes(): number {
  const [, kib] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))!
  return Number(kib) * 1024
}

/**
 * Anonymous memory that a loaded shard adds to an empty runtime, by format: over its files, and over what a lease on it
 * costs, with its KV cache full: at most 1.08.
 *
 *     node test/bench/memory.ts [--threads 2] [--layers 22]
 *
 * `packed` is what models/runtime/memory.ts counts over the files, on any processor at most; `loaded` and the highest that was
 * seen while it was loaded are of this one. `regions`: what steps of 1 to 32 tokens in any order made ONNX Runtime keep, over what
 * is alive at once in one of 32 (REGIONS_FACTOR there). File pages of the weights are not counted: the system takes them
 * back when it needs memory. Linux only.
 */
import { readFileSync } from 'node:fs'
import Table from 'cli-table3'
import type { LayerRange } from '../../models/layers.ts'
import type { ModelShape, Quantization } from '../../models/manifest.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { heldBytes, leaseBytes, weightBytes } from '../../models/runtime/memory.ts'
import type { ForwardInput, Runtime } from '../../models/runtime/runtime.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { withAllocation } from './allocation.ts'
import { OWN, Q4_0, randomModel, SHAPE } from './runtime-models.ts'

const GREEDY = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }
const MAX_TOKENS = 512
const PROMPT_TOKENS = 32
const POLL_MS = 2

const { values } = commandOptions(import.meta.url, {
  options: { threads: { type: 'string', default: '2' }, layers: { type: 'string', default: '22' } }
})
const DECODER_LAYERS = Number(values.layers)
const WHOLE: LayerRange = [0, DECODER_LAYERS + 2]
const MIDDLE: LayerRange = [1, DECODER_LAYERS + 1]

const CASES: { label: string; quantization?: Quantization; range: LayerRange }[] = [
  { label: '4 bits, blocks of 128', quantization: OWN, range: MIDDLE },
  { label: '4 bits, blocks of 128', quantization: OWN, range: WHOLE },
  { label: '4 bits, blocks of 32 (GGUF Q4_0)', quantization: Q4_0, range: WHOLE },
  { label: 'the same, shifted (Q4_1, Q4_K)', quantization: { ...Q4_0, shifted: true }, range: MIDDLE },
  { label: '8 bits, blocks of 128', quantization: { bits: 8, blockSize: 128 }, range: WHOLE },
  { label: '8 bits, blocks of 32 (GGUF Q8_0)', quantization: { bits: 8, blockSize: 32 }, range: MIDDLE },
  { label: '8 bits, blocks of 16 (Q6_K)', quantization: { bits: 8, blockSize: 16 }, range: MIDDLE },
  { label: 'float32', range: [1, 5] }
]

if (withAllocation()) {
  await formats(Number(values.threads))
  await regions(Number(values.threads))
}

async function formats(threads: number): Promise<void> {
  const head = ['weights', 'layers', 'MB', 'packed', 'loaded', 'peak', 'in use over lease', 'released']
  const table = new Table({ head, style: { head: [], border: [] } })
  for (const { label, quantization, range } of CASES) {
    await using model = await randomModel(label, quantization, { decoderLayers: DECODER_LAYERS }, range)
    const { manifest, blobsDir } = model
    const runtime = await startRuntime({ threads })
    const empty = anonymousBytes()
    const highest = watched()
    const shard = await runtime.load({ manifest, range, blobsDir })
    const peak = highest() - empty
    const loaded = anonymousBytes() - empty
    const batch = await shard.openBatch({ slots: 1, maxTokens: MAX_TOKENS })
    const session = await batch.open({ slot: 0, sampling: GREEDY })
    for (let position = 0; position < MAX_TOKENS; position += PROMPT_TOKENS) {
      const input = inputOf(range, PROMPT_TOKENS, SHAPE.hiddenSize)
      await session.forward({ position, input, sample: true })
    }
    const used = anonymousBytes() - empty
    await shard.release()
    const released = anonymousBytes() - empty
    await runtime.stop()
    const bytes = weightBytes(manifest, range)
    const lease = leaseBytes(manifest, range, { slots: 1, maxTokens: MAX_TOKENS })
    const ratio = (measured: number, to = bytes) => (measured / to).toFixed(2)
    table.push([
      label,
      `[${range}]`,
      (bytes / 1e6).toFixed(0),
      ratio(heldBytes(manifest, range)),
      ratio(loaded),
      ratio(peak),
      ratio(used, lease.weightBytes + lease.ownBytes),
      ratio(released)
    ])
  }
  console.log(table.toString())
}

/** One layer so wide that nothing else counts: 4 floats a feed-forward value and token are alive at once. */
async function regions(threads: number): Promise<void> {
  const shape = { decoderLayers: 1, hiddenSize: 32, ffnSize: 2 ** 18, heads: 2, kvHeads: 1, headSize: 16 }
  const range: LayerRange = [1, 2]
  await using model = await randomModel('wide', Q4_0, shape, range)
  const runtime: Runtime = await startRuntime({ threads })
  const shard = await runtime.load({ manifest: model.manifest, range, blobsDir: model.blobsDir })
  const session = await shard.open({ maxTokens: MAX_TOKENS })
  const before = anonymousBytes()
  for (const tokens of [1, 2, 3, 5, 7, 9, 11, 13, 17, 19, 23, 27, 29, 31, 32, 31, 28, 20, 15, 8, 32]) {
    await session.trim(0)
    await session.forward({ position: 0, input: inputOf(range, tokens, shape.hiddenSize), sample: false })
  }
  const alive = PROMPT_TOKENS * 4 * shape.ffnSize * 4
  console.log(`regions ${((anonymousBytes() - before) / alive).toFixed(2)}`)
  await runtime.stop()
}

function inputOf(
  [start]: LayerRange,
  tokens: number,
  hiddenSize: ModelShape['hiddenSize']
): ForwardInput['input'] {
  if (start === 0) return new Int32Array(tokens)
  return { tokens, data: new Float32Array(new SharedArrayBuffer(4 * tokens * hiddenSize)).fill(0.1) }
}

/** Looks at this process's memory until what it returns is called, which gives the most that was seen. */
function watched(): () => number {
  let most = anonymousBytes()
  const look = () => {
    most = Math.max(most, anonymousBytes())
  }
  const timer = setInterval(look, POLL_MS)
  return () => {
    clearInterval(timer)
    look()
    return most
  }
}

function anonymousBytes(): number {
  const [, kib] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))!
  return Number(kib) * 1024
}

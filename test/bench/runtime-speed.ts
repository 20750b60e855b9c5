/**
 * Decode and prefill of a 1.1B Llama shape against what the machine reads from memory, then what each optimisation
 * gains: switched off alone, as a share of the speed with all of them on.
 *
 *     node test/bench/runtime-speed.ts [--threads 1,2] [--context 512] [--gguf FILE] [--no-ablation]
 *
 * Weights are random, in the project's own 4 bits and in the blocks that a GGUF file of type Q4_0 keeps; with --gguf
 * (../shared/tools/rand_gguf.py writes one) they come from the file instead, imported as it is and with --quantize q4.
 * Times depend on who else uses the machine: compare figures of one run. `read` is a float32 product with one row of
 * inputs, for which every weight is read once.
 */

import Table from 'cli-table3'
import type { Threading } from '../../models/onnx/session.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { weightBytes } from '../../models/runtime/memory.ts'
import type { Shard, ShardSession } from '../../models/runtime/runtime.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { ablation } from './ablation.ts'
import { withAllocation } from './allocation.ts'
import { readRate } from './read-rate.ts'
import { importedModel, type MeasuredModel, OWN, Q4_0, randomModel } from './runtime-models.ts'
import { quantile } from './statistics.ts'

const DECODE_STEPS = 96
const BATCH = 8
const GREEDY = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }
const HEAD = [
  'weights',
  'threads',
  'decode tok/s',
  'ms median',
  'ms best tenth',
  'MB read',
  'GB/s',
  'read GB/s'
]
const MORE = ['share', 'prefill 32 tok/s', 'prefill 128 tok/s', `${BATCH} sequences tok/s`]

const { values } = commandOptions(import.meta.url, {
  options: {
    threads: { type: 'string', default: '1,2' },
    context: { type: 'string', default: '512' },
    gguf: { type: 'string' },
    ablation: { type: 'boolean', default: true }
  },
  allowNegative: true
})

if (withAllocation()) await main()

async function main(): Promise<void> {
  process.env.ORT_DISABLE_TELEMETRY = '1'
  const counts = values.threads.split(',').map(Number)
  const table = new Table({ head: [...HEAD, ...MORE], style: { head: [], border: [] } })
  for (const make of models(values.gguf)) {
    await using model = await make()
    for (const threads of counts) table.push(await measure({ threads, spinUs: 0 }, model))
  }
  console.log(table.toString())
  if (values.ablation) await ablation(counts.at(-1)!)
}

function models(gguf: string | undefined): (() => Promise<MeasuredModel>)[] {
  if (gguf === undefined) {
    return [
      () => randomModel('own 4 bits, blocks of 128', OWN),
      () => randomModel('as GGUF Q4_0, blocks of 32', Q4_0)
    ]
  }
  return [
    () => importedModel('GGUF, --quantize q4', gguf, 'q4'),
    () => importedModel('GGUF as it is', gguf, 'none')
  ]
}

async function measure(
  threading: Threading,
  { label, manifest, blobsDir }: MeasuredModel
): Promise<string[]> {
  const runtime = await startRuntime(threading)
  try {
    const shard = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir })
    const session = await shard.open({ maxTokens: Number(values.context), sampling: GREEDY })
    const run = async (position: number, tokens: number) => {
      const { vocabSize } = manifest.shape
      const input = Int32Array.from({ length: tokens }, (_, i) => (position + i * 97) % vocabSize)
      const start = performance.now()
      await session.forward({ position, input, sample: true })
      return performance.now() - start
    }
    const prefill = async (tokens: number) => {
      const times: number[] = []
      for (let i = 0; i < 4; i++) {
        await session.trim(0)
        times.push(await run(0, tokens))
      }
      return (1000 * tokens) / quantile(times, 0.5)
    }
    const [prefill32, prefill128] = [await prefill(32), await prefill(128)]
    await session.trim(32)
    const readBefore = await readRate(threading)
    const steps: number[] = []
    for (let i = 0; i < DECODE_STEPS; i++) steps.push(await run(32 + i, 1))
    const read = (readBefore + (await readRate(threading))) / 2
    const median = quantile(steps, 0.5)
    const megabytes = packedBytes(manifest) / 1e6
    const rate = megabytes / median
    return [
      label,
      `${threading.threads}`,
      (1000 / median).toFixed(1),
      median.toFixed(1),
      quantile(steps, 0.1).toFixed(1),
      megabytes.toFixed(0),
      rate.toFixed(1),
      read.toFixed(1),
      (rate / read).toFixed(2),
      prefill32.toFixed(0),
      prefill128.toFixed(0),
      (await batchRate(shard, BATCH)).toFixed(0)
    ]
  } finally {
    await runtime.stop()
  }
}

/**
 * What a step reads: all but the embedding, of which it reads a row. Beside the file's bytes, the kernel for 4 bits keeps
 * a float for each block, its sum.
 */
function packedBytes(manifest: MeasuredModel['manifest']): number {
  const blockSums = manifest.layers
    .slice(1)
    .flatMap(layer => layer.tensors)
    .filter(tensor => tensor.name.endsWith('.scales'))
    .reduce((sum, tensor) => sum + tensor.bytes, 0)
  return weightBytes(manifest, [1, manifest.layers.length]) + blockSums
}

/** Tokens a second of `slots` sequences that decode together. */
async function batchRate(shard: Shard, slots: number): Promise<number> {
  const batch = await shard.openBatch({ slots, maxTokens: 64 })
  const sessions: ShardSession[] = []
  for (let i = 0; i < slots; i++) sessions.push(await batch.open({ sampling: GREEDY }))
  const times: number[] = []
  for (let position = 0; position < 12; position++) {
    const start = performance.now()
    const input = Int32Array.from(sessions, (_, i) => position + i)
    await batch.decode(sessions, { positions: sessions.map(() => position), input })
    times.push(performance.now() - start)
  }
  await batch.close()
  return (1000 * slots) / quantile(times, 0.5)
}

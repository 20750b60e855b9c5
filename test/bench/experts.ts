/**
 * One layer of experts, shaped as Qwen3-30B-A3B's (128 of 768, 8 used, hidden 2,048), beside a dense layer that reads as many
 * bytes a token: a step of one token, of several sequences, a chunk of a prompt, the time to load and what loading takes.
 *
 *     npm run bench:experts -- [--threads N] [--bits 4|8] [--block N] [--layers N] [--rounds N]
 *
 * Times are of this thread, in milliseconds; `over dense` is the ratio to the dense layer of the same run, best of rounds. With
 * several layers it shows that loading takes as long for each. `held` is what a lease counts for the weights.
 */
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import Table from 'cli-table3'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { Block, ModelShape, Quantization } from '../../models/manifest.ts'
import { CpuProcessor } from '../../models/runtime/cpu-processor.ts'
import { LayerProbe } from '../../models/runtime/layer-probe.ts'
import { heldBytes } from '../../models/runtime/memory.ts'
import { randomManifest, writeRandomLayer } from '../../models/runtime/random-weights.ts'
import { ShardExecutor } from '../../models/runtime/shard-executor.ts'
import { temporaryFolder } from '../fixtures/folder.ts'

const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: '1' },
    bits: { type: 'string', default: '4' },
    block: { type: 'string', default: '128' },
    layers: { type: 'string', default: '1' },
    rounds: { type: 'string', default: '3' }
  }
})
const quantization: Quantization = {
  bits: values.bits === '8' ? 8 : 4,
  blockSize: Number(values.block)
}
const processor = new CpuProcessor({ threads: Number(values.threads), spinUs: 0 })
const unwanted = new Int32Array(new SharedArrayBuffer(4))
const [EXPERTS, USED, SIZE] = [128, 8, 768]
const mixture: Block = {
  ...LLAMA_BLOCK,
  feedForward: {
    kind: 'experts',
    activation: 'silu',
    size: SIZE,
    experts: EXPERTS,
    used: USED,
    router: 'softmax',
    normalised: true
  }
}
const SHAPE: ModelShape = {
  architecture: 'llama',
  decoderLayers: 48,
  hiddenSize: 2048,
  ffnSize: USED * SIZE,
  heads: 32,
  kvHeads: 4,
  headSize: 128,
  vocabSize: 1024,
  contextLength: 4096,
  normKind: 'rms',
  normEpsilon: 1e-6,
  rope: { theta: 1_000_000 },
  blocks: [mixture],
  layout: [0]
}
const DENSE: ModelShape = { ...SHAPE, blocks: [LLAMA_BLOCK] }
const STEPS = ['1 token', '2 sequences', '8 sequences', '32 tokens', '128 tokens'] as const

await using folder = await temporaryFolder()
// First, while nothing that was given back is taken again.
await loading(SHAPE)
const best = { experts: await times(SHAPE), dense: await times(DENSE) }
for (let round = 1; round < Number(values.rounds); round++) {
  keepBest(best.experts, await times(SHAPE))
  keepBest(best.dense, await times(DENSE))
}
const table = new Table({ head: ['', 'experts', 'dense', 'over dense'], style: { head: [], border: [] } })
STEPS.forEach((step, i) => {
  const [experts, dense] = [best.experts[i]!, best.dense[i]!]
  table.push([step, experts.toFixed(2), dense.toFixed(2), (experts / dense).toFixed(2)])
})
process.stdout.write(`${table.toString()}\n`)

async function times(shape: ModelShape): Promise<number[]> {
  const spec = { shape, quantization }
  const probe = await LayerProbe.load('decoder', spec, folder.path, { processor, unwanted })
  try {
    return [
      await probe.decode(32),
      await probe.decodeBatch(2, 32),
      await probe.decodeBatch(8, 32),
      await probe.chunk(32, 0),
      await probe.chunk(128, 0)
    ]
  } finally {
    await probe.release()
  }
}

function keepBest(all: number[], round: readonly number[]): void {
  round.forEach((ms, i) => {
    all[i] = Math.min(all[i]!, ms)
  })
}

async function loading(shape: ModelShape): Promise<void> {
  const count = Number(values.layers)
  const manifest = randomManifest({ ...shape, decoderLayers: count }, quantization)
  for (const file of manifest.layers.slice(1, 1 + count)) await writeRandomLayer(file, folder.path)
  const before = anonymousBytes()
  const start = performance.now()
  const spec = { manifest, range: [1, 1 + count] as const, blobsDir: folder.path }
  const shard = await ShardExecutor.load(spec, processor)
  const seconds = (performance.now() - start) / 1000
  const loaded = anonymousBytes() - before
  const held = heldBytes(manifest, [1, 1 + count])
  process.stdout.write(
    `${count} x experts: loaded in ${(seconds / count).toFixed(2)} s each, ` +
      `${(loaded / 1e6).toFixed(0)} MB of memory, ${(loaded / held).toFixed(2)} of the ${(held / 1e6).toFixed(0)} MB held\n`
  )
  await shard.release()
  for (const { sha256 } of manifest.layers.slice(1, 1 + count)) await rm(join(folder.path, sha256))
}

/** Memory of this process that no file backs. Linux only. */
function anonymousBytes(): number {
  return 1024 * Number(/^RssAnon:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1])
}

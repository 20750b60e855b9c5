/**
 * Decode and prefill of a 1.1B Llama shape with random weights, against what the machine reads from memory.
 *
 *     node test/bench/runtime-speed.ts [--threads 1,2] [--blocks 32,64,128] [--bits 4] [--context 512]
 *         [--spin 0,100]
 *
 * `GLIBC_TUNABLES=glibc.malloc.hugetlb=1` puts weights in huge pages, as the command line does where it starts a Node.
 * Compare ratios within one run. `read` is a float32 product with one row of inputs: every weight is read once.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { ModelShape } from '../../models/manifest.ts'
import { weightBytes } from '../../models/memory.ts'
import { GraphBuilder } from '../../models/onnx/builder.ts'
import { OnnxSession, Tensor, type Threading } from '../../models/onnx/session.ts'
import { randomManifest, writeRandomLayer } from '../../models/random-weights.ts'
import type { Shard, ShardSession } from '../../models/runtime.ts'
import { startRuntime } from '../../models/runtime-client.ts'

const SHAPE: ModelShape = {
  architecture: 'llama',
  decoderLayers: 22,
  hiddenSize: 2048,
  ffnSize: 5632,
  heads: 32,
  kvHeads: 4,
  headSize: 64,
  vocabSize: 32000,
  contextLength: 2048,
  normEpsilon: 1e-5,
  rope: { theta: 10000 }
}
const DECODE_STEPS = 96
const GREEDY = { temperature: 0, topP: 1, seed: 0, topLogprobs: 0 }

const { values } = parseArgs({
  options: {
    threads: { type: 'string', default: '1,2' },
    blocks: { type: 'string', default: '32,64,128' },
    bits: { type: 'string', default: '4' },
    context: { type: 'string', default: '512' },
    spin: { type: 'string', default: '0,100' }
  }
})
const numbers = (list: string) => list.split(',').map(Number)

process.env.ORT_DISABLE_TELEMETRY = '1'
for (const threads of numbers(values.threads)) {
  for (const spinUs of threads === 1 ? [0] : numbers(values.spin)) {
    for (const blockSize of numbers(values.blocks)) await measure({ threads, spinUs }, blockSize)
  }
}

async function measure(threading: Threading, blockSize: number): Promise<void> {
  const bits = Number(values.bits) === 8 ? 8 : 4
  const blobsDir = await mkdtemp(join(tmpdir(), 'edgeshard-bench-'))
  const runtime = await startRuntime(threading)
  try {
    const manifest = randomManifest(SHAPE, { bits, blockSize })
    for (const file of manifest.layers) await writeRandomLayer(file, blobsDir)
    const before = process.memoryUsage.rss()
    const range = [0, manifest.layers.length] as const
    const shard = await runtime.load({ manifest, range, blobsDir })
    const session = await shard.open({ maxTokens: Number(values.context), sampling: GREEDY })
    const run = async (position: number, tokens: number) => {
      const input = Int32Array.from({ length: tokens }, (_, i) => (position + i * 97) % SHAPE.vocabSize)
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
    const readAfter = await readRate(threading)
    const together = await batchRate(shard, 8)
    // The embedding is one row; the rest is read in every step, in as many bytes as the packed kernels keep it.
    const bytes = weightBytes(manifest, [1, manifest.layers.length])
    const median = quantile(steps, 0.5)
    console.log(
      `threads ${threading.threads}, spinning ${threading.spinUs} us, ${bits} bits, blocks of ${blockSize}: decode ${(1000 / median).toFixed(1)} tok/s ` +
        `(median ${median.toFixed(1)} ms, best tenth ${quantile(steps, 0.1).toFixed(1)}), ` +
        `weights ${(bytes / 1e6).toFixed(0)} MB at ${(bytes / 1e6 / median).toFixed(1)} GB/s, ` +
        `read ${readBefore.toFixed(1)}-${readAfter.toFixed(1)} GB/s; ` +
        `prefill of 32: ${prefill32.toFixed(0)} tok/s, of 128: ${prefill128.toFixed(0)}; ` +
        `8 sequences at once: ${together.toFixed(0)} tok/s; ` +
        `resident ${((process.memoryUsage.rss() - before) / 1e6).toFixed(0)} MB`
    )
  } finally {
    await runtime.stop()
    await rm(blobsDir, { recursive: true, force: true })
  }
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

/** GB/s of a float32 product over weights that no cache holds, best of a few. */
async function readRate(threading: Threading): Promise<number> {
  const [rows, columns] = [16384, 4096]
  const graph = new GraphBuilder()
  const x = graph.input('x', 'float32', [1, columns])
  const weights = graph.input('weights', 'float32', [rows, columns])
  graph.output('y', 'float32', [1, rows])
  graph.contrib('FusedMatMul', [x, weights], { transB: 1 }, 'y')
  const session = await OnnxSession.create(graph.build('read'), { weightsDir: tmpdir(), threading })
  const data = new Float32Array(rows * columns).fill(0.001)
  const feeds = {
    x: new Tensor('float32', new Float32Array(columns).fill(1), [1, columns]),
    weights: new Tensor('float32', data, [rows, columns])
  }
  const fetches = { y: new Tensor('float32', new Float32Array(rows), [1, rows]) }
  let best = Number.POSITIVE_INFINITY
  for (let i = 0; i < 8; i++) {
    const start = performance.now()
    await session.run(feeds, fetches)
    best = Math.min(best, performance.now() - start)
  }
  await session.release()
  return data.byteLength / 1e6 / best
}

function quantile(values: number[], q: number): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length * q)]!
}

/**
 * Bubble against no-bubble with 8 sequences over 3 stages, and no-bubble against what its slowest stage could do alone.
 *
 *     npm run bench:pipeline -- [--batch N] [--micro-batches N] [--repeats N] [--cpus SHARE] [--json]
 *
 * Three processes on loopback with one compute thread each hold a third of a model of random weights; `edgeshard bench`
 * asks the first. Where the machine has no processor for each of them and one for the network, control groups hold
 * every process to the same share of one (`--cpus`, 0 for none): else the stages would take each other's time and no
 * pipeline could keep them all busy. Needs a machine with little else to do.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { BenchReport } from '../../node/bench/types.ts'
import { edgeshard } from '../../node/demo/node-process.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { CONTEXT_TOKENS } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { HeldNodes } from './held-nodes.ts'
import { pipelineLines } from './pipeline-lines.ts'

const NAMES = ['a', 'b', 'c']
const MODEL = 'random'
/** TinyLlama 1.1B: a stage computes some milliseconds, against which a hop is little. */
const SHAPE = { decoderLayers: 22, hiddenSize: 2048, ffnSize: 5632, heads: 32, kvHeads: 4, headSize: 64 }
/** Share of what the whole model needs: too little for two of them. */
const MEMORY_SHARE = 0.4

const { values } = commandOptions(import.meta.url, {
  options: {
    batch: { type: 'string', default: '8' },
    'micro-batches': { type: 'string', default: String(NAMES.length) },
    repeats: { type: 'string', default: '3' },
    cpus: { type: 'string', default: availableParallelism() > NAMES.length ? '0' : '0.5' },
    json: { type: 'boolean', default: false }
  }
})
const batch = Number(values.batch)
const cpus = Number(values.cpus)
const say = (line: string) => process.stdout.write(`${line}\n`)

const folder = await mkdtemp(join(tmpdir(), 'edgeshard-pipeline-'))
try {
  const storeDir = join(folder, 'store')
  const manifest = await randomStore(storeDir, {
    name: MODEL,
    shape: SHAPE,
    quantization: { bits: 4, blockSize: 64 }
  })
  const whole: [number, number] = [0, manifest.layers.length]
  const slots = { slots: batch, maxTokens: CONTEXT_TOKENS }
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, slots)
  const memoryBytes = MEMORY_SHARE * (weightBytes + ownBytes)
  await using nodes = await HeldNodes.start({ folder, storeDir, names: NAMES, memoryBytes, cpus })
  const what = ['--objective', 'throughput', '--methods', 'edgeshard', '--batch', String(batch)]
  const cut = ['--micro-batches', values['micro-batches']]
  const report = JSON.parse(
    await edgeshard([
      'bench',
      '--json',
      '--home',
      nodes.home,
      '--model',
      MODEL,
      '--repeats',
      values.repeats,
      ...what,
      ...cut
    ])
  ) as BenchReport
  const figures = { processors: availableParallelism(), cpus: nodes.cpus, report }
  say(values.json ? JSON.stringify(figures, null, 1) : pipelineLines(figures).join('\n'))
} finally {
  await rm(folder, { recursive: true, force: true })
}

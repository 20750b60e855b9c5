import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { Block } from '../../models/manifest.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'
import type { BenchReport, MeasuredRow } from '../../node/bench/types.ts'
import { edgeshard } from '../../node/demo/node-process.ts'
import { randomStore } from '../fixtures/random-store.ts'
import type { Figure } from './aims.ts'
import { HeldNodes } from './held-nodes.ts'

const NAMES = ['a', 'b', 'c']
const TEXT = fileURLToPath(new URL('../fixtures/held-out-stories.txt', import.meta.url))
const BATCHES = [1, 8]
const PROMPTS = [32, 512]
const NEW_TOKENS = 64
/** The memory of a node, of what the whole model needs with such a batch: too little for two of them. */
const MEMORY_SHARE = 0.42
/** What is predicted is to be within a tenth of what is measured. */
const [LEAST, MOST] = [0.9, 1.1]

const { attention } = LLAMA_BLOCK
const windowed: Block = { ...LLAMA_BLOCK, attention: { ...attention, window: 128, sinks: true } }
const mixture: Block = {
  ...LLAMA_BLOCK,
  feedForward: {
    kind: 'experts',
    activation: 'silu',
    size: 384,
    experts: 32,
    used: 4,
    router: 'softmax',
    normalised: true
  }
}
/** Layers of three kinds by turns: a window of 128 with sinks, as gpt-oss has it; all tokens before; and a mixture of experts. */
const SHAPE = {
  decoderLayers: 18,
  hiddenSize: 1024,
  ffnSize: 4096,
  heads: 16,
  kvHeads: 2,
  headSize: 64,
  contextLength: 1024,
  blocks: [windowed, LLAMA_BLOCK, mixture],
  layout: [0, 1, 2]
}

/**
 * What the planner says of a model with layers of several kinds over three nodes, through what is measured: one sequence, and
 * several, behind a short prompt and a long one. Each batch has a mesh of its own, with memory for less than half of the model a
 * node. Of one sequence what the node itself says with the answer, behind a first answer that is not counted.
 */
export async function mixedFigures(folder: string, { cpus }: { cpus: number }): Promise<Figure[]> {
  const storeDir = join(folder, 'store')
  const manifest = await randomStore(storeDir, {
    name: 'mixed',
    shape: SHAPE,
    quantization: { bits: 4, blockSize: 32 }
  })
  const whole: [number, number] = [0, manifest.layers.length]
  const figures: Figure[] = []
  for (const batch of BATCHES) {
    const tokens = Math.max(...PROMPTS) + NEW_TOKENS
    const { weightBytes, ownBytes } = leaseBytes(manifest, whole, { slots: batch, maxTokens: tokens })
    const memoryBytes = MEMORY_SHARE * (weightBytes + ownBytes)
    const own = join(folder, `batch-${batch}`)
    await using nodes = await HeldNodes.start({ folder: own, storeDir, names: NAMES, memoryBytes, cpus })
    for (const prompt of PROMPTS) figures.push(...figuresOf(await measured(nodes, { batch, prompt }), prompt))
  }
  return figures
}

async function measured(
  nodes: HeldNodes,
  { batch, prompt }: { batch: number; prompt: number }
): Promise<MeasuredRow> {
  const counts = ['--prompt-tokens', String(prompt), '--new-tokens', String(NEW_TOKENS), '--repeats', '3']
  const several = ['--batch', String(batch), '--strategies', 'no-bubble']
  const what = batch === 1 ? ['--objective', 'latency'] : ['--objective', 'throughput', ...several]
  const own = ['--home', nodes.home, '--model', 'mixed', '--text', TEXT, '--methods', 'edgeshard']
  const { rows } = JSON.parse(await edgeshard(['bench', '--json', ...own, ...what, ...counts])) as BenchReport
  const [row] = rows
  if (row?.outcome !== 'measured') throw new Error(row?.reason ?? 'nothing was measured')
  const devices = new Set(row.stages.map(({ peerId }) => peerId)).size
  if (devices !== NAMES.length) throw new Error(`the model lies on ${devices} nodes, not on ${NAMES.length}`)
  return row
}

function figuresOf(
  { batch, predicted, tpotMs, ttftMs, tokensPerSecond }: MeasuredRow,
  prompt: number
): Figure[] {
  const through = (what: string, planned: number, found: number, unit: string): Figure => ({
    what: `mixed layers, three nodes, ${batch} at once behind ${prompt}: ${what}, predicted over measured`,
    figure: planned / found,
    least: LEAST,
    most: MOST,
    beside: `${planned.toFixed(1)} and ${found.toFixed(1)} ${unit}`
  })
  if (predicted.ttftMs === null)
    return [through('tokens a second', predicted.tokensPerSecond, tokensPerSecond.median, '/s')]
  return [
    through('a token', predicted.tpotMs, tpotMs.median, 'ms'),
    through('the first token', predicted.ttftMs, ttftMs.median, 'ms')
  ]
}

/**
 * A mixture of experts as people run them, shaped as Qwen3-30B-A3B, with its aims: a layer beside a dense one that reads as many bytes
 * a token, loading as layers are added, and the shape of so many layers over two nodes on loopback, each with memory for little
 * more than half of it: tokens a second, and memory of both over the weights. And a smaller model whose layers are of several kinds,
 * over three: what is predicted through what is measured (mixed-model.ts).
 *
 *     npm run bench:models -- [--only layers|mesh|mixed]... [--layers N] [--threads N] [--tokens N] [--rounds N] [--cpus SHARE] [--json]
 *
 * Weights are random, at 4 bits in blocks of 128, and are written by this program into the folder for temporary files: 0.33 GB a layer,
 * and half of that again for what the second node fetches. All 48 layers want 24 GB of disk and 18 GB of memory. Both nodes share
 * this machine's processors. Memory is what no file backs; pages of the files are the system's to take back. Linux only.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { leaseBytes, weightBytes } from '../../models/runtime/memory.ts'
import type { GenerateResult } from '../../node/api.ts'
import { edgeshard, NodeProcess } from '../../node/demo/node-process.ts'
import { admitHome } from '../fixtures/admitted.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { CONTEXT_TOKENS, SECRET } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { type Figure, tableOf } from './aims.ts'
import { anonymousBytes, EXPERT_SHAPE, ExpertLayers } from './expert-layer.ts'
import { mixedFigures } from './mixed-model.ts'

const QUANTIZATION = { bits: 4, blockSize: 128 } as const
/** Layers that are loaded at once, to see whether each takes as long as one alone. */
const LOADED = [1, 2, 4] as const
/** Of what the whole needs: too little for one node. */
const MEMORY_SHARE = 0.65
/** Far more than it takes two devices to time a layer. */
const TIMING_MS = 180_000
/** What may be asked for by itself. */
const PARTS = ['layers', 'mesh', 'mixed'] as const
/** Each with a processor, and one for the network: else they are held to shares of what there is. */
const NODES_OF_MIXED = 3
const PROMPT = Array.from({ length: 32 }, (_, i) => 300 + 7 * i)

const { values } = commandOptions(import.meta.url, {
  options: {
    layers: { type: 'string', default: '6' },
    threads: { type: 'string', default: '1' },
    tokens: { type: 'string', default: '32' },
    rounds: { type: 'string', default: '3' },
    only: { type: 'string', multiple: true },
    cpus: { type: 'string', default: availableParallelism() > NODES_OF_MIXED ? '0' : '0.5' },
    json: { type: 'boolean', default: false }
  }
})

for (const part of values.only ?? []) {
  if (!PARTS.some(known => known === part)) throw new Error(`--only ${part}: known are ${PARTS.join(', ')}`)
}
const folder = await mkdtemp(join(tmpdir(), 'edgeshard-models-'))
try {
  const rows: Figure[] = []
  if (isAsked('layers')) rows.push(...(await layerRows()))
  if (isAsked('mesh')) rows.push(...(await meshRows(Number(values.layers))))
  if (isAsked('mixed'))
    rows.push(...(await mixedFigures(join(folder, 'mixed'), { cpus: Number(values.cpus) })))
  process.stdout.write(values.json ? `${JSON.stringify(rows, null, 1)}\n` : `${tableOf(rows)}\n`)
} finally {
  await rm(folder, { recursive: true, force: true })
}

function isAsked(part: (typeof PARTS)[number]): boolean {
  return values.only?.includes(part) ?? true
}

async function layerRows(): Promise<Figure[]> {
  const threads = Number(values.threads)
  const layers = new ExpertLayers({ quantization: QUANTIZATION, folder, threads })
  const loads = []
  for (const count of LOADED) loads.push(await layers.load(count))
  const [first, last] = [loads[0]!, loads.at(-1)!]
  const { experts, dense } = await layers.times(Number(values.rounds))
  return [
    {
      what: 'a token through a layer of experts, over a dense one',
      figure: experts[0]! / dense[0]!,
      most: 1.3,
      beside: `${experts[0]!.toFixed(2)} and ${dense[0]!.toFixed(2)} ms`
    },
    {
      what: `loading each of ${LOADED.at(-1)} layers, over one alone`,
      figure: last.secondsPerLayer / first.secondsPerLayer,
      most: 1.2,
      beside: `${loads.map(load => load.secondsPerLayer.toFixed(2)).join(', ')} s a layer`
    }
  ]
}

async function meshRows(decoderLayers: number): Promise<Figure[]> {
  const home = (name: string) => join(folder, name)
  const { vocabSize: _, ...shape } = { ...EXPERT_SHAPE, decoderLayers }
  const manifest = await randomStore(join(home('a'), 'store'), {
    name: 'random',
    shape,
    quantization: QUANTIZATION
  })
  const whole: [number, number] = [0, manifest.layers.length]
  const lease = leaseBytes(manifest, whole, { slots: 1, maxTokens: CONTEXT_TOKENS })
  const memory = Math.ceil((lease.weightBytes + lease.ownBytes) * MEMORY_SHARE)
  const nodes: NodeProcess[] = []
  // As each is when it has nothing loaded: it times layers when it is ready.
  let before = 0
  try {
    for (const name of ['a', 'b']) {
      await admitHome(home(name), SECRET)
      const own = ['--home', home(name), '--name', name, '--memory', String(memory)]
      const where = ['--port', '0', '--api', '127.0.0.1:0', '--no-mdns', '--threads', values.threads]
      const peers = nodes.flatMap(({ addresses }) => ['--peer', addresses[0]!])
      const node = await NodeProcess.start([...own, ...where, ...peers])
      nodes.push(node)
      before += anonymousBytes(node.pid)
    }
    await haveTimed(nodes[0]!)
    const ask = async () => JSON.parse(await edgeshard(asking(home('a')))) as GenerateResult
    // The first one brings the second node its layers and loads them.
    const first = await ask()
    const { tpotMs, plan, ttftMs, tokens } = await ask()
    if (tokens.length < 8) throw new Error(`the answer has ${tokens.length} tokens, too few to time`)
    const grown = nodes.reduce((sum, { pid }) => sum + anonymousBytes(pid), -before)
    const weights = weightBytes(manifest)
    const devices = new Set(plan.stages.map(stage => stage.peerId)).size
    if (devices !== 2) throw new Error(`the model lies on ${devices} nodes, not on two`)
    return [
      {
        what: `memory of two nodes, ${decoderLayers} of 48 layers, over the weights`,
        figure: grown / weights,
        most: 1.1,
        beside: `${(grown / 1e9).toFixed(2)} of ${(weights / 1e9).toFixed(2)} GB`
      },
      {
        what: 'the same: tokens a second of one answer',
        figure: 1000 / tpotMs,
        beside: `${tpotMs.toFixed(0)} ms a token, ${((tpotMs * 48) / decoderLayers).toFixed(0)} for 48 layers`
      },
      {
        what: 'the same: seconds to the first token behind 32, loaded',
        figure: ttftMs / 1000,
        beside: `${(first.ttftMs / 1000).toFixed(1)} s with fetching and loading`
      }
    ]
  } finally {
    await Promise.all(nodes.map(node => node.stop()))
  }
}

/** Waits until both devices have timed a layer: what they do before an answer is no part of it. */
async function haveTimed(node: NodeProcess): Promise<void> {
  const deadline = AbortSignal.timeout(TIMING_MS)
  for (;;) {
    const { self, peers } = await node.mesh()
    const members = [self, ...peers]
    if (members.length === 2 && members.every(({ profiles }) => Object.keys(profiles).length > 0)) return
    deadline.throwIfAborted()
    await delay(200)
  }
}

function asking(home: string): string[] {
  const what = ['--ids', PROMPT.join(','), '--model', 'random', '--max-tokens', values.tokens]
  return ['run', '--json', '--home', home, '--temperature', '0', ...what]
}

import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { Block, ModelShape, Quantization } from '../../models/manifest.ts'
import { CpuProcessor } from '../../models/runtime/cpu-processor.ts'
import { LayerProbe } from '../../models/runtime/layer-probe.ts'
import { heldBytes } from '../../models/runtime/memory.ts'
import { randomManifest, writeRandomLayer } from '../../models/runtime/random-weights.ts'
import { ShardExecutor } from '../../models/runtime/shard-executor.ts'

const [EXPERTS, USED, SIZE] = [128, 8, 768]
const mixture: Block = {
  ...LLAMA_BLOCK,
  attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' },
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

/** Qwen3-30B-A3B: 48 layers of 128 experts of 768, 8 used, hidden 2,048; with a vocabulary that costs nothing. */
export const EXPERT_SHAPE: ModelShape = {
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
/** The same with a dense part that reads as many bytes a token. */
const DENSE_SHAPE: ModelShape = {
  ...EXPERT_SHAPE,
  blocks: [{ ...mixture, feedForward: LLAMA_BLOCK.feedForward }]
}

/** What is timed, in the order of `StepTimes`. */
export const STEPS = ['1 token', '2 sequences', '8 sequences', '32 tokens', '128 tokens'] as const

/** Milliseconds of each of STEPS. */
export type StepTimes = number[]

/** What loading so many layers of experts takes. */
export interface LoadFigures {
  secondsPerLayer: number
  /** Memory of this process that no file backs. Linux only. */
  loadedBytes: number
  /** What a lease counts for it. */
  heldBytes: number
}

/** Layers of experts, and dense ones that read as many bytes, computed in this thread. */
export class ExpertLayers {
  readonly #quantization: Quantization
  readonly #folder: string
  readonly #processor: CpuProcessor

  /** @param init.folder where their files are written */
  constructor(init: { quantization: Quantization; folder: string; threads: number }) {
    this.#quantization = init.quantization
    this.#folder = init.folder
    this.#processor = new CpuProcessor({ threads: init.threads, spinUs: 0 })
  }

  /** Times of one layer of each kind by turns, the best of so many rounds of each step. */
  async times(rounds: number): Promise<{ experts: StepTimes; dense: StepTimes }> {
    const best = { experts: await this.#times(EXPERT_SHAPE), dense: await this.#times(DENSE_SHAPE) }
    for (let round = 1; round < rounds; round++) {
      keepBest(best.experts, await this.#times(EXPERT_SHAPE))
      keepBest(best.dense, await this.#times(DENSE_SHAPE))
    }
    return best
  }

  /** Loads `count` layers of experts into one shard, and lets go of them. */
  async load(count: number): Promise<LoadFigures> {
    const manifest = randomManifest({ ...EXPERT_SHAPE, decoderLayers: count }, this.#quantization)
    const files = manifest.layers.slice(1, 1 + count)
    for (const file of files) await writeRandomLayer(file, this.#folder)
    const before = anonymousBytes()
    const start = performance.now()
    const spec = { manifest, range: [1, 1 + count] as const, blobsDir: this.#folder }
    const shard = await ShardExecutor.load(spec, this.#processor)
    const seconds = (performance.now() - start) / 1000
    const loadedBytes = anonymousBytes() - before
    await shard.release()
    for (const { sha256 } of files) await rm(join(this.#folder, sha256))
    return {
      secondsPerLayer: seconds / count,
      loadedBytes,
      heldBytes: heldBytes(manifest, [1, 1 + count])
    }
  }

  async #times(shape: ModelShape): Promise<StepTimes> {
    const spec = { shape, quantization: this.#quantization }
    const unwanted = new Int32Array(new SharedArrayBuffer(4))
    const probe = await LayerProbe.load('decoder', spec, this.#folder, {
      processor: this.#processor,
      unwanted
    })
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
}

function keepBest(all: number[], round: readonly number[]): void {
  round.forEach((ms, i) => {
    all[i] = Math.min(all[i]!, ms)
  })
}

/** Memory of a process that no file backs. Linux only. */
export function anonymousBytes(pid: number | 'self' = 'self'): number {
  const [, kib] = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!
  return Number(kib) * 1024
}

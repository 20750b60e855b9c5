import type { Objective, Strategy } from '../../node/api.ts'
import type { BenchReport, BenchRow } from '../../node/bench/types.ts'
import type { Method } from '../../node/plan/index.ts'
import type { RandomStoreOptions } from '../fixtures/random-store.ts'

export type ModelName = 'small' | 'large'

/** Sizes as Llama-2 7B and 13B have to each other's devices: the small one just fits on `edge`, the large one does not. */
export const MODELS: Record<ModelName, RandomStoreOptions> = {
  small: model('small', 10),
  large: model('large', 15)
}

function model(name: string, decoderLayers: number): RandomStoreOptions {
  const shape = { decoderLayers, hiddenSize: 1024, ffnSize: 2816, heads: 16, kvHeads: 16, headSize: 64 }
  return { name, shape, quantization: { bits: 8, blockSize: 64 } }
}

export interface LabDevice {
  name: string
  /** Share of a processor. */
  cpus: number
  /** Budget, in what the small model needs with one sequence. */
  memoryShare: number
  /** The device of the paper's testbed that it stands for. */
  standsFor: string
}

/** Together less than the two processors that a small machine has. */
export const DEVICES: readonly LabDevice[] = [
  { name: 'edge', cpus: 0.3, memoryShare: 1.01, standsFor: 'Jetson AGX Orin, the source' },
  { name: 'edge-2', cpus: 0.3, memoryShare: 0.5, standsFor: 'another Jetson AGX Orin' },
  { name: 'small', cpus: 0.15, memoryShare: 0.35, standsFor: 'Jetson Orin NX' },
  { name: 'cloud', cpus: 0.9, memoryShare: 0.7, standsFor: 'RTX 3090' }
]
/** Between all pairs but source and cloud. */
export const OTHER_MBPS = 50
export const LATENCY_MS = 1
export const SWEEP_MBPS = [1, 5, 10, 50] as const

/** One mesh, asked by one source. */
export interface Part {
  model: ModelName
  source: string
  /** Between source and cloud. */
  mbps: number
}

export const PARTS: readonly Part[] = [
  ...SWEEP_MBPS.map(mbps => ({ model: 'small', source: 'edge', mbps }) as const),
  { model: 'small', source: 'small', mbps: 1 },
  ...SWEEP_MBPS.map(mbps => ({ model: 'large', source: 'edge', mbps }) as const)
]

export function partName({ model, source, mbps }: Part): string {
  return `${model}-${source}-${mbps}mbps`
}

/** What a part's file holds. */
export interface PartResult {
  part: Part
  /** Weights, and what one sequence's KV cache takes. */
  weightBytes: number
  sequenceBytes: number
  reports: Partial<Record<Objective, BenchReport>>
}

/** The paper's names, in its order. */
export const METHOD_NAMES: readonly { name: string; method: Method }[] = [
  { name: 'Edge-Solo', method: 'edge-solo' },
  { name: 'Cloud-Edge-Even', method: 'cloud-edge-even' },
  { name: 'Cloud-Edge-Opt', method: 'cloud-edge-opt' },
  { name: 'EdgeShard', method: 'edgeshard' }
]

/** A method's row in a part; of throughput, that of a strategy where there are two. */
export function rowOf(
  part: PartResult | undefined,
  objective: Objective,
  method: Method,
  strategy?: Strategy
): BenchRow | undefined {
  const rows = part?.reports[objective]?.rows.filter(row => row.method === method)
  return rows?.find(row => strategy === undefined || row.strategy === strategy) ?? rows?.[0]
}

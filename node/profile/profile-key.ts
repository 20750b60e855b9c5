import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import type { ModelShape, Quantization } from '../../models/manifest.ts'
import { encodeModel, type Graph } from '../../models/onnx/model.ts'
import { shardGraph } from '../../models/onnx/shard-graph.ts'
import { cpuQuota } from '../../models/runtime/cpu-quota.ts'
import { groupsHeads } from '../../models/runtime/grouped-rows.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'

/** What is timed, and with how many threads. */
export interface ProfileSubject {
  shape: ModelShape
  /** Absent: float32. */
  quantization?: Quantization | undefined
  threads: number
}

/** What computes here: times of another processor, or of another ONNX Runtime, say nothing of this one. */
export interface Machine {
  processor: string
  /** What it can do, as the system lists it; empty where it does not. */
  features: string
  arch: string
  runtimeVersion: string
  /** Processors that the system lets this process have in the mean; undefined: all that there are. */
  quota?: number | undefined
}

/** Rises when timing itself changes, so that older times are no longer comparable. */
const FORMAT = 5

/**
 * A hash of all that times of a layer hang on: the shape, the graph that computes a layer of each kind, threads and the
 * machine.
 */
export function profileKey(
  { shape, quantization, threads }: ProfileSubject,
  machine: Machine = thisMachine()
): string {
  // The graph itself, as it is the same for as long as layers are computed in the same way.
  const graph = createHash('sha256').update(encodeModel(timedGraph({ shape, quantization })))
  const key = { format: FORMAT, shape, quantization, threads, graph: graph.digest('hex'), ...machine }
  return createHash('sha256').update(JSON.stringify(key)).digest('hex')
}

/** The graph of a layer of each kind, with all the ways in which a processor may compute one. */
export function timedGraph({ shape, quantization }: Pick<ProfileSubject, 'shape' | 'quantization'>): Graph {
  const layout = shape.blocks.map((_, block) => block)
  const few = randomManifest({ ...shape, layout, decoderLayers: layout.length }, quantization)
  return shardGraph(few, [0, few.layers.length], { groupsHeads: groupsHeads({ groupsHeads: true }, shape) })
}

/** Read once a run: nothing of it changes while one lasts. */
export function thisMachine(): Machine {
  const { version }: { version: string } = createRequire(import.meta.url)('onnxruntime-node/package.json')
  return {
    processor: cpus()[0]?.model ?? '',
    features: features(),
    arch: process.arch,
    runtimeVersion: version,
    quota: cpuQuota()
  }
}

/** `flags` of x86, `Features` of ARM. */
function features(): string {
  try {
    return /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''
  } catch {
    // Only Linux has the file; elsewhere the processor's name has to do.
    return ''
  }
}

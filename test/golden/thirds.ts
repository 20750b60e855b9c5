import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'

/** Memory of each of some devices, in bytes: from `least` on and below `tooMuch`. */
export interface MemoryRange {
  least: number
  tooMuch: number
}

/**
 * With how much memory each device holds a third of a model and not half of it, so that three are needed.
 *
 * @param maxTokens of the one sequence that is to fit
 */
export function memoryForThree(manifest: Manifest, maxTokens: number): MemoryRange {
  const end = manifest.layers.length
  const room = { slots: 1, maxTokens }
  const bytes = (range: LayerRange) => {
    const { weightBytes, ownBytes } = leaseBytes(manifest, range, room)
    return weightBytes + ownBytes
  }
  const cuts = Array.from({ length: end - 1 }, (_, i) => i + 1)
  const largest = (...ranges: LayerRange[]) => Math.max(...ranges.map(bytes))
  return {
    least: Math.min(
      ...cuts.flatMap(a => cuts.filter(b => b > a).map(b => largest([0, a], [a, b], [b, end])))
    ),
    tooMuch: Math.min(
      ...cuts.map(cut => largest([0, cut], [cut, end])),
      // Both ends may be the source's.
      ...cuts.flatMap(a =>
        cuts.filter(b => b > a).map(b => Math.max(bytes([0, a]) + bytes([b, end]), bytes([a, b])))
      )
    )
  }
}

/** Groups of models that the same memory splits in three, and that memory: as few as there can be. */
export function sharedMemory<T>(
  models: readonly (T & MemoryRange)[]
): { memoryBytes: number; models: (T & MemoryRange)[] }[] {
  const groups: { memoryBytes: number; models: (T & MemoryRange)[] }[] = []
  for (const model of models.toSorted((a, b) => a.tooMuch - b.tooMuch)) {
    const last = groups.at(-1)
    if (last !== undefined && model.least <= last.memoryBytes) last.models.push(model)
    else groups.push({ memoryBytes: model.tooMuch - 1, models: [model] })
  }
  return groups
}

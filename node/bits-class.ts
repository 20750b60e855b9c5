import type { LayerRange } from '../models/layers.ts'
import type { NodeRecord } from './api.ts'

/**
 * The class of bits of what computes a device's stages: undefined for a CPU, else the kind of processor, and whether its
 * kernels were found to keep bits. Within a class an answer has the same tokens whichever device computes it; across
 * classes only nearly always.
 */
export function bitsClassOf({ processors }: Pick<NodeRecord, 'processors'>): string | undefined {
  const used = processors?.find(({ used }) => used)
  if (used === undefined || used.kind === 'cpu') return undefined
  return used.keepsBits === true ? `${used.kind}-exact` : used.kind
}

interface Classed {
  layers: LayerRange
  bitsClass?: string
}

/** Whether every layer of a plan is computed in another one within the class that it was. */
export function keepsClasses(before: readonly Classed[], after: readonly Classed[]): boolean {
  return after.every(({ layers: [start, end], bitsClass }) =>
    before.every(stage => stage.bitsClass === bitsClass || stage.layers[1] <= start || stage.layers[0] >= end)
  )
}

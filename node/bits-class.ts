import type { LayerRange } from '../models/layers.ts'

interface Classed {
  layers: LayerRange
  /** The class of bits of what computes it; absent: a CPU's. */
  bitsClass?: string
}

/** Whether every layer of a plan is computed in another one within the class that it was. */
export function keepsClasses(before: readonly Classed[], after: readonly Classed[]): boolean {
  return after.every(({ layers: [start, end], bitsClass }) =>
    before.every(stage => stage.bitsClass === bitsClass || stage.layers[1] <= start || stage.layers[0] >= end)
  )
}

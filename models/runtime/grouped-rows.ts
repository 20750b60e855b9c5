import { layerSizes } from '../blocks.ts'
import type { ModelShape } from '../manifest.ts'
import { groupedTokens, groupOf, largestGroup } from '../onnx/grouped-attention.ts'
import type { Processor } from './processor.ts'

/** Behind fewer tokens what is gained by reading a cache once is lost to what a run has besides (`npm run bench:attention`). */
export const GROUPED_FROM_TOKENS = 1024
/** More rows than that have each head read the cache for many already. */
export const MAX_GROUPED_ROWS = 8

/** Whether sequences of a model may be so long that query heads are computed as rows. */
export function groupsHeads(
  { groupsHeads }: Pick<Processor, 'groupsHeads'>,
  { contextLength }: Pick<ModelShape, 'contextLength'>
): boolean {
  return groupsHeads && contextLength > GROUPED_FROM_TOKENS
}

/** Rows of one sequence that a lane computes. */
export interface LaneRows {
  position: number
  rows: number
  /** Tokens that the cache has room for. */
  capacity: number
}

/**
 * When a loaded range computes query heads as rows (onnx/grouped-attention.ts). All of the model's layers are looked at, whichever of
 * them are loaded: a single row comes to other bits as rows of its heads, and a cut is to change none.
 */
export class GroupedRows {
  /** Query heads that share a head of keys and values, of the model's layer with most. */
  readonly largest: number
  /** Numbers of rows that may be computed so. */
  readonly #rows: ReadonlySet<number>
  #isOff = false

  private constructor(largest: number, rows: ReadonlySet<number>) {
    this.largest = largest
    this.#rows = rows
  }

  /** The rule for a range with these decoder layers; undefined where none of them has heads to group. */
  static of(shape: ModelShape, layers: readonly number[]): GroupedRows | undefined {
    if (largestGroup(shape, layers) === 1) return undefined
    const all = Array.from({ length: shape.decoderLayers }, (_, i) => i + 1)
    const counts = Array.from({ length: MAX_GROUPED_ROWS }, (_, i) => i + 1)
    const keeping = counts.filter(rows => keepsRows(shape, all, rows))
    return new GroupedRows(largestGroup(shape, all), new Set(keeping))
  }

  /** What a lane is told: its rows, or 0 where each of its heads is to be computed by itself. */
  of({ position, rows, capacity }: LaneRows, from = GROUPED_FROM_TOKENS): number {
    const fits = groupedTokens(this.largest, position, rows) <= capacity
    return !this.#isOff && position >= from && fits && this.#rows.has(rows) ? rows : 0
  }

  /** Has each head computed by itself from now on: as rows they come to other bits here. */
  turnOff(): void {
    this.#isOff = true
  }
}

/** Whether no row is left alone for a kernel's last block (exact-rows.ts), where it was not alone before. */
function keepsRows(shape: ModelShape, layers: readonly number[], rows: number): boolean {
  return (
    rows === 1 ||
    layers.every(layer => (groupOf(shape, layer) * rows) % (2 * layerSizes(shape, layer).headSize) !== 1)
  )
}

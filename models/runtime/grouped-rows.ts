import { layerSizes } from '../blocks.ts'
import type { ModelShape } from '../manifest.ts'
import { groupedTokens, groupOf, largestGroup } from '../onnx/grouped-attention.ts'
import type { Processor } from './processor.ts'

/** Behind fewer tokens what is gained by reading a cache once is lost to what a run has besides (`npm run bench:attention`). */
export const GROUPED_FROM_TOKENS = 1024
/** Of more rows each head reads the cache for many already. */
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

/** When a loaded range computes query heads as rows (onnx/grouped-attention.ts). */
export class GroupedRows {
  /** Query heads that share a head of keys and values, of the layer with most. */
  readonly largest: number
  /** Numbers of rows that may be. */
  readonly #rows: ReadonlySet<number>
  #isOff = false

  private constructor(largest: number, rows: ReadonlySet<number>) {
    this.largest = largest
    this.#rows = rows
  }

  /** Of some decoder layers; undefined where none of them has heads to group. */
  static of(shape: ModelShape, layers: readonly number[]): GroupedRows | undefined {
    const largest = largestGroup(shape, layers)
    if (largest === 1) return undefined
    const counts = Array.from({ length: MAX_GROUPED_ROWS }, (_, i) => i + 1)
    return new GroupedRows(largest, new Set(counts.filter(rows => keepsRows(shape, layers, rows))))
  }

  /** What a lane is told: its rows, or 0 where each of its heads is to be computed by itself. */
  of({ position, rows, capacity }: LaneRows, from = GROUPED_FROM_TOKENS): number {
    const fits = groupedTokens(this.largest, position, rows) <= capacity
    return !this.#isOff && position >= from && fits && this.#rows.has(rows) ? rows : 0
  }

  /** Never again: kernels here come to other bits. */
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

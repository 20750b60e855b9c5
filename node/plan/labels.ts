/** What the exact search keeps of one (set of devices, last device): costs and where they come from. */

/** Devices a set can name: two halves of 26 bits make one exact integer key. */
export const HALF = 26
export const MAX_CANDIDATES = 2 * HALF

/** Labels of one (set, last device), by layers done. */
export interface Row {
  readonly low: number
  readonly high: number
  readonly last: number
  /** Sum of the prices of the set. */
  readonly paid: number
  /** The most layers that devices outside the set can take. */
  readonly room: number
  /** No completion of what came in is cheaper, by the relaxation. */
  leastMs: number
  /** While filling: (layers + 1) cost on entering `last` at layer i, and from which device. */
  entryMs: Float64Array
  entryFrom: Int16Array
  /** Once closed: layers done, cost, bound, start of the last range, device before it. */
  done: Int16Array
  costMs: Float64Array
  boundMs: Float64Array
  start: Int16Array
  before: Int16Array
}

export function openRow(
  low: number,
  high: number,
  last: number,
  paid: number,
  room: number,
  layers: number
): Row {
  const none = new Float64Array(0)
  const nothing = new Int16Array(0)
  return {
    low,
    high,
    last,
    paid,
    room,
    leastMs: Number.POSITIVE_INFINITY,
    entryMs: new Float64Array(layers + 1).fill(Number.POSITIVE_INFINITY),
    entryFrom: new Int16Array(layers + 1),
    done: nothing,
    costMs: none,
    boundMs: none,
    start: nothing,
    before: nothing
  }
}

/** Whether a set holds candidate c. */
export function contains(low: number, high: number, c: number): boolean {
  return c < HALF ? ((low >> c) & 1) === 1 : ((high >> (c - HALF)) & 1) === 1
}

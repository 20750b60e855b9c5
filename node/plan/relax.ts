/**
 * The relaxation behind every bound: paths may visit a device again, at a price.
 *
 * Letting a path revisit devices turns the problem into a shortest path over (layer, device). Each visit to
 * device k costs a price mu[k] >= 0, and each price is paid back once: a plan visits a device at most once, so
 * the cheapest such path minus the sum of the prices never exceeds the cheapest plan, whatever the prices are
 * (Lagrangian relaxation). Raising the prices of devices that are visited twice tightens it.
 */
import { type Chain, edgeMs } from './chain.ts'

/** What part of the plans is looked at: the source's first stage ends in [frontLo, frontHi]. */
export interface Scope {
  readonly frontLo: number
  readonly frontHi: number
  /** (devices): the token's return from the last stage; Infinity where plans must not end so. */
  readonly returnMs: Float64Array
  /** (layers): 1 where the source may take the rest over again. */
  readonly tailOpen: Uint8Array
}

/** Completion costs under the prices, and the cheapest path. Arrays are (layers + 1, devices). */
export interface Relaxation {
  readonly prices: Float64Array
  readonly priceSum: number
  /** Lower bound on every plan in scope. */
  readonly bound: number
  /** Cheapest completion from having layers [0, i) done, the last of them on j. */
  readonly leaveMs: Float64Array
  /** Cheapest completion when device k starts at layer i, its price included. */
  readonly enterMs: Float64Array
  /** How often the cheapest path visits each device. */
  readonly visits: Int32Array
}

/** Costs of all pairs for one activation size; diagonal and source are Infinity, and ways out of it that pinned layers have not. */
class EdgeTables {
  readonly #chain: Chain
  readonly #tables = new Map<number, Float64Array>()
  readonly #pinned = new Map<number, Float64Array>()
  readonly #capacity: number

  constructor(chain: Chain) {
    this.#chain = chain
    this.#capacity = Math.max(1, Math.floor(4e6 / (chain.devices * chain.devices)))
  }

  at(i: number): Float64Array {
    const chain = this.#chain
    const key = chain.bitsMs[i]!
    const tables = i < chain.pinned ? this.#pinned : this.#tables
    const known = tables.get(key)
    if (known !== undefined) return known
    const table = new Float64Array(chain.devices * chain.devices).fill(Number.POSITIVE_INFINITY)
    for (let from = 0; from < chain.devices; from++) {
      for (let to = 0; to < chain.devices; to++) {
        if (from !== to && to !== chain.source) table[from * chain.devices + to] = edgeMs(chain, from, to, i)
      }
    }
    if (tables.size < this.#capacity) tables.set(key, table)
    return table
  }
}

const tablesOf = new WeakMap<Chain, EdgeTables>()

export function edgeTable(chain: Chain, i: number): Float64Array {
  let tables = tablesOf.get(chain)
  if (tables === undefined) {
    tables = new EdgeTables(chain)
    tablesOf.set(chain, tables)
  }
  return tables.at(i)
}

/** Solves the relaxation for given prices, from the last layer backwards. */
export function relax(chain: Chain, scope: Scope, prices: Float64Array): Relaxation {
  const { devices, layers, source, computeMs, lastFit } = chain
  const width = layers + 1
  const leaveMs = new Float64Array(width * devices).fill(Number.POSITIVE_INFINITY)
  const enterMs = new Float64Array(width * devices).fill(Number.POSITIVE_INFINITY)
  const next = new Int16Array(width * devices).fill(-1)
  const endAt = new Int16Array(width * devices)
  // Monotone queues of candidate ends, one a device: the best end sits at `back`, new ones enter at `front`.
  const queue = new Int16Array(devices * (width + 1))
  const queueMs = new Float64Array(devices * (width + 1))
  const front = new Int32Array(devices).fill(width + 1)
  const back = new Int32Array(devices).fill(width)
  for (let j = 0; j < devices; j++) leaveMs[layers * devices + j] = scope.returnMs[j]!

  for (let i = layers - 1; i >= scope.frontLo; i--) {
    for (let k = 0; k < devices; k++) {
      if (k === source) continue
      const row = k * width
      const base = k * (width + 1)
      const ms = computeMs[row + i + 1]! + leaveMs[(i + 1) * devices + k]!
      let head = front[k]!
      while (head <= back[k]! && queueMs[base + head]! >= ms) head++
      head--
      queue[base + head] = i + 1
      queueMs[base + head] = ms
      front[k] = head
      const limit = lastFit[row + i]!
      if (limit <= i) continue
      let tail = back[k]!
      while (queue[base + tail]! > limit) tail--
      back[k] = tail
      enterMs[i * devices + k] = prices[k]! + queueMs[base + tail]! - computeMs[row + i]!
      endAt[i * devices + k] = queue[base + tail]!
    }
    const edges = edgeTable(chain, i)
    const restMs = computeMs[source * width + layers]! - computeMs[source * width + i]!
    for (let j = 0; j < devices; j++) {
      let best = Number.POSITIVE_INFINITY
      let to = -1
      if (j !== source && scope.tailOpen[i] === 1) {
        best = edgeMs(chain, j, source, i) + restMs
        to = source
      }
      for (let k = 0; k < devices; k++) {
        const ms = edges[j * devices + k]! + enterMs[i * devices + k]!
        if (ms < best) {
          best = ms
          to = k
        }
      }
      leaveMs[i * devices + j] = best
      next[i * devices + j] = to
    }
  }

  let priceSum = 0
  for (let k = 0; k < devices; k++) if (k !== source) priceSum += prices[k]!
  let best = Number.POSITIVE_INFINITY
  let i = -1
  for (let end = scope.frontLo; end <= scope.frontHi; end++) {
    const ms = computeMs[source * width + end]! + leaveMs[end * devices + source]!
    if (ms < best) {
      best = ms
      i = end
    }
  }
  const visits = new Int32Array(devices)
  let at = source
  while (i >= 0 && i < layers) {
    at = next[i * devices + at]!
    if (at === source || at === -1) break
    visits[at]!++
    i = endAt[i * devices + at]!
  }
  return { prices, priceSum, bound: best - priceSum, leaveMs, enterMs, visits }
}

/** Share of the last direction kept in the next: damps the zigzag of plain subgradients. */
const MOMENTUM = 0.7
/** The step shrinks after this many rounds without progress, and small steps end the rounds. */
const STEP_SHRINK = 0.7
const PATIENCE = 6
const SMALLEST_STEP = 0.005

/**
 * Raises the bound by subgradient steps on the prices, from `start`, at most `rounds` of them; stops when the
 * bound passes `target`, when no path visits a device twice, or when steps have become small.
 */
export function tighten(
  chain: Chain,
  scope: Scope,
  start: Float64Array,
  target: number,
  rounds: number,
  expired: () => boolean
): Relaxation {
  let best = relax(chain, scope, start)
  let current = best
  let scale = 1
  let stale = 0
  const direction = new Float64Array(chain.devices)
  for (let round = 0; round < rounds; round++) {
    if (best.bound > target || !Number.isFinite(best.bound) || expired()) break
    let norm = 0
    let dual = 0
    for (let k = 0; k < chain.devices; k++) {
      if (k === chain.source) continue
      const surplus = current.visits[k]! - 1
      if (surplus > 0 || current.prices[k]! > 0) dual++
      const along = surplus + MOMENTUM * direction[k]!
      direction[k] = current.prices[k] === 0 && along < 0 ? 0 : along
      norm += direction[k]! * direction[k]!
    }
    if (norm === 0 || dual === 0) break
    const aim = Number.isFinite(target)
      ? Math.max(target, current.bound)
      : best.bound + 0.05 * Math.abs(best.bound)
    const step = (scale * Math.max(aim - current.bound, 1e-4 * Math.abs(aim))) / norm
    const prices = new Float64Array(chain.devices)
    for (let k = 0; k < chain.devices; k++) {
      if (k !== chain.source) prices[k] = Math.max(0, current.prices[k]! + step * direction[k]!)
    }
    current = relax(chain, scope, prices)
    if (current.bound > best.bound + 1e-5 * Math.abs(best.bound)) {
      stale = 0
    } else if (++stale >= PATIENCE) {
      stale = 0
      scale *= STEP_SHRINK
      if (scale < SMALLEST_STEP) break
    }
    if (current.bound > best.bound) best = current
  }
  return best
}

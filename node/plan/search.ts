/**
 * The exact search: labels (set of devices used, last device, layers done), one cheapest cost each, extended
 * device by device and dropped as soon as the relaxation proves that no completion beats the target.
 *
 * Dropping by proof keeps the search exact. Dropping for width or time lowers the bound it returns instead.
 */
import { type Chain, edgeMs, rangeMs } from './chain.ts'
import { coverStarts } from './cover.ts'
import { contains, HALF, MAX_CANDIDATES, openRow, type Row } from './labels.ts'
import type { Segment } from './problem.ts'
import { edgeTable, type Relaxation, type Scope } from './relax.ts'
import { twins } from './symmetry.ts'
import { throughMs } from './through.ts'

/**
 * A plan has to beat the target by this, relative, to be of interest: ties are not chased, and sums taken in
 * another order differ by less.
 */
export const RESOLUTION = 1e-10

/** What a plan has to cost less than to beat a target. */
export function cutBelow(target: number): number {
  return target === Number.POSITIVE_INFINITY ? target : target * (1 - RESOLUTION)
}
/** Entry costs held at once, ten bytes each: about 200 MB. */
const OPEN_ENTRIES = 2e7

export interface Found {
  readonly segments: readonly Segment[]
  readonly costMs: number
}

export interface SearchResult {
  /** The cheapest plan found below the target. */
  readonly found: Found | undefined
  /** No plan in scope is cheaper than this, to the resolution of the search. */
  readonly bound: number
}

export interface SearchLimits {
  /** Plans above it are of no interest. */
  readonly target: number
  /** Labels kept per number of devices, and in all. */
  readonly width: number
  readonly total: number
  readonly expired: () => boolean
}

export function search(
  chain: Chain,
  scope: Scope,
  relaxation: Relaxation,
  limits: SearchLimits
): SearchResult {
  return new Search(chain, scope, relaxation, limits).run()
}

class Search {
  readonly #chain: Chain
  readonly #scope: Scope
  readonly #relaxation: Relaxation
  readonly #limits: SearchLimits
  readonly #candidates: number[]
  /** Per candidate: the interchangeable one that has to be used before it, or -1. */
  readonly #twin: number[]
  /** The layer from which on a set of devices can hold the rest, by set. */
  readonly #coverStart: Int16Array | undefined
  readonly #rows: Map<number, Row>[]
  readonly #maxRows: number
  #target: number
  #bound = Number.POSITIVE_INFINITY
  #found: Found | undefined
  #isOver = false

  constructor(chain: Chain, scope: Scope, relaxation: Relaxation, limits: SearchLimits) {
    this.#chain = chain
    this.#scope = scope
    this.#relaxation = relaxation
    this.#limits = limits
    this.#target = limits.target
    this.#maxRows = Math.ceil(OPEN_ENTRIES / (chain.layers + 1))
    this.#candidates = this.#chooseCandidates()
    this.#coverStart = coverStarts(chain, scope, this.#candidates)
    this.#twin = twins(chain, this.#candidates)
    this.#rows = this.#candidates.map(() => new Map())
  }

  run(): SearchResult {
    let level = this.#open()
    let total = 0
    while (level.length > 0) {
      const labels = this.#close(level)
      if (labels === 0) break
      if (labels > this.#limits.width) this.#narrow(level)
      total += Math.min(labels, this.#limits.width)
      if (total > this.#limits.total) {
        for (const row of level) for (const bound of row.boundMs) this.#drop(bound)
        break
      }
      level = this.#extend(level)
    }
    return { found: this.#found, bound: Math.min(this.#bound, this.#target) }
  }

  #cut(): number {
    return cutBelow(this.#target)
  }

  /** The first layer from which the devices outside a set can hold the rest. */
  #restStart(low: number): number {
    const starts = this.#coverStart
    return starts === undefined ? 0 : starts[starts.length - 1 - low]!
  }

  /** Whether the time is up: asked before each row, of which a level may have so many that it takes a good part of it. */
  #expired(): boolean {
    this.#isOver ||= this.#limits.expired()
    return this.#isOver
  }

  #drop(bound: number): void {
    if (bound < this.#bound) this.#bound = bound
  }

  /** Devices that some path at or below the target passes; the most promising when there are too many. */
  #chooseCandidates(): number[] {
    const chain = this.#chain
    const through = throughMs(chain, this.#scope, this.#relaxation)
    const candidates: number[] = []
    for (let k = 0; k < chain.devices; k++) {
      if (k !== chain.source && through[k]! <= this.#cut()) candidates.push(k)
    }
    if (candidates.length <= MAX_CANDIDATES) return candidates
    candidates.sort((a, b) => through[a]! - through[b]! || a - b)
    this.#drop(through[candidates[MAX_CANDIDATES]!]!)
    return candidates.slice(0, MAX_CANDIDATES).sort((a, b) => a - b)
  }

  #open(): Row[] {
    const chain = this.#chain
    const level: Row[] = []
    let room = 0
    for (const k of this.#candidates) room += chain.capacity[k]!
    const tail = this.#scope.tailOpen.indexOf(1)
    if (tail >= 0) room += chain.layers - tail
    for (let end = this.#scope.frontLo; end <= this.#scope.frontHi; end++) {
      const cost = rangeMs(chain, chain.source, 0, end)
      this.#spread(level, end, cost, chain.source, 0, 0, 0, room)
    }
    return level
  }

  #extend(level: readonly Row[]): Row[] {
    const chain = this.#chain
    const next: Row[] = []
    for (const row of level) {
      if (this.#expired()) {
        for (const bound of row.boundMs) this.#drop(bound)
        continue
      }
      const last = this.#candidates[row.last]!
      for (let n = 0; n < row.done.length; n++) {
        const i = row.done[n]!
        if (i >= chain.layers || row.boundMs[n] === Number.POSITIVE_INFINITY || row.boundMs[n]! > this.#cut())
          continue
        this.#spread(next, i, row.costMs[n]!, last, row.low, row.high, row.paid, row.room)
      }
    }
    return next
  }

  /** Continues one label into every candidate that may follow. */
  #spread(
    level: Row[],
    i: number,
    costMs: number,
    last: number,
    low: number,
    high: number,
    paid: number,
    room: number
  ): void {
    const { devices, layers } = this.#chain
    if (layers - i > room || i < this.#restStart(low)) return
    const { enterMs, priceSum, prices } = this.#relaxation
    const edges = edgeTable(this.#chain, i)
    const cut = this.#cut() + priceSum - paid
    for (let c = 0; c < this.#candidates.length; c++) {
      const k = this.#candidates[c]!
      const cost = costMs + edges[last * devices + k]!
      const bound = cost + enterMs[i * devices + k]!
      if (!(bound <= cut) || bound === Number.POSITIVE_INFINITY || contains(low, high, c)) continue
      const twin = this.#twin[c]!
      if (twin >= 0 && !contains(low, high, twin)) continue
      const newLow = c < HALF ? low | (1 << c) : low
      const newHigh = c < HALF ? high : high | (1 << (c - HALF))
      const key = newHigh * 2 ** HALF + newLow
      let row = this.#rows[c]!.get(key)
      if (row === undefined) {
        if (level.length >= this.#maxRows) {
          this.#drop(bound + paid - priceSum)
          continue
        }
        row = openRow(newLow, newHigh, c, paid + prices[k]!, room - this.#chain.capacity[k]!, layers)
        this.#rows[c]!.set(key, row)
        level.push(row)
      }
      if (cost < row.entryMs[i]!) {
        row.entryMs[i] = cost
        row.entryFrom[i] = last
        row.leastMs = Math.min(row.leastMs, bound + paid - priceSum)
      }
    }
  }

  /** Turns the entry costs of each row into labels, noting complete plans; the number of labels. */
  #close(level: readonly Row[]): number {
    let labels = 0
    const best = new Float64Array(this.#chain.layers + 1)
    const start = new Int16Array(this.#chain.layers + 1)
    for (const row of level) {
      if (this.#expired()) this.#drop(row.leastMs)
      else labels += this.#closeRow(row, best, start)
    }
    return labels
  }

  #closeRow(row: Row, best: Float64Array, start: Int16Array): number {
    const { devices, layers, computeMs, lastFit } = this.#chain
    const { leaveMs, priceSum } = this.#relaxation
    const device = this.#candidates[row.last]!
    const base = device * (layers + 1)
    const credit = row.paid - priceSum
    best.fill(Number.POSITIVE_INFINITY)
    let from = layers
    let to = 0
    for (let i = 0; i < layers; i++) {
      const entry = row.entryMs[i]!
      if (entry === Number.POSITIVE_INFINITY) continue
      from = Math.min(from, i + 1)
      const fit = lastFit[base + i]!
      to = Math.max(to, fit)
      const offset = entry - computeMs[base + i]!
      for (let end = i + 1; end <= fit; end++) {
        const cost = offset + computeMs[base + end]!
        if (cost < best[end]!) {
          best[end] = cost
          start[end] = i
        }
      }
    }
    let count = 0
    const cut = this.#cut()
    const needed = this.#restStart(row.low)
    for (let end = from; end <= to; end++) {
      const bound = best[end]! + leaveMs[end * devices + device]! + credit
      if (end >= needed && bound <= cut && bound < Number.POSITIVE_INFINITY) count++
      else best[end] = Number.POSITIVE_INFINITY
    }
    const { entryFrom } = row
    row.entryMs = new Float64Array(0)
    row.entryFrom = new Int16Array(0)
    row.done = new Int16Array(count)
    row.costMs = new Float64Array(count)
    row.boundMs = new Float64Array(count)
    row.start = new Int16Array(count)
    row.before = new Int16Array(count)
    let n = 0
    for (let end = from; end <= to; end++) {
      if (best[end] === Number.POSITIVE_INFINITY) continue
      row.done[n] = end
      row.costMs[n] = best[end]!
      row.boundMs[n] = best[end]! + leaveMs[end * devices + device]! + credit
      row.start[n] = start[end]!
      row.before[n] = entryFrom[start[end]!]!
      n++
    }
    for (n = 0; n < count; n++) this.#complete(row, n, device)
    return count
  }

  /** Ends a label's path: the token returns, or the source takes the rest over. */
  #complete(row: Row, n: number, device: number): void {
    const chain = this.#chain
    const i = row.done[n]!
    if (i === chain.layers) {
      const costMs = row.costMs[n]! + this.#scope.returnMs[device]!
      if (costMs < this.#cut()) this.#accept(costMs, this.#trace(row, n))
      return
    }
    if (this.#scope.tailOpen[i] !== 1) return
    const costMs =
      row.costMs[n]! + edgeMs(chain, device, chain.source, i) + rangeMs(chain, chain.source, i, chain.layers)
    if (!(costMs < this.#cut())) return
    this.#accept(costMs, [...this.#trace(row, n), { device: chain.source, start: i, end: chain.layers }])
  }

  #accept(costMs: number, segments: readonly Segment[]): void {
    if (this.#found !== undefined && costMs >= this.#found.costMs) return
    this.#found = { segments, costMs }
    this.#target = Math.min(this.#target, costMs)
  }

  /** Follows a label back to the source. */
  #trace(row: Row, n: number): Segment[] {
    const segments: Segment[] = []
    let at = row
    let label = n
    for (;;) {
      const start = at.start[label]!
      const before = at.before[label]!
      segments.push({ device: this.#candidates[at.last]!, start, end: at.done[label]! })
      if (before === this.#chain.source) {
        segments.push({ device: before, start: 0, end: start })
        return segments.reverse()
      }
      const c = at.last
      const low = c < HALF ? at.low & ~(1 << c) : at.low
      const high = c < HALF ? at.high : at.high & ~(1 << (c - HALF))
      at = this.#rows[this.#candidates.indexOf(before)]!.get(high * 2 ** HALF + low)!
      label = at.done.indexOf(start)
    }
  }

  /** Keeps the labels with the lowest bounds. */
  #narrow(level: readonly Row[]): void {
    const bounds: number[] = []
    for (const row of level) for (const bound of row.boundMs) bounds.push(bound)
    const sorted = Float64Array.from(bounds).sort()
    const limit = sorted[this.#limits.width]!
    for (const row of level) {
      for (let n = 0; n < row.boundMs.length; n++) {
        if (row.boundMs[n]! < limit) continue
        this.#drop(row.boundMs[n]!)
        row.boundMs[n] = Number.POSITIVE_INFINITY
      }
    }
  }
}

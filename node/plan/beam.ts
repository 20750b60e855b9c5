/**
 * A good plan where the exact search is too narrow to find one: paths grow layer by layer, and of those that have as many
 * layers done only the most promising go on, by what they cost so far and what the relaxation says of the rest.
 *
 * Unlike `search.ts` it knows sets of any number of devices, and proves nothing.
 */
import { type Chain, edgeMs, rangeMs } from './chain.ts'
import type { Segment } from './problem.ts'
import { edgeTable, type Relaxation, type Scope } from './relax.ts'
import { cutBelow, type Found } from './search.ts'

export interface BeamLimits {
  /** Plans above it are of no interest. */
  readonly target: number
  /** Paths that go on from each layer. */
  readonly width: number
  readonly expired: () => boolean
}

/** Paths held for a layer, in widths, until they are thinned out to the most promising. */
const HELD = 4
const WORD = 32

/** A path up to a layer. */
interface Path {
  readonly device: number
  readonly start: number
  readonly end: number
  readonly costMs: number
  /** No completion is cheaper, by the relaxation. */
  readonly bound: number
  /** Sum of the prices of its devices. */
  readonly paid: number
  readonly before: Path | undefined
  /** (devices / 32): a bit for each device on the way; worked out once the path goes on. */
  used: Uint32Array | undefined
}

/** The cheapest plan below the target that a beam of this width meets. */
export function beam(
  chain: Chain,
  scope: Scope,
  relaxation: Relaxation,
  limits: BeamLimits
): Found | undefined {
  return new Beam(chain, scope, relaxation, limits).run()
}

class Beam {
  readonly #chain: Chain
  readonly #scope: Scope
  readonly #relaxation: Relaxation
  readonly #limits: BeamLimits
  /** (layers + 1): paths by layers done. */
  readonly #held: Path[][]
  /** (layers + 1): bounds from which on paths are not held. */
  readonly #worst: Float64Array
  #cut: number
  #found: Found | undefined

  constructor(chain: Chain, scope: Scope, relaxation: Relaxation, limits: BeamLimits) {
    this.#chain = chain
    this.#scope = scope
    this.#relaxation = relaxation
    this.#limits = limits
    this.#held = Array.from({ length: chain.layers + 1 }, () => [])
    this.#worst = new Float64Array(chain.layers + 1).fill(Number.POSITIVE_INFINITY)
    this.#cut = cutBelow(limits.target)
  }

  run(): Found | undefined {
    const { layers, source } = this.#chain
    const { frontLo, frontHi } = this.#scope
    for (let i = frontLo; i <= layers && !this.#limits.expired(); i++) {
      if (i <= frontHi) {
        const costMs = rangeMs(this.#chain, source, 0, i)
        const front = { device: source, start: 0, end: i, costMs, bound: costMs, paid: 0, before: undefined }
        this.#extend({ ...front, used: this.#noDevices() })
      }
      this.#thin(i)
      for (const path of this.#held[i]!) {
        if (path.bound > this.#cut) continue
        this.#complete(path)
        this.#extend(path)
      }
      this.#held[i] = []
    }
    return this.#found
  }

  #noDevices(): Uint32Array {
    return new Uint32Array(Math.ceil(this.#chain.devices / WORD))
  }

  /** Continues a path into every device that it has not passed, up to every layer that fits there. */
  #extend(path: Path): void {
    const { devices, layers, source, computeMs, lastFit } = this.#chain
    const { enterMs, leaveMs, prices, priceSum } = this.#relaxation
    const i = path.end
    if (i >= layers) return
    const used = path.used ?? this.#usedBy(path)
    path.used = used
    const edges = edgeTable(this.#chain, i)
    for (let k = 0; k < devices; k++) {
      const entryMs = path.costMs + edges[path.device * devices + k]!
      const credit = path.paid - priceSum
      if (!(entryMs + enterMs[i * devices + k]! + credit <= this.#cut)) continue
      if (k === source || ((used[k >> 5]! >>> (k & 31)) & 1) === 1) continue
      const row = k * (layers + 1)
      const paid = path.paid + prices[k]!
      const offset = entryMs - computeMs[row + i]!
      const fit = lastFit[row + i]!
      for (let end = i + 1; end <= fit; end++) {
        const costMs = offset + computeMs[row + end]!
        const bound = costMs + leaveMs[end * devices + k]! + paid - priceSum
        if (!(bound <= this.#cut) || bound >= this.#worst[end]! || bound === Number.POSITIVE_INFINITY)
          continue
        const held = this.#held[end]!
        held.push({ device: k, start: i, end, costMs, bound, paid, before: path, used: undefined })
        if (held.length >= HELD * this.#limits.width) this.#thin(end)
      }
    }
  }

  #usedBy({ device, before }: Path): Uint32Array {
    const used = before?.used?.slice() ?? this.#noDevices()
    used[device >> 5]! |= 1 << (device & 31)
    return used
  }

  /** Keeps the most promising paths to a layer, of those over the same devices to the same last one the cheapest. */
  #thin(i: number): void {
    const { width } = this.#limits
    const kept = new Map<string, Path>()
    for (const path of this.#held[i]!.sort((a, b) => a.bound - b.bound)) {
      path.used ??= this.#usedBy(path)
      const key = `${path.device},${path.used.join()}`
      if (!kept.has(key)) kept.set(key, path)
      if (kept.size === width) {
        this.#worst[i] = path.bound
        break
      }
    }
    this.#held[i] = [...kept.values()]
  }

  /** Ends a path: the token returns, or the source takes the rest over. */
  #complete(path: Path): void {
    const { layers, source } = this.#chain
    const { device, end } = path
    if (end === layers) {
      this.#accept(path.costMs + this.#scope.returnMs[device]!, path, [])
    } else if (this.#scope.tailOpen[end] === 1) {
      const tailMs = edgeMs(this.#chain, device, source, end) + rangeMs(this.#chain, source, end, layers)
      this.#accept(path.costMs + tailMs, path, [{ device: source, start: end, end: layers }])
    }
  }

  #accept(costMs: number, last: Path, tail: readonly Segment[]): void {
    if (!(costMs < this.#cut)) return
    const segments: Segment[] = []
    for (let path: Path | undefined = last; path !== undefined; path = path.before) {
      segments.push({ device: path.device, start: path.start, end: path.end })
    }
    this.#found = { segments: [...segments.reverse(), ...tail], costMs }
    this.#cut = cutBelow(costMs)
  }
}

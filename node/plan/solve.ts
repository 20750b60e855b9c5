/**
 * The cheapest path of a chain, with a proven bound: prices first, a narrow search for a good plan, then the
 * exact search below it.
 */
import { type Chain, rangeMs } from './chain.ts'
import { type Relaxation, type Scope, tighten } from './relax.ts'
import { type Found, search } from './search.ts'

export interface SolveLimits {
  /** Only plans that cost less are of interest. */
  readonly target: number
  /** True once the time is up: the best so far is returned, with what is proven. */
  readonly expired: () => boolean
  /** Prices to start from, those of a similar chain. */
  readonly prices?: Float64Array | undefined
  /** Return any plan below the target, not the cheapest. @default false */
  readonly anyPlan?: boolean
}

export interface Solved {
  /** The cheapest plan found below the target. */
  readonly found: Found | undefined
  /** No plan is cheaper than this; at most the target, or Infinity where no plan exists at all. */
  readonly bound: number
  readonly prices: Float64Array
}

/** Subgradient rounds between searches. */
const ROUNDS = 120
/** Labels per number of devices in the searches for a good plan, which widen while the gap is not small. */
const NARROW = [30, 30, 100, 300, 1000]
const SMALL_GAP = 0.005
/** Labels in the exact search: per number of devices, and in all; 22 bytes each. */
const WIDE = 4_000_000
const TOTAL = 12_000_000

/** Fronts still to be looked at. */
interface Node {
  readonly frontLo: number
  readonly frontHi: number
  readonly bound: number
}

export function solve(chain: Chain, limits: SolveLimits): Solved {
  return new Solver(chain, limits).run()
}

class Solver {
  readonly #chain: Chain
  readonly #limits: SolveLimits
  readonly #nodes: Node[]
  #best: Found | undefined
  #target: number
  #bound = Number.POSITIVE_INFINITY
  #prices: Float64Array

  constructor(chain: Chain, limits: SolveLimits) {
    this.#chain = chain
    this.#limits = limits
    this.#target = limits.target
    this.#prices = limits.prices ?? new Float64Array(chain.devices)
    this.#nodes = [{ frontLo: chain.frontMin, frontHi: chain.frontMax, bound: Number.NEGATIVE_INFINITY }]
  }

  run(): Solved {
    this.#note(solo(this.#chain))
    for (let node = this.#nodes.pop(); node !== undefined; node = this.#nodes.pop()) {
      if (this.#limits.anyPlan === true && this.#best !== undefined) {
        this.#bound = Math.min(this.#bound, node.bound)
      } else if (node.frontLo <= node.frontHi) {
        this.#visit(node)
      }
    }
    return { found: this.#best, bound: Math.min(this.#bound, this.#target), prices: this.#prices }
  }

  #note(found: Found | undefined): void {
    if (found === undefined || found.costMs >= this.#target) return
    this.#best = found
    this.#target = found.costMs
  }

  #visit(node: Node): void {
    const scope = scopeOf(this.#chain, node)
    if (!enoughRoom(this.#chain, scope)) return
    const relaxation = this.#prepare(scope)
    const enough = this.#limits.anyPlan === true && this.#best !== undefined
    if (relaxation.bound >= this.#target || enough || this.#limits.expired()) {
      this.#bound = Math.min(this.#bound, Math.max(node.bound, relaxation.bound))
      return
    }
    const result = search(this.#chain, scope, relaxation, {
      target: this.#target,
      width: WIDE,
      total: TOTAL,
      expired: this.#limits.expired
    })
    this.#note(result.found)
    const { blocked } = result
    if (blocked === undefined || blocked.costMs >= this.#target) {
      this.#bound = Math.min(this.#bound, Math.max(node.bound, relaxation.bound, result.bound))
      return
    }
    const split = this.#splitPoint(node, blocked)
    const bound = Math.max(node.bound, relaxation.bound)
    this.#nodes.push({ frontLo: split, frontHi: node.frontHi, bound })
    this.#nodes.push({ frontLo: node.frontLo, frontHi: split - 1, bound })
  }

  /** Good prices, and a good plan where a narrow search finds one. */
  #prepare(scope: Scope): Relaxation {
    const { expired } = this.#limits
    let relaxation = tighten(this.#chain, scope, this.#prices, this.#target, ROUNDS, expired)
    for (const width of NARROW) {
      if (relaxation.bound >= this.#target || expired()) break
      this.#note(
        search(this.#chain, scope, relaxation, { target: this.#target, width, total: TOTAL, expired }).found
      )
      if (this.#limits.anyPlan === true && this.#best !== undefined) break
      relaxation = tighten(this.#chain, scope, relaxation.prices, this.#target, ROUNDS, expired)
      if (this.#target - relaxation.bound <= SMALL_GAP * this.#target) break
    }
    if (Number.isFinite(relaxation.bound)) this.#prices = relaxation.prices
    return relaxation
  }

  /** The first front with which the blocked tail no longer fits: both halves exclude the blocked pair. */
  #splitPoint(node: Node, blocked: { front: number; tail: number }): number {
    let front = node.frontLo + 1
    while (front < blocked.front && this.#chain.tailFits(front, blocked.tail)) front++
    return front
  }
}

/** Whether the devices can hold all layers at all, counting the most layers in a row for each. */
function enoughRoom(chain: Chain, scope: Scope): boolean {
  const tail = scope.tailOpen.indexOf(1)
  let room = scope.frontHi + (tail >= 0 ? chain.layers - tail : 0)
  for (let k = 0; k < chain.devices; k++) if (k !== chain.source) room += chain.capacity[k]!
  return room >= chain.layers
}

/** Everything on the source, where that fits. */
function solo(chain: Chain): Found | undefined {
  const { layers, source } = chain
  if (chain.lastFit[source * (layers + 1)]! < layers) return undefined
  return {
    segments: [{ device: source, start: 0, end: layers }],
    costMs: rangeMs(chain, source, 0, layers)
  }
}

/**
 * Where the source may take over again, judged with the smallest front in scope.
 *
 * A tail that begins inside a run of equal layers reaching back to the front can hand its first layer to the
 * front, everything between moving up by one, at no cost: such tails are left out.
 */
export function scopeOf(chain: Chain, range: { frontLo: number; frontHi: number }): Scope {
  const { frontLo, frontHi } = range
  const tailOpen = new Uint8Array(chain.layers)
  const level = frontLo < chain.layers && chain.bitsMs[frontLo] === chain.bitsMs[frontLo + 1]
  let run = 0
  for (let tail = 1; tail < chain.layers; tail++) {
    if (chain.repeats[tail] === 0) run = tail
    if (tail <= frontLo || !chain.tailFits(frontLo, tail)) continue
    const shifts = level && run <= frontLo && tail + 1 < chain.layers
    tailOpen[tail] = shifts ? 0 : 1
  }
  return { frontLo, frontHi, tailOpen }
}

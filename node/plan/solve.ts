/**
 * The cheapest path of a chain, with a proven bound: prices first, beams for a good plan, then the exact search
 * below it.
 */
import { beam } from './beam.ts'
import { buildChain, type Chain, type Pricing } from './chain.ts'
import { greedy } from './greedy.ts'
import { sourcePlaces } from './places.ts'
import type { Problem } from './problem.ts'
import { type Relaxation, type Scope, tighten } from './relax.ts'
import { cutBelow, type Found, search } from './search.ts'

export interface SolveLimits {
  /** Only plans that cost less are of interest. */
  readonly target: number
  /** True once the time is up: the best so far is returned, with what is proven. */
  readonly expired: () => boolean
  /** Prices to start from, those of a similar chain. */
  readonly prices?: Float64Array | undefined
  /** Return any plan below the target, not the cheapest. @default false */
  readonly anyPlan?: boolean
  /** Only a short look: few rounds, one beam. What is not found may still be there. @default false */
  readonly quick?: boolean
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
const QUICK_ROUNDS = 25
/** Widths of the beams for a good plan, which widen while the gap is not small. */
const WIDTHS = [30, 30, 100, 300, 1000]
const SMALL_GAP = 0.005
/** Labels in the exact search: per number of devices, and in all; 22 bytes each. */
const WIDE = 4_000_000
const TOTAL = 12_000_000

/** Pieces of the fronts looked at with both endings together; with more, each ending by itself. */
const MAX_PIECES = 3

/** Plans still to be looked at. */
interface Node {
  readonly frontLo: number
  readonly frontHi: number
  /** Whether the token may return from the last stage, and whether the source may hold the tail. */
  readonly returns: boolean
  readonly tails: boolean
  readonly bound: number
}

export function solve(chain: Chain, limits: SolveLimits): Solved {
  return new Solver(chain, limits).run()
}

/** The same with the first layers on any place of the source: one chain for each, each against the best of those before. */
export function solveAnywhere(
  problem: Problem,
  pricing: Pricing,
  limits: SolveLimits,
  limitMs?: number
): Solved {
  let { target, prices } = limits
  let found: Found | undefined
  let bound = Number.POSITIVE_INFINITY
  for (const source of sourcePlaces(problem)) {
    if (limits.anyPlan === true && found !== undefined) {
      bound = Number.NEGATIVE_INFINITY
      break
    }
    const solved = solve(buildChain(problem, pricing, limitMs, source), { ...limits, target, prices })
    prices = solved.prices
    bound = Math.min(bound, solved.bound)
    if (solved.found === undefined) continue
    found = solved.found
    target = found.costMs
  }
  return { found, bound, prices: prices ?? new Float64Array(problem.devices.length) }
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
    this.#nodes = rootNodes(chain)
  }

  get #rounds(): number {
    return this.#limits.quick === true ? QUICK_ROUNDS : ROUNDS
  }

  run(): Solved {
    this.#note(solo(this.#chain))
    this.#note(greedy(this.#chain))
    for (let node = this.#nodes.pop(); node !== undefined; node = this.#nodes.pop()) {
      const enough = this.#limits.anyPlan === true && this.#best !== undefined
      if (enough || node.bound >= this.#target) this.#close(node.bound)
      else this.#visit(node)
    }
    return { found: this.#best, bound: Math.min(this.#bound, this.#target), prices: this.#prices }
  }

  /** Nothing left to look at is cheaper than this. */
  #close(bound: number): void {
    this.#bound = Math.min(this.#bound, bound)
  }

  #note(found: Found | undefined): void {
    if (found === undefined || !(found.costMs < cutBelow(this.#target))) return
    this.#best = found
    this.#target = found.costMs
  }

  #visit(node: Node): void {
    const scope = scopeOf(this.#chain, node)
    if (!enoughRoom(this.#chain, scope)) return
    const { expired } = this.#limits
    const exact = !node.tails || compatibleTo(this.#chain, scope) === node.frontHi
    const relaxation = exact
      ? this.#prepare(scope)
      : tighten(this.#chain, scope, this.#prices, this.#target, this.#rounds, expired)
    const bound = Math.max(node.bound, relaxation.bound)
    const enough = this.#limits.anyPlan === true && this.#best !== undefined
    if (bound >= this.#target || enough || this.#limits.quick === true || expired()) {
      this.#close(bound)
      return
    }
    if (!exact) {
      const middle = (node.frontLo + node.frontHi) >> 1
      this.#nodes.push({ ...node, frontLo: middle + 1, bound }, { ...node, frontHi: middle, bound })
      return
    }
    const limits = { target: this.#target, width: WIDE, total: TOTAL, expired }
    const result = search(this.#chain, scope, relaxation, limits)
    this.#note(result.found)
    this.#close(Math.max(bound, result.bound))
  }

  /** Good prices, and a good plan where a beam finds one. */
  #prepare(scope: Scope): Relaxation {
    const { expired } = this.#limits
    let relaxation = tighten(this.#chain, scope, this.#prices, this.#target, this.#rounds, expired)
    for (const width of WIDTHS) {
      if (relaxation.bound >= this.#target || expired()) break
      this.#note(beam(this.#chain, scope, relaxation, { target: this.#target, width, expired }))
      if (this.#limits.quick === true || (this.#limits.anyPlan === true && this.#best !== undefined)) break
      relaxation = tighten(this.#chain, scope, relaxation.prices, this.#target, this.#rounds, expired)
      if (this.#target - relaxation.bound <= SMALL_GAP * this.#target) break
    }
    if (Number.isFinite(relaxation.bound)) this.#prices = relaxation.prices
    return relaxation
  }
}

/**
 * Front and tail share the source's memory, which a path does not see: within a node every open tail has to
 * fit beside every front. A few pieces do for ordinary models, where only the head can be the tail.
 */
function rootNodes(chain: Chain): Node[] {
  const all = { frontLo: chain.frontMin, frontHi: chain.frontMax, bound: Number.NEGATIVE_INFINITY }
  if (all.frontLo > all.frontHi) return []
  const pieces: Node[] = []
  for (let frontLo = all.frontLo; frontLo <= all.frontHi && pieces.length <= MAX_PIECES; ) {
    const piece = { ...all, frontLo, returns: true, tails: true }
    const frontHi = compatibleTo(chain, scopeOf(chain, piece))
    pieces.push({ ...piece, frontHi })
    frontLo = frontHi + 1
  }
  if (pieces.length <= MAX_PIECES) return pieces.reverse()
  return [
    { ...all, returns: false, tails: true },
    { ...all, returns: true, tails: false }
  ]
}

/** The largest front that fits beside the longest open tail. */
function compatibleTo(chain: Chain, scope: Scope): number {
  const tail = scope.tailOpen.indexOf(1)
  if (tail < 0) return scope.frontHi
  let front = scope.frontLo
  while (front < scope.frontHi && chain.tailFits(front + 1, tail)) front++
  return front
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
  const { layers, source, wholeMs } = chain
  if (wholeMs === Number.POSITIVE_INFINITY) return undefined
  return { segments: [{ device: source, start: 0, end: layers }], costMs: wholeMs }
}

/**
 * The layers from which on the source may take over again, judged with the smallest front in scope.
 *
 * A tail that begins inside a run of equal layers reaching back to the front can hand its first layer to the
 * front, everything between moving up by one, at no cost: such tails are left out.
 */
export function scopeOf(chain: Chain, part: Partial<Node> & Pick<Node, 'frontLo' | 'frontHi'>): Scope {
  const { frontLo, frontHi, returns = true, tails = true } = part
  const tailOpen = new Uint8Array(chain.layers)
  const returnMs = returns ? chain.returnMs : new Float64Array(chain.devices).fill(Number.POSITIVE_INFINITY)
  if (!tails) return { frontLo, frontHi, returnMs, tailOpen }
  const level = frontLo < chain.layers && chain.bitsMs[frontLo] === chain.bitsMs[frontLo + 1]
  let run = 0
  for (let tail = 1; tail < chain.layers; tail++) {
    if (chain.repeats[tail] === 0) run = tail
    if (tail <= frontLo || !chain.tailFits(frontLo, tail)) continue
    const shifts = level && run <= frontLo && tail + 1 < chain.layers
    tailOpen[tail] = shifts ? 0 : 1
  }
  return { frontLo, frontHi, returnMs, tailOpen }
}

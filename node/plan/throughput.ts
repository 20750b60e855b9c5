/**
 * Throughput planning: stages, batch and number of micro-batches together.
 *
 * For a batch B in m micro-batches of b = ceil(B / m) the value of a placement is max(T(b), m * max(b)) / B.
 * A placement below V is one with T(b) < V none of whose resources is busy for more than V / m, which is a
 * latency problem with shorter ranges and fewer links. So: bisection on V, and for every other (B, m) one
 * proof that it cannot beat the best.
 */
import { computeTable } from './chain.ts'
import { priceStep } from './cost.ts'
import type { Placement, Solution } from './latency.ts'
import { sourcePlaces } from './places.ts'
import { type Problem, pinnedPrefix } from './problem.ts'
import { RESOLUTION } from './search.ts'
import { solveAnywhere } from './solve.ts'

/** Short looks stop when they are this near to the best, relative; proofs take over. */
const CLOSE = 0.01
/** Looks begin at this share of what is to be beaten: below it, steps of GROWTH would be many. */
const LEAST_SHARE = 1e-3
/** How far over a mode's lower bound the next look goes at most. */
const GROWTH = 1.4

/** One way to run the batch. */
interface Mode {
  readonly batch: number
  readonly microBatch: number
  readonly microBatches: number
  /** No placement run this way has a lower max(T, m * max), in ms. */
  lowMs: number
  /** Short looks found nothing below. */
  softMs: number
  prices: Float64Array | undefined
  closed: boolean
}

/** @param options.oneByOne each sequence is a micro-batch of its own. @default false */
export function planThroughput(
  problem: Problem,
  expired: () => boolean,
  { oneByOne = false }: { readonly oneByOne?: boolean } = {}
): Solution {
  return new Search(problem, expired, oneByOne).run()
}

class Search {
  readonly #problem: Problem
  readonly #expired: () => boolean
  readonly #modes: Mode[]
  #best: Placement | undefined

  constructor(problem: Problem, expired: () => boolean, oneByOne: boolean) {
    this.#problem = problem
    this.#expired = expired
    this.#modes = listModes(problem, expired, oneByOne)
  }

  run(): Solution {
    this.#look()
    this.#prove()
    const low = Math.min(...this.#modes.map(mode => mode.lowMs / mode.batch))
    const best = this.#best
    return { best, lowerBoundMs: best === undefined ? low : Math.min(low, best.valueMs) }
  }

  /** What a mode has to beat, in ms of its whole batch. */
  #goalMs(mode: Mode): number {
    return this.#best === undefined ? Number.POSITIVE_INFINITY : this.#best.valueMs * mode.batch
  }

  /** Short looks, the most promising mode first, until none promises more. */
  #look(): void {
    while (!this.#expired()) {
      const mode = leastBy(
        this.#modes.filter(each => each.softMs < this.#goalMs(each) * (1 - CLOSE)),
        each => each.softMs / each.batch
      )
      if (mode === undefined) return
      const tryMs = this.#nextMs(mode)
      if (this.#try(mode, tryMs, true)) continue
      // A part of the smallest number there is is no smaller: a mode of such times is left to the proofs.
      mode.softMs = tryMs > mode.softMs ? tryMs : this.#goalMs(mode)
    }
  }

  /**
   * Where to look next: anywhere until there is a plan, then just below it in the other modes, then by halves
   * of the rest, from below: what does not exist is often disproved at once.
   */
  #nextMs(mode: Mode): number {
    const { softMs } = mode
    const goalMs = this.#goalMs(mode)
    if (goalMs === Number.POSITIVE_INFINITY) return goalMs
    if (mode.prices === undefined) return goalMs * (1 - CLOSE)
    if (softMs === 0) return goalMs / 2
    return Math.max(goalMs * LEAST_SHARE, Math.min(softMs * GROWTH, Math.sqrt(softMs * goalMs)))
  }

  /** Finds for every mode that may still be better a better plan, or a proof that there is none. */
  #prove(): void {
    while (!this.#expired()) {
      const mode = leastBy(
        this.#modes.filter(each => !each.closed && each.lowMs < this.#goalMs(each) * (1 - RESOLUTION)),
        each => each.lowMs / each.batch
      )
      if (mode === undefined) return
      if (!this.#try(mode, this.#goalMs(mode), false)) mode.closed = true
    }
  }

  /** Looks for a plan below `tryMs`: it is noted, or the mode's lower bound rises. */
  #try(mode: Mode, tryMs: number, quick: boolean): boolean {
    const { batch, microBatch, microBatches } = mode
    const limitMs = (tryMs / microBatches) * (1 - RESOLUTION)
    const limits = {
      target: tryMs,
      expired: this.#expired,
      prices: mode.prices,
      anyPlan: true,
      quick
    }
    const pricing = { kind: 'step', batch, microBatch } as const
    const { found, bound, prices } = solveAnywhere(this.#problem, pricing, limits, limitMs)
    mode.prices = prices
    mode.lowMs = Math.max(mode.lowMs, Math.min(bound, found?.costMs ?? tryMs))
    if (found === undefined) return false
    const { stepMs, busiestMs } = priceStep(this.#problem, found.segments, microBatch)
    const valueMs = Math.max(stepMs, microBatches * busiestMs) / batch
    if (this.#best !== undefined && valueMs >= this.#best.valueMs) return false
    this.#best = { segments: found.segments, batch, microBatches, valueMs }
    return true
  }
}

function leastBy(modes: readonly Mode[], key: (mode: Mode) => number): Mode | undefined {
  let least: Mode | undefined
  let leastKey = Number.POSITIVE_INFINITY
  for (const mode of modes) {
    const value = key(mode)
    if (least !== undefined && value >= leastKey) continue
    least = mode
    leastKey = value
  }
  return least
}

/** The fewest micro-batches for every batch and every size of micro-batch: more would only cost. */
function listModes(problem: Problem, expired: () => boolean, oneByOne: boolean): Mode[] {
  const { min, max } = problem.workload.batch
  const lows = new Map<number, Lows>()
  const modes: Mode[] = []
  for (let batch = min; batch <= max; batch++) {
    for (let microBatches = oneByOne ? batch : 1; microBatches <= batch; microBatches++) {
      const microBatch = Math.ceil(batch / microBatches)
      if (microBatches > 1 && Math.ceil(batch / (microBatches - 1)) === microBatch) continue
      let low = lows.get(microBatch)
      if (low === undefined) {
        low = expired() ? NOTHING_KNOWN : findLows(problem, microBatch)
        lows.set(microBatch, low)
      }
      const lowMs = Math.max(low.stepMs, microBatches * low.busiestMs)
      modes.push({
        batch,
        microBatch,
        microBatches,
        lowMs,
        softMs: lowMs,
        prices: undefined,
        closed: false
      })
    }
  }
  return modes
}

const NOTHING_KNOWN: Lows = { stepMs: 0, busiestMs: 0 }

interface Lows {
  readonly stepMs: number
  readonly busiestMs: number
}

/**
 * What no placement beats: T(b) with every layer on its fastest device, the pinned ones on the source; max(b)
 * with the work spread over all devices, each as fast as it is, against the fastest, on the layer that suits
 * it best.
 */
function findLows(problem: Problem, microBatch: number): Lows {
  const devices = problem.devices.length
  const layers = problem.layers.length
  const own = sourcePlaces(problem)
  // A single stage sends no frames, and one of several may take less all the same.
  const silent = {
    ...problem,
    devices: problem.devices.map(device => ({ ...device, frameMs: Math.min(0, device.frameMs ?? 0) }))
  }
  const table = computeTable(silent, { kind: 'step', batch: problem.workload.batch.min, microBatch })
  const layerMs = (k: number, i: number): number =>
    table[k * (layers + 1) + i + 1]! - table[k * (layers + 1) + i]!
  const slowdown = new Float64Array(devices).fill(Number.POSITIVE_INFINITY)
  const pinned = pinnedPrefix(problem)
  let stepMs = 0
  let workMs = 0
  for (let i = 0; i < layers; i++) {
    let fastest = Number.POSITIVE_INFINITY
    for (let k = 0; k < devices; k++) fastest = Math.min(fastest, layerMs(k, i))
    stepMs += i < pinned ? Math.min(...own.map(k => layerMs(k, i))) : fastest
    if (fastest <= 0) continue
    workMs += fastest
    for (let k = 0; k < devices; k++) slowdown[k] = Math.min(slowdown[k]!, layerMs(k, i) / fastest)
  }
  if (workMs === 0) return { stepMs: stepMs * (1 - RESOLUTION), busiestMs: 0 }
  let speed = 0
  for (const factor of slowdown) speed += 1 / factor
  return { stepMs: stepMs * (1 - RESOLUTION), busiestMs: (workMs / speed) * (1 - RESOLUTION) }
}

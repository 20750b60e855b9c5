/**
 * Throughput planning: stages, batch and number of micro-batches together.
 *
 * For a batch B in m micro-batches of b = ceil(B / m) the value of a placement is max(T(b), m * max(b)) / B.
 * A placement below V is one with T(b) < V none of whose resources is busy for more than V / m, which is a
 * latency problem with shorter ranges and fewer links. So: bisection on V, and for every other (B, m) one
 * proof that it cannot beat the best.
 */
import { buildChain, rangeMs } from './chain.ts'
import { priceStep } from './cost.ts'
import type { Placement, Solution } from './latency.ts'
import { type Problem, pinnedPrefix } from './problem.ts'
import { solve } from './solve.ts'

/** Bisection stops at this relative distance; then only better plans than the best are asked for. */
const CLOSE = 1e-4
/** Below this relative distance a plan counts as proven. */
const RESOLUTION = 1e-10

/** One way to run the batch. */
interface Mode {
  readonly batch: number
  readonly microBatch: number
  readonly microBatches: number
  /** No placement run this way has a lower max(T, m * max), in ms. */
  lowMs: number
  prices: Float64Array | undefined
  open: boolean
}

export function planThroughput(problem: Problem, expired: () => boolean): Solution {
  const modes = listModes(problem)
  let best: Placement | undefined
  const note = (segments: Placement['segments'], mode: Mode): void => {
    const { stepMs, busiestMs } = priceStep(problem, segments, mode.microBatch)
    const valueMs = Math.max(stepMs, mode.microBatches * busiestMs) / mode.batch
    if (best !== undefined && valueMs >= best.valueMs) return
    best = { segments, batch: mode.batch, microBatches: mode.microBatches, valueMs }
  }
  for (;;) {
    const mode = mostPromising(modes)
    const goalMs: number = best === undefined ? Number.POSITIVE_INFINITY : best.valueMs
    if (mode === undefined || mode.lowMs / mode.batch >= goalMs * (1 - RESOLUTION)) break
    if (expired()) break
    tryMode(problem, mode, goalMs * mode.batch, expired, note)
  }
  const low = Math.min(...modes.map(mode => mode.lowMs / mode.batch))
  const lowerBoundMs = best === undefined ? low : Math.min(low, best.valueMs)
  return { best, lowerBoundMs }
}

/** Narrows one mode down by one step: a better plan is noted, or its lower bound rises, or it is closed. */
function tryMode(
  problem: Problem,
  mode: Mode,
  goalMs: number,
  expired: () => boolean,
  note: (segments: Placement['segments'], mode: Mode) => void
): void {
  const first = mode.prices === undefined
  const wide = goalMs - mode.lowMs > CLOSE * goalMs
  const middleMs = mode.lowMs > 0 ? Math.sqrt(mode.lowMs * goalMs) : goalMs / 2
  const tryMs = first || !wide || goalMs === Number.POSITIVE_INFINITY ? goalMs : middleMs
  const { batch, microBatch, microBatches } = mode
  const limitMs = (tryMs / microBatches) * (1 - RESOLUTION)
  const chain = buildChain(problem, { kind: 'step', batch, microBatch }, limitMs)
  const { found, bound, prices } = solve(chain, {
    target: tryMs,
    expired,
    prices: mode.prices,
    anyPlan: true
  })
  mode.prices = prices
  if (found !== undefined) {
    note(found.segments, mode)
    return
  }
  const proven = Math.min(bound, tryMs)
  const stuck = proven < tryMs
  mode.lowMs = Math.max(mode.lowMs, bound === Number.POSITIVE_INFINITY ? tryMs : proven)
  if (stuck || tryMs === Number.POSITIVE_INFINITY) mode.open = false
}

function mostPromising(modes: readonly Mode[]): Mode | undefined {
  let best: Mode | undefined
  for (const mode of modes) {
    if (mode.open && (best === undefined || mode.lowMs / mode.batch < best.lowMs / best.batch)) best = mode
  }
  return best
}

/** For every batch and every size of micro-batch the fewest micro-batches: more would only cost. */
function listModes(problem: Problem): Mode[] {
  const { min, max } = problem.workload.batch
  const lows = new Map<number, Lows>()
  const modes: Mode[] = []
  for (let batch = min; batch <= max; batch++) {
    for (let microBatches = 1; microBatches <= batch; microBatches++) {
      const microBatch = Math.ceil(batch / microBatches)
      if (microBatches > 1 && Math.ceil(batch / (microBatches - 1)) === microBatch) continue
      let low = lows.get(microBatch)
      if (low === undefined) {
        low = findLows(problem, microBatch)
        lows.set(microBatch, low)
      }
      const lowMs = Math.max(low.stepMs, microBatches * low.busiestMs)
      modes.push({ batch, microBatch, microBatches, lowMs, prices: undefined, open: true })
    }
  }
  return modes
}

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
  const chain = buildChain(problem, { kind: 'step', batch: problem.workload.batch.min, microBatch })
  const { devices, layers, source } = chain
  const slowdown = new Float64Array(devices).fill(Number.POSITIVE_INFINITY)
  const pinned = pinnedPrefix(problem)
  let stepMs = rangeMs(chain, source, 0, pinned)
  let workMs = 0
  for (let i = 0; i < layers; i++) {
    let fastest = Number.POSITIVE_INFINITY
    for (let k = 0; k < devices; k++) fastest = Math.min(fastest, rangeMs(chain, k, i, i + 1))
    if (i >= pinned) stepMs += fastest
    if (fastest === 0) continue
    workMs += fastest
    for (let k = 0; k < devices; k++) {
      slowdown[k] = Math.min(slowdown[k]!, rangeMs(chain, k, i, i + 1) / fastest)
    }
  }
  if (workMs === 0) return { stepMs: stepMs * (1 - RESOLUTION), busiestMs: 0 }
  let speed = 0
  for (const factor of slowdown) speed += 1 / factor
  return { stepMs: stepMs * (1 - RESOLUTION), busiestMs: (workMs / speed) * (1 - RESOLUTION) }
}

/**
 * The published algorithms (EdgeShard, arXiv 2405.14371, Algorithms 1 and 2) with their evident slips repaired.
 *
 * Repaired in Algorithm 1: line 13 decrements one shared memory, here the memory used is carried along the kept
 * path; line 5 rejects an exact fit; line 23 appends a device too many. In Algorithm 2: line 15 compares with
 * the wrong state; line 7 confines the source to layer 0. Left as published: one path kept per (layer, device),
 * so the fast device fills up with the earliest layers and may be visited again; the batch is not seen (memory
 * is counted for the smallest allowed, times for one sequence); Algorithm 2 has no return of the token.
 */
import { buildChain, type Chain, edgeMs, rangeMs } from './chain.ts'
import { layerBytes } from './cost.ts'
import { latencyPricing } from './latency.ts'
import { paperThroughput } from './paper-throughput.ts'
import { type Problem, pinnedPrefix, pinsHead, type Segment } from './problem.ts'

export type PaperOutcome = { readonly segments: Segment[] } | { readonly reason: string }

export function paperDp(problem: Problem): PaperOutcome {
  const segments = problem.objective === 'throughput' ? paperThroughput(problem) : paperLatency(problem)
  if (typeof segments === 'string') return { reason: segments }
  if (segments === undefined) return { reason: 'out of memory: the published algorithm finds no plan' }
  return { segments }
}

/** The kept path to (layer, device): cost, weights per device, and where it came from. */
interface Kept {
  readonly costMs: number
  readonly usedBytes: Float64Array
  readonly device: number
  readonly before: Kept | undefined
}

/** Algorithm 1, O(layers x devices^2). */
function paperLatency(problem: Problem): Segment[] | undefined {
  const chain = buildChain(problem, latencyPricing(problem))
  const { devices, layers, source } = chain
  let row: (Kept | undefined)[] = Array(devices).fill(undefined)
  for (let i = 0; i < layers; i++) {
    const next: (Kept | undefined)[] = Array(devices).fill(undefined)
    for (let j = 0; j < devices; j++) {
      if (mustBeSource(problem, i) && j !== source) continue
      next[j] = i === 0 ? first(problem, chain) : extend(problem, chain, row, i, j)
    }
    row = next
  }
  let last: Kept | undefined
  for (const kept of row) {
    if (kept !== undefined && (last === undefined || kept.costMs < last.costMs)) last = kept
  }
  return last === undefined ? undefined : trace(last, layers)
}

function mustBeSource(problem: Problem, layer: number): boolean {
  return layer < pinnedPrefix(problem) || (pinsHead(problem) && layer === problem.layers.length - 1)
}

function first(problem: Problem, chain: Chain): Kept | undefined {
  const usedBytes = new Float64Array(chain.devices)
  usedBytes[chain.source] = layerBytes(problem, 0, problem.workload.batch.min)
  if (usedBytes[chain.source]! > problem.devices[chain.source]!.memoryBytes) return undefined
  return { costMs: rangeMs(chain, chain.source, 0, 1), usedBytes, device: chain.source, before: undefined }
}

/** Lines 9 to 14: the cheapest predecessor whose path still leaves room for layer i on j, the later on a tie. */
function extend(
  problem: Problem,
  chain: Chain,
  row: readonly (Kept | undefined)[],
  i: number,
  j: number
): Kept | undefined {
  const bytes = layerBytes(problem, i, problem.workload.batch.min)
  let best: Kept | undefined
  let bestMs = Number.POSITIVE_INFINITY
  for (const kept of row) {
    if (kept === undefined || kept.usedBytes[j]! + bytes > problem.devices[j]!.memoryBytes) continue
    const moved = kept.device === j ? 0 : edgeMs(chain, kept.device, j, i)
    let costMs = kept.costMs + rangeMs(chain, j, i, i + 1) + moved
    if (i === chain.layers - 1 && j !== chain.source) costMs += chain.returnMs[j]!
    if (costMs > bestMs) continue
    bestMs = costMs
    best = kept
  }
  if (best === undefined) return undefined
  const usedBytes = best.usedBytes.slice()
  usedBytes[j]! += bytes
  return { costMs: bestMs, usedBytes, device: j, before: best }
}

function trace(last: Kept, layers: number): Segment[] {
  const segments: Segment[] = []
  let end = layers
  let at: Kept = last
  for (let i = layers - 1; i >= 0; i--) {
    const before = at.before
    if (before === undefined || before.device !== at.device) {
      segments.push({ device: at.device, start: i, end })
      end = i
    }
    if (before !== undefined) at = before
  }
  return segments.reverse()
}

/** What a running mesh takes less than the scenario's `ttft`: chunks of a prompt follow each other from stage to stage. */

import { linkBetween, occupiedMs, priceTtft, segmentPrefillMs, transferBytes, transfersOf } from './cost.ts'
import type { Problem, Segment } from './problem.ts'

/**
 * Milliseconds to the first token of one sequence whose prompt goes in chunks of so many tokens: the first one through all stages
 * and links, and behind it as many as are left at the pace of the busiest device or link. Never more than `priceTtft`, which it
 * is where nothing overlaps: on one device, or with a prompt of one chunk.
 *
 * The last layer, delays of links, turns and the token's return come once, as there.
 */
export function overlappedTtftMs(
  problem: Problem,
  segments: readonly Segment[],
  chunkTokens: number
): number {
  const ttftMs = priceTtft(problem, segments)
  const chunks = Math.max(1, problem.workload.promptTokens / chunkTokens)
  const busyMs = [...promptMsByResource(problem, segments).values()]
  const othersMs = busyMs.reduce((sum, ms) => sum + ms, 0) - Math.max(0, ...busyMs)
  return ttftMs - (1 - 1 / chunks) * othersMs
}

/** For how long the whole prompt keeps each device, and each direction of a link. */
function promptMsByResource(problem: Problem, segments: readonly Segment[]): Map<string, number> {
  const { layers, workload } = problem
  const busyMs = new Map<string, number>()
  const add = (resource: string, ms: number) => busyMs.set(resource, (busyMs.get(resource) ?? 0) + ms)
  for (const segment of segments) {
    const end = Math.min(segment.end, layers.length - 1)
    add(`${segment.device}`, segmentPrefillMs(problem, { ...segment, end }))
  }
  for (const transfer of transfersOf(problem, segments)) {
    if (transfer.returns) continue
    const { from, to } = transfer
    const bytes = transferBytes(problem, transfer, workload.promptTokens)
    add(`${from} ${to}`, occupiedMs(linkBetween(problem, from, to), bytes))
  }
  return busyMs
}

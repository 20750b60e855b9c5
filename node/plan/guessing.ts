/**
 * Where guesses are sent ahead, several frames of one sequence are under way at once, and the busiest device counts for more
 * than the way through all of them: another placement than the one with the shortest step may be faster.
 */
import { decodeMs as decodeMsOf, price } from './cost.ts'
import type { Placement } from './latency.ts'
import type { KindTimes, Problem, Segment } from './problem.ts'
import { violation } from './rules.ts'
import { speculatedTpotMs } from './speculation.ts'
import { planThroughput } from './throughput.ts'

/** Sequences for which placements are looked for whose devices are all busy: as many as frames that may be under way. */
const FRAMES = [2, 8]

/**
 * The best for the workload's guesses among the placement with the shortest step and some that are made for several sequences at
 * once; no proof is given that there is no better one.
 *
 * @param best with the shortest step
 * @param expired true once the time is up
 */
export function placedForGuesses(problem: Problem, best: Placement, expired: () => boolean): Placement {
  const { workload } = problem
  if (problem.objective !== 'latency' || workload.speculation === undefined) return best
  const devices = problem.devices.map(device => ({ ...device, times: oneByOne(device.times) }))
  const others = FRAMES.flatMap(count => {
    if (expired()) return []
    // All of them share the memory of the one sequence.
    const contextTokens = Math.floor(workload.contextTokens / count)
    const several = { ...workload, batch: { min: count, max: count }, contextTokens }
    const apart = { ...problem, objective: 'throughput' as const, workload: several, devices }
    const { best } = planThroughput(apart, expired)
    return best === undefined || violation(problem, best.segments, workload.batch.min) ? [] : [best.segments]
  })
  const [chosen] = [best.segments, ...others].sort((a, b) => guessedMs(problem, a) - guessedMs(problem, b))
  return { ...best, segments: chosen! }
}

/** Times of a device whose sequences share nothing: frames of guesses are steps of their own. */
function oneByOne(times: ReadonlyMap<string, KindTimes>): ReadonlyMap<string, KindTimes> {
  return new Map(
    [...times].map(([kind, { decodeMsByBatch: _, ...each }]) => {
      const decodeMs = decodeMsOf(times.get(kind), 1)
      return [kind, { ...each, decodeMs, decodeMsPerExtraSequence: decodeMs }]
    })
  )
}

/** What is minimised: a token, or the request, with guesses ahead. */
function guessedMs(problem: Problem, segments: readonly Segment[]): number {
  const { ttftMs, tpotMs } = price(problem, segments, problem.workload.batch.min, 1)
  const tokenMs = speculatedTpotMs(problem, segments) ?? tpotMs
  return problem.metric === 'tpot' ? tokenMs : ttftMs + (problem.workload.newTokens - 1) * tokenMs
}

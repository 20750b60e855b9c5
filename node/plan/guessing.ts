/**
 * Where guesses are sent ahead, several frames of one sequence are under way at once, and the busiest device counts for more
 * than the way through all of them: another placement than the one with the shortest step may be faster.
 */
import { price } from './cost.ts'
import type { Placement } from './latency.ts'
import { isAtSource } from './places.ts'
import type { Problem, Segment } from './problem.ts'
import { violation } from './rules.ts'
import { speculatedTpotMs } from './speculation.ts'
import { planThroughput } from './throughput.ts'

/** Sequences for which placements are looked for whose devices are all busy: as many as frames that may be under way. */
const FRAMES = [2, 8]

/** Whether plans of a problem are chosen by what they take with guesses ahead. */
export function plansForGuesses({ objective, workload }: Problem): boolean {
  return objective === 'latency' && workload.speculation !== undefined
}

/**
 * The best for the workload's guesses among the placement with the shortest step and some that are made for several sequences at
 * once; no proof is given that there is no better one. Its value is that with guesses.
 *
 * @param best with the shortest step
 * @param expired true once the time is up
 */
export function placedForGuesses(problem: Problem, best: Placement, expired: () => boolean): Placement {
  if (!plansForGuesses(problem)) return best
  const { workload } = problem
  const { draftMs } = workload.speculation!
  // A guess keeps the source busy for each frame, as the turn of its stage does.
  const devices = problem.devices.map((device, place) =>
    isAtSource(problem, place) ? { ...device, turnMs: (device.turnMs ?? 0) + draftMs } : device
  )
  const others = FRAMES.flatMap(count => {
    if (expired()) return []
    // All of them share the memory of the sequences that there are.
    const contextTokens = Math.floor((workload.contextTokens * workload.batch.min) / count)
    const several = { ...workload, batch: { min: count, max: count }, contextTokens }
    const apart = { ...problem, devices, objective: 'throughput' as const, workload: several }
    // Frames of guesses are steps of their own: they share neither a run of the layers nor a stage's turn.
    const { best } = planThroughput(apart, expired, { oneByOne: true })
    return best === undefined || violation(problem, best.segments, workload.batch.min) ? [] : [best.segments]
  })
  const [chosen] = [best.segments, ...others]
    .map(segments => ({ segments, valueMs: guessedMs(problem, segments) }))
    .sort((a, b) => a.valueMs - b.valueMs)
  return { ...best, ...chosen! }
}

/** What is minimised: a token, or the request, with guesses ahead. */
function guessedMs(problem: Problem, segments: readonly Segment[]): number {
  const { ttftMs, tpotMs } = price(problem, segments, problem.workload.batch.min, 1)
  const tokenMs = speculatedTpotMs(problem, segments) ?? tpotMs
  return problem.metric === 'tpot' ? tokenMs : ttftMs + (problem.workload.newTokens - 1) * tokenMs
}

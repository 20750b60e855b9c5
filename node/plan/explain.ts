import type { Placement, Solution } from './latency.ts'
import type { LeftOut, Problem } from './problem.ts'
export function explain(
  problem: Problem,
  placement: Placement,
  _solve: (problem: Problem) => Solution
): { left: LeftOut[] } {
  const used = new Set(placement.segments.map(({ device }) => device))
  return {
    left: problem.devices.filter((_, index) => !used.has(index)).map(({ id }) => ({ device: id, reason: '' }))
  }
}

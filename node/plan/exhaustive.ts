/** Every placement there is, in turn: the first, plainest solver, for a handful of devices and layers. */
import { price, valueMs } from './cost.ts'
import type { Problem, Segment } from './problem.ts'
import { violation } from './rules.ts'

export interface Best {
  readonly segments: readonly Segment[]
  readonly batch: number
  readonly microBatches: number
  readonly valueMs: number
}

/** The best placement by trying all; undefined where none fits. */
export function exhaustive(problem: Problem): Best | undefined {
  let best: Best | undefined
  const { min, max } = problem.workload.batch
  const throughput = problem.objective === 'throughput'
  const consider = (segments: readonly Segment[]): void => {
    for (let batch = min; batch <= (throughput ? max : min); batch++) {
      if (violation(problem, segments, batch) !== undefined) continue
      for (let m = 1; m <= (throughput ? batch : 1); m++) {
        const value = valueMs(problem, price(problem, segments, batch, m), batch)
        if (best === undefined || value < best.valueMs) {
          best = { segments: [...segments], batch, microBatches: m, valueMs: value }
        }
      }
    }
  }
  const extend = (segments: Segment[], start: number): void => {
    if (start === problem.layers.length) {
      consider(segments)
      return
    }
    for (let device = 0; device < problem.devices.length; device++) {
      const isTail = device === problem.source && segments.length > 1 && segments.at(-1)?.device !== device
      if (start === 0 ? device !== problem.source : !isTail && segments.some(s => s.device === device))
        continue
      for (let end = isTail ? problem.layers.length : start + 1; end <= problem.layers.length; end++) {
        segments.push({ device, start, end })
        extend(segments, end)
        segments.pop()
      }
    }
  }
  extend([], 0)
  return best
}

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { price, valueMs } from '../../../node/plan/cost.ts'
import { parseScenario, plan } from '../../../node/plan/index.ts'
import type { Problem, StagePlan } from '../../../node/plan/problem.ts'
import { violation } from '../../../node/plan/rules.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { bruteForce } from './brute-force.ts'
import { randomScenario, withLoneTurns, withProcessors, withTwins } from './random-problem.ts'

const RUNS = 1500
/** The planner's own resolution is 1e-10; the reference adds in another order. */
const TOLERANCE = 1e-9

function segmentsOf(problem: Problem, stages: readonly StagePlan[]) {
  return stages.map(({ device, processor, layers: [start, end] }) => ({
    device: problem.devices.findIndex(place => place.id === device && place.processor === processor),
    start,
    end
  }))
}

describe('plan against every placement there is', { timeout: deadlineMs(180_000) }, () => {
  const DEVICES = { of: '', scenarios: randomScenario() }
  const TWINS = { of: ' of devices and processors that are alike', scenarios: withTwins() }
  const LONE = { of: ' where all layers at once take more beside them', scenarios: withLoneTurns() }
  const PROCESSORS = { of: ' of devices with processors', scenarios: withProcessors() }
  for (const [objective, runs, keptLayers, { of, scenarios }] of [
    ['latency', RUNS, undefined, DEVICES],
    ['throughput', RUNS, undefined, DEVICES],
    ['latency', RUNS / 5, 3, DEVICES],
    ['throughput', RUNS / 5, 3, DEVICES],
    ['latency', RUNS / 4, undefined, PROCESSORS],
    ['throughput', RUNS / 10, undefined, PROCESSORS],
    ['latency', RUNS / 10, 3, PROCESSORS],
    ['throughput', RUNS / 3, undefined, LONE],
    ['latency', RUNS / 10, undefined, TWINS],
    ['throughput', RUNS / 10, undefined, TWINS]
  ] as const) {
    const kept = keptLayers === undefined ? '' : ` with ${keptLayers} layers on the source`
    it(`${objective}${kept}: ${runs} random problems${of}, no mismatch`, () => {
      let feasible = 0
      fc.assert(
        fc.property(scenarios, scenario => {
          const parsed = parseScenario({ ...scenario, objective })
          const problem = keptLayers === undefined ? parsed : { ...parsed, keptLayers }
          const expected = bruteForce(problem)
          const result = plan(problem, { explain: false })
          expect(result.feasible).toBe(expected !== undefined)
          if (expected === undefined || !result.feasible) return
          feasible++
          const segments = segmentsOf(problem, result.stages)
          expect(violation(problem, segments, result.batch)).toBeUndefined()
          const priced = price(problem, segments, result.batch, result.microBatches)
          const value = valueMs(problem, priced, result.batch)
          expect(Math.abs(value - expected.valueMs)).toBeLessThanOrEqual(TOLERANCE * expected.valueMs)
          expect(result.lowerBoundMs).toBeLessThanOrEqual(expected.valueMs * (1 + TOLERANCE))
          expect(result.optimal).toBe(true)
          expect(result.gap).toBeLessThanOrEqual(1e-9)
        }),
        { numRuns: runs, seed: 3 }
      )
      expect(feasible).toBeGreaterThan(runs / 10)
    })
  }
})

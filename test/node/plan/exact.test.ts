import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { price, valueMs } from '../../../node/plan/cost.ts'
import { parseScenario, plan } from '../../../node/plan/index.ts'
import type { Problem, StagePlan } from '../../../node/plan/problem.ts'
import { violation } from '../../../node/plan/rules.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { bruteForce } from './brute-force.ts'
import { randomScenario } from './random-problem.ts'

const RUNS = 1500
/** The planner's own resolution is 1e-10; the reference adds in another order. */
const TOLERANCE = 1e-9

function segmentsOf(problem: Problem, stages: readonly StagePlan[]) {
  return stages.map(({ device, layers: [start, end] }) => ({
    device: problem.devices.findIndex(({ id }) => id === device),
    start,
    end
  }))
}

describe('plan against every placement there is', { timeout: deadlineMs(180_000) }, () => {
  for (const objective of ['latency', 'throughput'] as const) {
    it(`${objective}: ${RUNS} random problems, no mismatch`, () => {
      let feasible = 0
      fc.assert(
        fc.property(randomScenario(), scenario => {
          const problem = parseScenario({ ...scenario, objective })
          const expected = bruteForce(problem)
          const answer = plan(problem, { explain: false })
          expect(answer.feasible).toBe(expected !== undefined)
          if (expected === undefined || !answer.feasible) return
          feasible++
          const segments = segmentsOf(problem, answer.stages)
          expect(violation(problem, segments, answer.batch)).toBeUndefined()
          const priced = price(problem, segments, answer.batch, answer.microBatches)
          const value = valueMs(problem, priced, answer.batch)
          expect(Math.abs(value - expected.valueMs)).toBeLessThanOrEqual(TOLERANCE * expected.valueMs)
          expect(answer.lowerBoundMs).toBeLessThanOrEqual(expected.valueMs * (1 + TOLERANCE))
          expect(answer.optimal).toBe(true)
          expect(answer.gap).toBeLessThanOrEqual(1e-9)
        }),
        { numRuns: RUNS, seed: 3 }
      )
      expect(feasible).toBeGreaterThan(RUNS / 5)
    })
  }
})

import { describe, expect, it } from 'vitest'
import { parseScenario, plan } from '../../../node/plan/index.ts'
import { MAX_CANDIDATES } from '../../../node/plan/labels.ts'
import { violation } from '../../../node/plan/rules.ts'
import { toSegments } from '../../../node/plan/to-plan.ts'
import { instance } from '../../bench/plan-instances.ts'
import { deadlineMs } from '../../fixtures/machine.ts'

/**
 * A clock that goes by what the solver has done, which asks for the time about 14 times a millisecond on an idle
 * desktop: the same plan comes out on every machine, however slow.
 */
function clockOfWork(): () => number {
  let asked = 0
  return () => 0.07 * asked++
}

describe('large meshes', { timeout: deadlineMs(240_000) }, () => {
  for (const objective of ['latency', 'throughput'] as const) {
    it(`${objective}: 64 devices x 128 layers within 5 % of a proven bound`, () => {
      const problem = parseScenario(instance(4, { devices: 64, layers: 128, objective, batch: 20 }))
      const result = plan(problem, { now: clockOfWork(), budgetMs: 2000, explain: false })
      expect(result.feasible).toBe(true)
      if (!result.feasible) return
      expect(result.gap).toBeLessThan(0.05)
      expect(result.lowerBoundMs).toBeGreaterThan(0)
      expect(violation(problem, toSegments(problem, result.stages), result.batch)).toBeUndefined()
    })
  }

  for (const objective of ['latency', 'throughput'] as const) {
    it(`${objective}: 128 devices x 80 layers within 5 % of a proven bound, with more stages than the exact search can name`, () => {
      const problem = parseScenario(instance(1, { devices: 128, layers: 80, objective, batch: 20 }))
      // It asks for the time once a millisecond here.
      const result = plan(problem, { now: clockOfWork(), budgetMs: 140, explain: false })
      expect(result.feasible).toBe(true)
      if (!result.feasible) return
      expect(result.stages.length).toBeGreaterThan(MAX_CANDIDATES)
      expect(result.gap).toBeLessThan(0.05)
      expect(violation(problem, toSegments(problem, result.stages), result.batch)).toBeUndefined()
    })
  }

  it('300 devices and 400 layers still get a plan and a bound', () => {
    const problem = parseScenario(instance(2, { devices: 300, layers: 400, holds: [2, 20] }))
    const result = plan(problem, { now: clockOfWork(), budgetMs: 100, explain: false })
    expect(result.feasible).toBe(true)
    if (!result.feasible) return
    expect(result.lowerBoundMs).toBeGreaterThan(0)
    expect(Number.isFinite(result.gap)).toBe(true)
    expect(violation(problem, toSegments(problem, result.stages), result.batch)).toBeUndefined()
  })

  it('equal devices on equal links cost no more than a few', () => {
    const count = 200
    const problem = parseScenario({
      devices: Array.from({ length: count }, (_, at) => ({ id: `d${at}`, memoryBytes: 5000, profile: 'p' })),
      source: 'd0',
      links: { default: { mbps: 100, latencyMs: 1 } },
      model: { name: 'm', layers: [{ kind: 'd', count: 100, weightBytes: 1000, activationBytes: 1000 }] },
      profiles: { p: { d: { decodeMs: 1 } } },
      workload: { promptTokens: 1, newTokens: 1, batch: 1, contextTokens: 0 }
    })
    const result = plan(problem, { now: clockOfWork(), budgetMs: 2000, explain: false })
    // 20 devices of 5 layers, 100 ms of layers, 20 hops of 1.08 ms.
    expect(result.feasible && result.predicted.tpotMs).toBeCloseTo(121.6, 6)
    expect(result.feasible && result.gap).toBeLessThan(1e-6)
  })
})

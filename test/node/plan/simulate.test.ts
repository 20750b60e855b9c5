import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Plan, type Problem, parseScenario, plan } from '../../../node/plan/index.ts'
import { microBatchSizes } from '../../../node/plan/simulate.ts'
import { type SimulationReport, simulatePlan } from '../../../node/plan/simulation-report.ts'
import { randomScenario } from './random-problem.ts'

const TOLERANCE = 1e-9
const SIZES = { devices: { min: 1, max: 5 }, layers: { min: 1, max: 7 } }

function played(name: string): { problem: Problem; result: Plan; report: SimulationReport } {
  const path = join(import.meta.dirname, '..', '..', 'scenarios', `${name}.json`)
  const problem = parseScenario(JSON.parse(readFileSync(path, 'utf8')))
  const result = plan(problem, { explain: false })
  if (!result.feasible) throw new Error(result.reason)
  return { problem, result, report: simulatePlan(problem, result) }
}

/** Observed over predicted steady rate without bubbles. */
function ratio({ noBubble }: SimulationReport): number {
  return noBubble.observed.steadyTokensPerSecond / noBubble.predicted.tokensPerSecond
}

describe('simulate', () => {
  it('one sequence alone takes exactly what the evaluator says', () => {
    let feasible = 0
    fc.assert(
      fc.property(randomScenario(SIZES), scenario => {
        const problem = parseScenario({ ...scenario, objective: 'latency' })
        const result = plan(problem, { explain: false })
        if (!result.feasible) return
        feasible++
        const { noBubble, bubble } = simulatePlan(problem, result)
        for (const { observed } of [noBubble, bubble]) {
          const { ttftMs, tpotMs, requestMs } = result.predicted
          expect(Math.abs(observed.ttftMs - ttftMs)).toBeLessThanOrEqual(TOLERANCE * ttftMs)
          expect(Math.abs(observed.requestMs - requestMs)).toBeLessThanOrEqual(TOLERANCE * requestMs)
          if (problem.workload.newTokens > 1) {
            expect(Math.abs(observed.tpotMs - tpotMs)).toBeLessThanOrEqual(TOLERANCE * requestMs)
          }
        }
      }),
      { numRuns: 300, seed: 2 }
    )
    expect(feasible).toBeGreaterThan(60)
  })

  it('never runs faster than its busiest resource, and no resource works more than all the time', () => {
    fc.assert(
      fc.property(randomScenario(SIZES), scenario => {
        const problem = parseScenario({ ...scenario, objective: 'throughput' })
        const result = plan(problem, { explain: false })
        if (!result.feasible) return
        const { noBubble, bubble } = simulatePlan(problem, result)
        for (const { observed } of [noBubble, bubble]) {
          for (const { share } of observed.busy) expect(share).toBeLessThanOrEqual(1 + TOLERANCE)
        }
        expect(noBubble.observed.requestMs).toBeGreaterThan(0)
      }),
      { numRuns: 300, seed: 4 }
    )
  })

  it('without bubbles the testbed runs at the predicted rate', () => {
    const { problem } = played('llama2-13b-1mbps')
    const result = plan({ ...problem, objective: 'throughput' }, { explain: false })
    expect(result.feasible).toBe(true)
    if (!result.feasible) return
    const report = simulatePlan(problem, result)
    expect(ratio(report)).toBeGreaterThan(0.97)
    expect(ratio(report)).toBeLessThan(1.03)
    expect(report.bubble.observed.steadyTokensPerSecond).toBeLessThan(
      report.noBubble.observed.steadyTokensPerSecond
    )
  })

  it('splits a batch as evenly as it goes, the larger parts first', () => {
    expect(microBatchSizes(8, 3)).toEqual([3, 3, 2])
    expect(microBatchSizes(5, 5)).toEqual([1, 1, 1, 1, 1])
  })

  it('refuses a run that would take too long to play', () => {
    const { problem, result } = played('simulate-short-run')
    const endless = { ...problem, workload: { ...problem.workload, newTokens: 2 ** 23 } }
    expect(() => simulatePlan(endless, result)).toThrow(/too many to play/)
  })
})

describe('where formulas and events differ', () => {
  it('unequal micro-batches: the formula charges each for the largest, more is observed', () => {
    const { result, report } = played('simulate-unequal-micro-batches')
    expect(microBatchSizes(result.batch, result.microBatches)).toEqual([2, 1])
    expect(ratio(report)).toBeGreaterThan(1.02)
  })

  it('head and tail on the source: its two turns queue, less is observed', () => {
    const { problem, result, report } = played('simulate-head-and-tail')
    const source = problem.devices[problem.source]!.id
    expect([result.stages[0]!.device, result.stages.at(-1)!.device]).toEqual([source, source])
    expect(result.stages.length).toBeGreaterThan(2)
    expect(ratio(report)).toBeLessThan(0.95)
  })

  it('a finite run: prefill, filling and draining count, much less is observed', () => {
    const { report } = played('simulate-short-run')
    const { predicted, observed } = report.noBubble
    expect(observed.tokensPerSecond).toBeLessThan(0.5 * predicted.tokensPerSecond)
    expect(observed.steadyTokensPerSecond).toBeGreaterThan(0.9 * predicted.tokensPerSecond)
  })
})

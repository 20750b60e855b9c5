import highsModule from 'highs'
import { describe, expect, it } from 'vitest'
import { parseScenario, plan } from '../../../node/plan/index.ts'
import { type InstanceOptions, instance } from '../../bench/plan-instances.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { toLp } from './milp.ts'

/** Typed as CommonJS, loaded as a module: the default export itself is the loader. */
const loadHighs = highsModule as unknown as typeof highsModule.default
const highs = await loadHighs()

const PRIVACIES = ['embedding', 'prompt', 'sealed'] as const
/** HiGHS keeps constraints to 1e-6 and integers to 1e-6; costs here are 10 to 100 ms. */
const TOLERANCE = 1e-5
const BATCH = 2

/** The optimum according to HiGHS in ms, undefined where it finds the program infeasible. */
function optimum(scenario: ReturnType<typeof instance>): number | undefined {
  const problem = parseScenario(scenario)
  const values: number[] = []
  const choices = problem.objective === 'throughput' ? [1, 2] : [1]
  for (const microBatches of choices) {
    const result = highs.solve(toLp(problem, problem.workload.batch.min, microBatches), {
      mip_rel_gap: 1e-9,
      output_flag: false
    })
    if (result.Status === 'Infeasible') continue
    expect(result.Status).toBe('Optimal')
    values.push(result.ObjectiveValue)
  }
  return values.length === 0 ? undefined : Math.min(...values)
}

function optionsOf(seed: number): InstanceOptions {
  const devices = 8 + (seed % 9)
  return {
    devices,
    layers: devices > 12 ? 6 : 7,
    holds: [0.9, 3],
    mixed: seed % 2 === 0,
    turns: seed % 4 < 2,
    privacy: PRIVACIES[seed % 3]!,
    batch: BATCH
  }
}

/** Of each objective: the short form; EDGESHARD_HIGHS_INSTANCES says how many the long one has. */
const INSTANCES = Number(process.env.EDGESHARD_HIGHS_INSTANCES ?? 20)

describe('plan against HiGHS, 8 to 16 devices', () => {
  for (const objective of ['latency', 'throughput'] as const) {
    it(`${objective}: ${INSTANCES} instances called optimal are optimal`, {
      timeout: deadlineMs(300_000)
    }, () => {
      let feasible = 0
      for (let seed = 1; seed <= INSTANCES; seed++) {
        const scenario = instance(seed, { ...optionsOf(seed), objective })
        const result = plan(parseScenario(scenario), { explain: false })
        const expected = optimum(scenario)
        expect(result.feasible, `seed ${seed}`).toBe(expected !== undefined)
        if (!result.feasible || expected === undefined) continue
        feasible++
        expect(result.optimal, `seed ${seed}`).toBe(true)
        const value =
          objective === 'latency'
            ? result.predicted.tpotMs
            : (1000 * BATCH) / result.predicted.tokensPerSecond
        expect(Math.abs(value / expected - 1), `seed ${seed}`).toBeLessThan(TOLERANCE)
      }
      expect(feasible).toBeGreaterThan(0.9 * INSTANCES)
    })
  }
})

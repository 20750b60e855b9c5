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
  const { id } = problem.devices[problem.source]!
  const fronts = [...problem.devices.keys()].filter(place => problem.devices[place]!.id === id)
  for (const [front, microBatches] of fronts.flatMap(front => choices.map(m => [front, m] as const))) {
    const program = toLp(problem, problem.workload.batch.min, microBatches, undefined, front)
    const result = highs.solve(program, { mip_rel_gap: 1e-9, output_flag: false })
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

/** Every third device, the source among them, gets a second processor: half the memory, the times of the device behind it. */
function withProcessors(scenario: ReturnType<typeof instance>): ReturnType<typeof instance> {
  const devices = scenario.devices.map((device, at) => {
    if (at % 3 !== 0 || 'processors' in device) return device
    const { id, memoryBytes, profile, turnMs } = device
    const gpu = {
      id: 'gpu',
      memoryBytes: memoryBytes / 2,
      profile: `d${(at + 1) % scenario.devices.length}`
    }
    return { id, processors: [{ id: 'cpu', memoryBytes, profile }, gpu], processorLinkMbps: 50_000, turnMs }
  })
  return { ...scenario, devices }
}

/** Of each objective: the short form; EDGESHARD_HIGHS_INSTANCES says how many the long one has. */
const INSTANCES = Number(process.env.EDGESHARD_HIGHS_INSTANCES ?? 14)

/** Solves instances of both kinds and compares; so many of them at least have a plan. */
function compareAll(scenarios: readonly ReturnType<typeof instance>[], leastFeasible: number): void {
  let feasible = 0
  for (const [at, scenario] of scenarios.entries()) {
    const seed = `seed ${at + 1}`
    const result = plan(parseScenario(scenario), { explain: false })
    const expected = optimum(scenario)
    expect(result.feasible, seed).toBe(expected !== undefined)
    if (!result.feasible || expected === undefined) continue
    feasible++
    expect(result.optimal, seed).toBe(true)
    const value =
      scenario.objective === 'latency'
        ? result.predicted.tpotMs
        : (1000 * BATCH) / result.predicted.tokensPerSecond
    expect(Math.abs(value / expected - 1), seed).toBeLessThan(TOLERANCE)
  }
  expect(feasible).toBeGreaterThan(leastFeasible)
}

function instancesOf(
  count: number,
  make: (seed: number) => ReturnType<typeof instance>
): ReturnType<typeof instance>[] {
  return Array.from({ length: count }, (_, at) => make(at + 1))
}

describe('plan against HiGHS, 8 to 16 devices', () => {
  for (const objective of ['latency', 'throughput'] as const) {
    it(`${objective}: ${INSTANCES} instances called optimal are optimal`, {
      timeout: deadlineMs(300_000)
    }, () => {
      const scenarios = instancesOf(INSTANCES, seed => instance(seed, { ...optionsOf(seed), objective }))
      compareAll(scenarios, 0.9 * INSTANCES)
    })

    const few = Math.ceil(INSTANCES / 3)
    it(`${objective}: ${few} instances of devices with processors`, { timeout: deadlineMs(300_000) }, () => {
      const scenarios = instancesOf(few, seed =>
        withProcessors(instance(seed, { ...optionsOf(seed), devices: 6 + (seed % 3), layers: 6, objective }))
      )
      compareAll(scenarios, 0.7 * few)
    })
  }
})

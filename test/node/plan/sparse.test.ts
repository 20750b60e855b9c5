/** Devices of which some are not connected to each other. */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { price, valueMs } from '../../../node/plan/cost.ts'
import {
  compare,
  isAllowed,
  parseScenario,
  plan,
  predict,
  type ScenarioInput
} from '../../../node/plan/index.ts'
import type { StagePlan } from '../../../node/plan/problem.ts'
import { violation } from '../../../node/plan/rules.ts'
import { toSegments } from '../../../node/plan/to-plan.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { bruteForce } from './brute-force.ts'
import { randomScenario } from './random-problem.ts'

const RUNS = 300

/** Random problems in which each direction of a link is missing as often as not. */
const sparse = randomScenario().chain(scenario => {
  const pairs = scenario.links.pairs!
  return fc.array(fc.boolean(), { minLength: pairs.length, maxLength: pairs.length }).map(there => ({
    ...scenario,
    links: {
      ...scenario.links,
      pairs: pairs.map((pair, i) => {
        const { from, to } = pair as { from: string; to: string }
        return there[i] ? pair : { from, to, connected: false as const }
      })
    }
  }))
})

test('of devices that are not all connected the best plan is found, and none where there is none', {
  timeout: deadlineMs(120_000)
}, () => {
  for (const objective of ['latency', 'throughput'] as const) {
    let feasible = 0
    let prevented = 0
    fc.assert(
      fc.property(sparse, scenario => {
        const problem = parseScenario({ ...scenario, objective })
        const expected = bruteForce(problem)
        const result = plan(problem)
        expect(result.feasible).toBe(expected !== undefined)
        if (!result.feasible) {
          if (result.apart !== undefined) prevented++
          return
        }
        feasible++
        const segments = toSegments(problem, result.stages)
        expect(violation(problem, segments, result.batch)).toBeUndefined()
        const value = valueMs(
          problem,
          price(problem, segments, result.batch, result.microBatches),
          result.batch
        )
        expect(Math.abs(value - expected!.valueMs)).toBeLessThanOrEqual(1e-9 * expected!.valueMs)
        for (const other of compare(problem, { explain: false }))
          if (other.feasible) expect(Number.isFinite(other.predicted.requestMs)).toBe(true)
      }),
      { numRuns: RUNS, seed: 6 }
    )
    expect([feasible > RUNS / 10, prevented > RUNS / 50]).toEqual([true, true])
  }
})

/** f1 is the source; each of three devices holds two of six layers. */
const three = (pairs: ScenarioInput['links']['pairs'], spare = false): ScenarioInput => ({
  devices: ['f1', 'f2', 'f3', ...(spare ? ['f4'] : [])].map(id => ({ id, memoryBytes: 2, profile: 'p' })),
  source: 'f1',
  links: { default: { mbps: 100 }, pairs },
  model: { name: 'm', layers: [{ kind: 'decoder', count: 6, weightBytes: 1, activationBytes: 4000 }] },
  profiles: { p: { decoder: { decodeMs: 1 } } },
  workload: { promptTokens: 8, newTokens: 8, batch: 1, contextTokens: 0 }
})
const apart = [{ between: ['f2', 'f3'] as [string, string], connected: false as const }]

test('a plan that needs two devices that are not connected is refused with both names', () => {
  const result = plan(parseScenario(three(apart)))
  expect(result).toMatchObject({ feasible: false })
  if (result.feasible) return
  expect(new Set(result.apart?.flat())).toEqual(new Set(['f2', 'f3']))
  expect(result.reason).toMatch(/f[23] and f[23] cannot reach each other/)
  // Where memory is what is missing, nobody is told of links.
  const small = plan(
    parseScenario({
      ...three(apart),
      model: { name: 'm', layers: [{ ...three([]).model.layers[0]!, count: 9 }] }
    })
  )
  expect(small).toMatchObject({ feasible: false, reason: expect.stringContaining('needs 9') })
  expect(small).not.toHaveProperty('apart')
})

test('a spare device takes the place between two that are not connected', () => {
  const result = plan(parseScenario(three(apart, true)))
  const devices = result.feasible ? result.stages.map(({ device }) => device) : []
  expect(devices.length).toBe(3)
  expect(devices).toContain('f4')
  expect(devices[0]).toBe('f1')
})

test('a placement over a link that is not there is neither allowed nor predicted', () => {
  const stages: StagePlan[] = ['f1', 'f2', 'f3'].map((device, i) => ({ device, layers: [2 * i, 2 * i + 2] }))
  const connected = parseScenario(three([]))
  expect([isAllowed(connected, stages), predict(connected, stages) !== undefined]).toEqual([true, true])
  const problem = parseScenario(three(apart))
  expect([isAllowed(problem, stages), predict(problem, stages)]).toEqual([false, undefined])
})

test('a device that nobody is connected to is left out for that', () => {
  const lonely = ['f1', 'f2', 'f3'].map(id => ({
    between: [id, 'f4'] as [string, string],
    connected: false as const
  }))
  const result = plan(parseScenario(three(lonely, true)))
  expect(result).toMatchObject({
    feasible: true,
    left: [{ device: 'f4', reason: 'no other device is connected to it' }]
  })
})

test('where each pair has a link of its own and no default is given, a refusal says why, too', () => {
  const connected = [['f1', 'f2'] as const, ['f1', 'f3'] as const].map(([a, b]) => ({
    between: [a, b] as [string, string],
    mbps: 100
  }))
  const refused = plan(parseScenario({ ...three([]), links: { pairs: [...connected, ...apart] } }))
  expect(refused.feasible).toBe(false)
  expect(refused).toMatchObject({ apart: [['f2', 'f3']] })
})

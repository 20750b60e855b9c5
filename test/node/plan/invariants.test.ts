import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { price, valueMs } from '../../../node/plan/cost.ts'
import { assess, compare, type Plan, type Problem, parseScenario, plan } from '../../../node/plan/index.ts'
import { violation } from '../../../node/plan/rules.ts'
import { toSegments } from '../../../node/plan/to-plan.ts'
import { instance } from '../../bench/plan-instances.ts'
import { bruteForce } from './brute-force.ts'
import { randomScenario } from './random-problem.ts'

const RUNS = 200
const TOLERANCE = 1e-9
const ANYWHERE = {
  devices: { min: 2, max: 6 },
  layers: { min: 2, max: 8 }
}

function figureOf(problem: Problem, result: Plan): number {
  const segments = toSegments(problem, result.stages)
  return valueMs(problem, price(problem, segments, result.batch, result.microBatches), result.batch)
}

function optimumOf(problem: Problem): number {
  const result = plan(problem, { explain: false })
  return result.feasible ? figureOf(problem, result) : Number.POSITIVE_INFINITY
}

/** Runs a property over random problems of 2 to 6 devices. */
function forAll(check: (problem: Problem, pick: number) => void): void {
  fc.assert(
    fc.property(randomScenario(ANYWHERE), fc.nat(), (scenario, pick) => check(parseScenario(scenario), pick)),
    { numRuns: RUNS, seed: 11 }
  )
}

describe('invariants of a plan', () => {
  it('ranges cover all layers once, memory and privacy hold', () => {
    let feasible = 0
    forAll(problem => {
      const result = plan(problem, { explain: false })
      if (!result.feasible) return
      feasible++
      expect(result.stages[0]!.layers[0]).toBe(0)
      expect(result.stages.at(-1)!.layers[1]).toBe(problem.layers.length)
      expect(violation(problem, toSegments(problem, result.stages), result.batch)).toBeUndefined()
    })
    expect(feasible).toBeGreaterThan(RUNS / 4)
  })

  it('more memory on any device never makes the optimum worse', () => {
    forAll((problem, pick) => {
      const at = pick % problem.devices.length
      const devices = problem.devices.map((device, index) =>
        index === at ? { ...device, memoryBytes: device.memoryBytes + 2 } : device
      )
      expect(optimumOf({ ...problem, devices })).toBeLessThanOrEqual(optimumOf(problem) * (1 + TOLERANCE))
    })
  })

  it('a faster link in any direction never makes the optimum worse', () => {
    forAll((problem, pick) => {
      const count = problem.devices.length
      const from = pick % count
      const to = (from + 1 + (pick % (count - 1))) % count
      const links = problem.links.map((row, a) =>
        row.map((link, b) =>
          a === from && b === to ? { mbps: link.mbps * 3, delayMs: link.delayMs / 2 } : link
        )
      )
      expect(optimumOf({ ...problem, links })).toBeLessThanOrEqual(optimumOf(problem) * (1 + TOLERANCE))
    })
  })

  it('a faster device never makes the optimum worse', () => {
    forAll((problem, pick) => {
      const at = pick % problem.devices.length
      const devices = problem.devices.map((device, index) => {
        if (index !== at) return device
        const times = [...device.times].map(
          ([kind, { decodeMs, decodeMsPerExtraSequence, prefillMsPerToken }]) => {
            const faster = {
              decodeMs: decodeMs / 2,
              decodeMsPerExtraSequence: decodeMsPerExtraSequence / 2,
              prefillMsPerToken: prefillMsPerToken / 2
            }
            return [kind, faster] as const
          }
        )
        return { ...device, times: new Map(times) }
      })
      expect(optimumOf({ ...problem, devices })).toBeLessThanOrEqual(optimumOf(problem) * (1 + TOLERANCE))
    })
  })

  it('another order of the devices changes nothing', () => {
    forAll((problem, pick) => {
      const count = problem.devices.length
      const order = problem.devices.map((_, index) => (index + (pick % count)) % count).reverse()
      const shuffled: Problem = {
        ...problem,
        devices: order.map(index => problem.devices[index]!),
        source: order.indexOf(problem.source),
        links: order.map(from => order.map(to => problem.links[from]![to]!))
      }
      const before = optimumOf(problem)
      const after = optimumOf(shuffled)
      if (before === Number.POSITIVE_INFINITY) expect(after).toBe(before)
      else expect(Math.abs(after - before)).toBeLessThanOrEqual(TOLERANCE * before)
    })
  })

  it('ours is never worse than a baseline that keeps the rules', () => {
    let baselines = 0
    forAll((problem, pick) => {
      const cloud = pick % problem.devices.length
      const results = compare({ ...problem, cloud }, { explain: false })
      const ours = results[0]!
      for (const result of results.slice(1)) {
        if (!result.feasible) continue
        const segments = toSegments(problem, result.stages)
        if (violation(problem, segments, result.batch) !== undefined) continue
        baselines++
        expect(ours.feasible).toBe(true)
        if (!ours.feasible) continue
        expect(figureOf(problem, ours)).toBeLessThanOrEqual(figureOf(problem, result) * (1 + TOLERANCE))
      }
    })
    expect(baselines).toBeGreaterThan(RUNS / 4)
  })

  it('a baseline breaks neither memory nor privacy', () => {
    forAll((problem, pick) => {
      for (const result of compare(
        { ...problem, cloud: pick % problem.devices.length },
        { explain: false }
      )) {
        if (!result.feasible) continue
        const broken = violation(problem, toSegments(problem, result.stages), result.batch)
        expect(broken === undefined || broken.rule === 'repeat').toBe(true)
      }
    })
  })
})

describe('the lower bound', () => {
  it('never exceeds the optimum, however little time there is', () => {
    fc.assert(
      fc.property(randomScenario(), fc.integer({ min: 0, max: 40 }), (scenario, ticks) => {
        const problem = parseScenario(scenario)
        const best = bruteForce(problem)
        let clock = 0
        const result = plan(problem, { explain: false, now: () => clock++, budgetMs: ticks })
        if (!result.feasible || best === undefined) {
          if (result.feasible) expect(best).toBeDefined()
          return
        }
        expect(result.lowerBoundMs).toBeLessThanOrEqual(best.valueMs * (1 + TOLERANCE))
        expect(figureOf(problem, result)).toBeGreaterThanOrEqual(best.valueMs * (1 - TOLERANCE))
      }),
      { numRuns: 400, seed: 5 }
    )
  })

  it('is computed without the plan: a bad plan opens the gap', () => {
    const problem = parseScenario(instance(3, { devices: 8, layers: 20 }))
    const good = plan(problem, { explain: false })
    expect(good.feasible && good.optimal).toBe(true)
    if (!good.feasible) return
    const run = { batch: good.batch, microBatches: good.microBatches }
    const same = assess(problem, good.stages, run)
    expect(same.feasible && same.gap).toBe(0)
    // The same devices with the cut between the last two moved towards the front, layer by layer.
    let before = 0
    const [last, other] = [good.stages.at(-1)!, good.stages.at(-2)!]
    let worse = 0
    for (let cut = last.layers[0] - 1; cut > other.layers[0]; cut--) {
      const stages = [
        ...good.stages.slice(0, -2),
        { device: other.device, layers: [other.layers[0], cut] as const },
        { device: last.device, layers: [cut, last.layers[1]] as const }
      ]
      const result = assess(problem, stages, run)
      if (!result.feasible) continue
      expect(result.lowerBoundMs).toBeCloseTo(good.lowerBoundMs, 9)
      expect(result.gap).toBeGreaterThan(before)
      expect(result.optimal).toBe(false)
      before = result.gap
      worse++
    }
    expect(worse).toBeGreaterThan(0)
  })
})

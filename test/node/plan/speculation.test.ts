import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { priceStep } from '../../../node/plan/cost.ts'
import {
  type Plan,
  type Problem,
  parseScenario,
  plan,
  predict,
  type ScenarioInput
} from '../../../node/plan/index.ts'
import { renderPlan, renderSimulation } from '../../../node/plan/render.ts'
import { simulateSpeculation } from '../../../node/plan/simulate-speculation.ts'
import { simulatePlan } from '../../../node/plan/simulation-report.ts'
import { speculatedMs, wayOf, windowOf } from '../../../node/plan/speculation.ts'
import { formatMs } from '../../../node/units.ts'

/** Stages of so many ms, one device each, on links of a delay; `returnMs` is what the way back takes. */
function pipeline(
  stagesMs: readonly number[],
  {
    delayMs = 0,
    mbps = 1000,
    speculation
  }: { delayMs?: number; mbps?: number; speculation?: ScenarioInput['workload']['speculation'] } = {}
): Problem {
  return parseScenario({
    devices: stagesMs.map((_, i) => ({ id: `d${i}`, memoryBytes: 10, profile: `p${i}` })),
    source: 'd0',
    links: { default: { mbps, latencyMs: delayMs } },
    model: {
      name: 'm',
      layers: stagesMs.map((_, i) => ({ kind: `k${i}`, weightBytes: 10, activationBytes: 8192 }))
    },
    profiles: Object.fromEntries(
      stagesMs.map((decodeMs, i) => [`p${i}`, { [`k${i}`]: { decodeMs } }] as const)
    ),
    workload: { promptTokens: 1, newTokens: 10, batch: 1, contextTokens: 0, speculation },
    privacy: 'embedding'
  })
}

const eachItsOwn = (problem: Problem) =>
  problem.devices.map((_, device) => ({ device, start: device, end: device + 1 }))

const stepOf = (problem: Problem) => priceStep(problem, eachItsOwn(problem), 1).stepMs

const expected = (problem: Problem, acceptance: number, window: number, draftMs = 0) =>
  speculatedMs(wayOf(problem, eachItsOwn(problem), draftMs), { acceptance, window })

describe('what speculation gives', () => {
  const three = pipeline([8, 8, 8], { delayMs: 10 })
  const { busiestMs } = wayOf(three, eachItsOwn(three), 0)
  const stepMs = stepOf(three)

  it('is nothing where no guess is right, or only one frame is under way', () => {
    expect(expected(three, 0, 1)).toBeCloseTo(stepMs)
    expect(expected(three, 0.8, 1)).toBeCloseTo(stepMs)
    // A window that the first stage computes before the answer comes costs nothing either.
    expect(expected(three, 0, 3)).toBeCloseTo(stepMs)
  })

  it('is at best the pace of the busiest stage, or a window at a time', () => {
    expect(expected(three, 1, 100)).toBeCloseTo(busiestMs)
    expect(expected(three, 1, 2)).toBeCloseTo(stepMs / 2)
    expect(expected(three, 0.999999, 100)).toBeCloseTo(busiestMs, 2)
  })

  it('is what counting run by run gives', () => {
    for (const acceptance of [0.3, 0.7, 0.95]) {
      for (const window of [2, 3, 12]) {
        let ms = 0
        let tokens = 0
        for (let right = 0; right < 2000; right++) {
          const probability = (1 - acceptance) * acceptance ** right
          const roundMs = Math.max(stepMs, window * busiestMs)
          ms += probability * (stepMs + (right % window) * busiestMs + Math.floor(right / window) * roundMs)
          tokens += probability * (right + 1)
        }
        // Nothing is held up where only one thing takes time, and it is not the first.
        const visits = [
          { occupiedMs: 0, delayMs: stepMs - busiestMs },
          { occupiedMs: busiestMs, delayMs: 0 }
        ]
        const observed = speculatedMs({ visits, busiestMs }, { acceptance, window })
        expect(observed).toBeGreaterThanOrEqual(ms / tokens - 1e-6)
        expect(observed).toBeLessThanOrEqual(ms / tokens + (1 - acceptance) * busiestMs)
      }
    }
  })

  it('is nothing on a single device', () => {
    const one = pipeline([20])
    for (const window of [1, 2, 8]) expect(expected(one, 0.7, window)).toBeCloseTo(20)
  })

  it('grows with what is right, and with the window while there is room in the pipeline', () => {
    const windows = [1, 2, 3, 4, 5].map(window => expected(three, 0.9, window))
    expect([...windows].sort((a, b) => b - a)).toEqual(windows)
    const shares = [0, 0.2, 0.4, 0.6, 0.8, 1].map(acceptance => expected(three, acceptance, 4))
    expect([...shares].sort((a, b) => b - a)).toEqual(shares)
  })
})

describe('speculation, played event by event', () => {
  it('takes what the formula says', () => {
    const stage = fc.double({ min: 2, max: 30, noNaN: true })
    const scenario = fc.record({
      stagesMs: fc.array(stage, { minLength: 1, maxLength: 4 }),
      delayMs: fc.double({ min: 0, max: 20, noNaN: true }),
      mbps: fc.double({ min: 20, max: 1000, noNaN: true }),
      acceptance: fc.double({ min: 0.3, max: 0.9, noNaN: true }),
      window: fc.integer({ min: 1, max: 12 })
    })
    fc.assert(
      fc.property(scenario, ({ stagesMs, delayMs, mbps, acceptance, window }) => {
        const problem = pipeline(stagesMs, { delayMs, mbps })
        const speculation = { acceptance, window, draftMs: 0 }
        const observed = simulateSpeculation(problem, eachItsOwn(problem), speculation, 3000)
        const ratio = observed.tpotMs / expected(problem, acceptance, window)
        expect(ratio).toBeGreaterThan(0.92)
        expect(ratio).toBeLessThan(1.08)
      }),
      { numRuns: 40, seed: 3, endOnFailure: true }
    )
  })

  it('gives what was measured and estimated: three stages of a third of 25.7 ms, 10 ms, 70 % right', () => {
    const problem = pipeline([25.7 / 3, 25.7 / 3, 25.7 / 3], { delayMs: 10, mbps: 50 })
    expect(stepOf(problem)).toBeCloseTo(58.4, -1)
    expect(expected(problem, 0.7, 16)).toBeGreaterThan(22)
    expect(expected(problem, 0.7, 16)).toBeLessThan(26)
  })

  it('counts what a guess costs the source', () => {
    const problem = pipeline([8, 8, 8], { delayMs: 10 })
    const free = expected(problem, 0.8, 8)
    const dear = expected(problem, 0.8, 8, 6)
    expect(dear).toBeGreaterThan(free + 2)
    const speculation = { acceptance: 0.8, window: 8, draftMs: 6 }
    const observed = simulateSpeculation(problem, eachItsOwn(problem), speculation)
    expect(observed.tpotMs / dear).toBeGreaterThan(0.94)
    expect(observed.tpotMs / dear).toBeLessThan(1.06)
  })

  it('sends nothing in vain where all is right, and all but one of a window where nothing is', () => {
    const problem = pipeline([8, 8, 8], { delayMs: 10 })
    const wasted = (acceptance: number) =>
      simulateSpeculation(problem, eachItsOwn(problem), { acceptance, window: 4, draftMs: 0 }, 1000)
        .wastedShare
    expect(wasted(1)).toBeLessThan(0.01)
    expect(wasted(0)).toBeCloseTo(0.75, 2)
  })
})

describe('a scenario with speculation', () => {
  const speculation = { acceptance: 0.7, window: 4 }
  const with3 = (more: Parameters<typeof pipeline>[1] = {}) => pipeline([8, 8, 8], { delayMs: 10, ...more })
  const planned = (problem: Problem): Plan => {
    const result = plan(problem)
    if (!result.feasible) throw new Error(result.reason)
    return result
  }

  it('says the speculated time of a token beside the plain one, which stays what it is', () => {
    const plain = planned(with3())
    const speculated = planned(with3({ speculation }))
    expect(plain.predicted).not.toHaveProperty('speculatedTpotMs')
    expect(speculated.predicted).toMatchObject(plain.predicted)
    expect(speculated.predicted.speculatedTpotMs).toBeLessThan(0.6 * plain.predicted.tpotMs)
    expect(speculated.stages).toEqual(plain.stages)
    const problem = with3({ speculation })
    expect(predict(problem, speculated.stages)?.speculatedTpotMs).toBe(speculated.predicted.speculatedTpotMs)
    expect(renderPlan(problem, speculated)).toContain('with a window of 4 guesses of which 70.0 % are right')
  })

  it('is played beside it', () => {
    const problem = with3({ speculation })
    const report = simulatePlan(problem, planned(problem))
    const { predicted, observed } = report.speculation!
    expect(observed.tpotMs / predicted.tpotMs).toBeGreaterThan(0.95)
    expect(observed.tpotMs / predicted.tpotMs).toBeLessThan(1.05)
    expect(renderSimulation(report)).toContain('tpot, speculating')
    expect(simulatePlan(with3(), planned(with3()))).not.toHaveProperty('speculation')
  })

  it('does without where that is faster', () => {
    const slow = with3({ speculation: { acceptance: 0.1, window: 4, draftMs: 30 } })
    const { predicted } = planned(slow)
    expect(predicted.speculatedTpotMs).toBe(predicted.tpotMs)
  })

  it.each([
    [{ acceptance: 1.1, window: 4 }, 'workload.speculation.acceptance'],
    [{ acceptance: 0.5, window: 0 }, 'workload.speculation.window'],
    [{ acceptance: 0.5, window: 1e9 }, 'workload.speculation.window'],
    [{ acceptance: 0.5, window: 2, draftMs: -1 }, 'workload.speculation.draftMs']
  ])('%j is refused at %s', (wrong, path) => {
    const asked = wrong as { acceptance: number; window: number }
    expect(() => with3({ speculation: asked })).toThrow(path)
  })
})

describe('a plan of one sequence with guesses ahead', () => {
  /** A fast source, and devices half as fast beside it, which hold any layer. */
  const mesh = (speculation?: ScenarioInput['workload']['speculation']) =>
    parseScenario({
      devices: ['fast', 'slow', 'other'].map(id => ({
        id,
        memoryBytes: 100,
        profile: id === 'fast' ? 'fast' : 'slow'
      })),
      source: 'fast',
      links: { default: { mbps: 1000, latencyMs: 1 } },
      model: {
        name: 'm',
        layers: Array.from({ length: 12 }, () => ({ kind: 'decoder', weightBytes: 1, activationBytes: 8192 }))
      },
      profiles: { fast: { decoder: { decodeMs: 2 } }, slow: { decoder: { decodeMs: 3 } } },
      workload: { promptTokens: 8, newTokens: 100, batch: 1, contextTokens: 0, speculation },
      privacy: 'embedding',
      metric: 'request'
    })
  const planned = (speculation?: ScenarioInput['workload']['speculation']) => {
    const found = plan(mesh(speculation), { explain: false })
    if (!found.feasible) throw new Error(found.reason)
    return found
  }

  it('goes over several devices where one has the shortest step, if enough guesses are right', () => {
    expect(planned().stages.map(({ device }) => device)).toEqual(['fast'])
    const guessed = planned({ acceptance: 0.9 })
    expect(guessed.stages.length).toBeGreaterThan(1)
    expect(guessed.predicted.tpotMs).toBeGreaterThan(planned().predicted.tpotMs)
    expect(guessed.predicted.speculatedTpotMs).toBeLessThan(planned().predicted.tpotMs)
  })

  it('stays as it is where too few are right, or a draft takes the source its time', () => {
    for (const speculation of [{ acceptance: 0.05 }, { acceptance: 0.7, draftMs: 40 }]) {
      const found = planned(speculation)
      expect(found.stages.map(({ device }) => device)).toEqual(['fast'])
      expect(found.predicted.speculatedTpotMs).toBeCloseTo(found.predicted.tpotMs)
    }
  })

  /** Devices of such times a layer and turns, the source first, for twelve layers that fit each. */
  const turning = (timesMs: number[], turnsMs: number[], draftMs = 0) =>
    parseScenario({
      devices: timesMs.map((_, i) => ({
        id: `d${i}`,
        memoryBytes: 100,
        profile: `p${i}`,
        turnMs: turnsMs[i]!
      })),
      source: 'd0',
      links: { default: { mbps: 1000, latencyMs: 1 } },
      model: {
        name: 'm',
        layers: [{ kind: 'decoder', count: 12, weightBytes: 1, activationBytes: 8192 }]
      },
      profiles: Object.fromEntries(timesMs.map((decodeMs, i) => [`p${i}`, { decoder: { decodeMs } }])),
      workload: {
        ...{ promptTokens: 8, newTokens: 100, batch: 1, contextTokens: 0 },
        speculation: { acceptance: 0.9, draftMs }
      },
      privacy: 'embedding'
    })
  const guessedMs = (problem: Problem) => {
    const found = plan(problem, { explain: false })
    if (!found.feasible) throw new Error(found.reason)
    return found.predicted.speculatedTpotMs!
  }

  it('counts a turn for every frame, which several sequences of a micro-batch would share', () => {
    // A plan for micro-batches of several takes 22.3 ms a token: it has more stages, each of which every frame pays a turn of.
    expect(guessedMs(turning([4, 4.5, 2, 2], [7.5, 4, 0.5, 10.5]))).toBeLessThan(20)
  })

  it('leaves the source room for its drafts', () => {
    // A plan that does not see the 7 ms of a guess takes 25 ms a token.
    expect(guessedMs(turning([3, 1.5, 2], [0.5, 9.5, 3], 7))).toBeLessThan(19)
  })

  it('takes no more time with guesses than its budget', () => {
    const ids = Array.from({ length: 16 }, (_, i) => `d${i}`)
    const timesMs = ids.map((_, i) => 1 + ((7 * i) % 5) / 3)
    const pairs = ids.flatMap((a, i) =>
      ids.slice(i + 1).map((b, j) => ({
        between: [a, b] as [string, string],
        mbps: 5 + ((31 * i + 17 * j) % 90),
        latencyMs: (7 * i + 13 * j) % 9
      }))
    )
    const problem = parseScenario({
      devices: ids.map((id, i) => ({ id, memoryBytes: 4 + (i % 3), profile: id, turnMs: timesMs[i]! })),
      source: 'd0',
      links: { pairs },
      model: {
        name: 'm',
        layers: [{ kind: 'decoder', count: 24, weightBytes: 1, activationBytes: 8192 }]
      },
      profiles: Object.fromEntries(ids.map((id, i) => [id, { decoder: { decodeMs: timesMs[i]! } }])),
      workload: {
        ...{ promptTokens: 8, newTokens: 100, batch: 1, contextTokens: 0 },
        speculation: { acceptance: 0.9 }
      },
      privacy: 'embedding'
    })
    // Each look at the clock is a millisecond after the one before; without an end there are thousands.
    let nowMs = 0
    const found = plan(problem, { explain: false, budgetMs: 200, now: () => nowMs++ })
    expect(found.feasible).toBe(true)
    expect(nowMs).toBeLessThan(240)
  })

  it('says what binds it, and what is left out, by times with guesses', () => {
    const problem = mesh({ acceptance: 0.9 })
    const found = plan(problem) as Plan
    const { ttftMs, speculatedTpotMs } = found.predicted
    const value = `${formatMs(ttftMs + 99 * speculatedTpotMs!)} a request with guesses`
    expect(found.binds!.length).toBeGreaterThan(0)
    for (const line of found.binds!) expect(line).toMatch(new RegExp(`with guesses instead of ${value}$`))
    // One more stage of a device that is the same in every figure might gain something: nobody has proven that it does not.
    const devices = [...problem.devices, { ...problem.devices[1]!, id: 'twin' }]
    const links = devices.map(() => devices.map(() => problem.links[0]![1]!))
    const more = plan({ ...problem, devices, links }) as Plan
    for (const { reason } of more.left) expect(reason).not.toContain('one more stage gains nothing')
  })

  it.each([0, 0.3, 0.6, 0.8, 1])(
    'is never worse with guesses, %d of them right, than the one with the shortest step',
    acceptance => {
      for (const draftMs of [0, 3, 12]) {
        const speculation = { acceptance, draftMs }
        const shortest = predict(mesh(speculation), planned().stages)!
        const ms = ({ ttftMs, tpotMs, speculatedTpotMs = tpotMs }: typeof shortest) =>
          ttftMs + 99 * speculatedTpotMs
        expect(ms(planned(speculation).predicted)).toBeLessThanOrEqual(ms(shortest) * (1 + 1e-9))
      }
    }
  )
})

it('a window that is not said is as many frames as the busiest stage has done with until the first is back', () => {
  const three = pipeline([8, 8, 8], { delayMs: 10 })
  const way = wayOf(three, eachItsOwn(three), 0)
  expect(windowOf(way, 0.9)).toBe(Math.round(stepOf(three) / way.busiestMs))
  expect([windowOf(way, 0.01), windowOf(way, 0.1)]).toEqual([1, 2])
  const [narrower, wider] = [0, 1].map(more =>
    speculatedMs(way, { acceptance: 0.9, window: Math.floor(stepOf(three) / way.busiestMs) + more })
  )
  const byItself = speculatedMs(way, { acceptance: 0.9, window: undefined })
  expect(byItself).toBeGreaterThan(Math.min(narrower!, wider!))
  expect(byItself).toBeLessThan(Math.max(narrower!, wider!))
  // A wrong one is in nobody's way.
  expect(speculatedMs(way, { acceptance: 0, window: windowOf(way, 0.2) })).toBeCloseTo(stepOf(three))
})

it('a prediction does not jump where stages take hardly longer', () => {
  // From two frames under way to one: by themselves they differ by a third.
  const stages = Array.from({ length: 400 }, (_, i) => 25 + i * 0.05)
  const ms = stages.map(stageMs => {
    const problem = pipeline([15, stageMs], { delayMs: 0.3 })
    return speculatedMs(wayOf(problem, eachItsOwn(problem), 0), { acceptance: 0.9, window: undefined })
  })
  const ratios = ms.slice(1).map((each, i) => each / ms[i]!)
  expect(Math.max(...ratios)).toBeLessThan(1.02)
  expect(Math.min(...ratios)).toBeGreaterThan(0.98)
})

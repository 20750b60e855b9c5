import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { certificateOf } from '../../../node/page/certificate.ts'
import {
  ADDED_DEVICE,
  type Change,
  changed,
  linkOf,
  mbpsAt,
  memoriesOf,
  RATE_STEPS,
  stepOf,
  withTried
} from '../../../node/page/what-if.ts'
import { parseScenario, plan, type ScenarioInput } from '../../../node/plan/index.ts'

const SCENARIO: ScenarioInput = JSON.parse(
  readFileSync(new URL('../../scenarios/llama2-7b-1mbps.json', import.meta.url), 'utf8')
)
const planned = (scenario: ScenarioInput) => {
  const answer = plan(parseScenario(scenario))
  if (!answer.feasible) throw new Error(answer.reason)
  return answer
}

describe('a scenario with changes', () => {
  test('stays as it is without any, and is not changed by any', () => {
    const before = JSON.stringify(SCENARIO)
    expect(changed(SCENARIO, [])).toBe(SCENARIO)
    changed(SCENARIO, [
      { kind: 'memory', device: 'rtx', memoryBytes: 1 },
      { kind: 'link', between: ['agx-0', 'rtx'], mbps: 9, latencyMs: 1 },
      { kind: 'device', memoryBytes: 1, like: 'agx-0', mbps: 1 }
    ])
    expect(JSON.stringify(SCENARIO)).toBe(before)
  })

  test('has another memory, by which the plan becomes another', () => {
    const small = changed(SCENARIO, [{ kind: 'memory', device: 'rtx', memoryBytes: 1 }])
    expect(planned(SCENARIO).stages.map(({ device }) => device)).toContain('rtx')
    expect(planned(small).stages.map(({ device }) => device)).not.toContain('rtx')
  })

  test('has another memory of one processor of a device, and is as fast as its first', () => {
    const [first, ...others] = SCENARIO.devices
    const processors = ['cpu', 'gpu'].map(id => ({ id, memoryBytes: 2 ** 36, profile: 'agx' }))
    const both = { ...SCENARIO, devices: [{ id: first!.id, processors }, ...others] }
    const change = { kind: 'memory', device: first!.id, processor: 'gpu', memoryBytes: 1 } as const
    const added = { kind: 'device', memoryBytes: 3, like: first!.id, mbps: 1 } as const
    const { devices } = changed(both, [change, added])
    expect(memoriesOf(devices[0]!)).toEqual([
      { processor: 'cpu', memoryBytes: 2 ** 36, profile: 'agx' },
      { processor: 'gpu', memoryBytes: 1, profile: 'agx' }
    ])
    expect(devices.at(-1)).toMatchObject({ id: ADDED_DEVICE, profile: 'agx' })
  })

  test('has another link in the place of the old one, in both directions', () => {
    const fast = changed(SCENARIO, [
      { kind: 'link', between: ['rtx', 'agx-0'], mbps: 5, latencyMs: 1 },
      { kind: 'link', between: ['rtx', 'agx-0'], mbps: 1000, latencyMs: 2 }
    ])
    expect(linkOf(fast, 'agx-0', 'rtx')).toEqual({ mbps: 1000, latencyMs: 2 })
    expect(linkOf(SCENARIO, 'agx-0', 'rtx').mbps).toBe(1)
    expect(planned(fast).predicted.tpotMs).toBeLessThan(planned(SCENARIO).predicted.tpotMs)
  })

  test('has one more device, as fast as another', () => {
    const more = changed(SCENARIO, [{ kind: 'device', memoryBytes: 2 ** 36, like: 'rtx', mbps: 10_000 }])
    expect(planned(more).stages.map(({ device }) => device)).toContain(ADDED_DEVICE)
  })
})

test('of one thing the last change holds, and others stay', () => {
  const link = (mbps: number): Change => ({ kind: 'link', between: ['a', 'b'], mbps, latencyMs: 1 })
  const memory = (processor: string): Change => ({ kind: 'memory', device: 'a', processor, memoryBytes: 1 })
  const all = [link(1), memory('cpu'), link(2), memory('gpu')].reduce(withTried, [] as readonly Change[])
  expect(all).toEqual([memory('cpu'), link(2), memory('gpu')])
})

test('a slider has every rate from 0.1 Mbps to 40 Gbps within a few percent, each step about as much as the next', () => {
  expect([mbpsAt(0), mbpsAt(RATE_STEPS)]).toEqual([0.1, 40_000])
  expect([stepOf(0), stepOf(1e9)]).toEqual([0, RATE_STEPS])
  for (let step = 0; step <= RATE_STEPS; step++) expect(stepOf(mbpsAt(step))).toBe(step)
  for (const mbps of [0.3, 5, 94, 940]) expect(mbpsAt(stepOf(mbps)) / mbps).toBeCloseTo(1, 1)
})

test('a certificate says what is proven, and no more', () => {
  const best = planned(SCENARIO)
  expect(certificateOf(best)).toMatch(/^The best plan for this mesh: 60\.4 ms a token .* none is better\.$/)
  expect(certificateOf({ ...best, optimal: false, gap: 0.034, lowerBoundMs: 58.4 })).toContain(
    'No plan is better than 58.4 ms; this one is within 3.4 % of that.'
  )
})

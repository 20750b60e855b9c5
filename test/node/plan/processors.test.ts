import { describe, expect, test } from 'vitest'
import {
  compare,
  type Plan,
  parseScenario,
  plan,
  type Refusal,
  type ScenarioInput
} from '../../../node/plan/index.ts'
import { renderComparison, renderPlan, renderSimulation } from '../../../node/plan/render.ts'
import { simulatePlan } from '../../../node/plan/simulation-report.ts'
import { renderSvg } from '../../../node/plan/svg.ts'

type Device = ScenarioInput['devices'][number]

const CPU = { decodeMs: 4, prefillMsPerToken: 2 }
/** Faster for prompts and for nothing else. */
const PROMPTS_ONLY = { decodeMs: 6, prefillMsPerToken: 0.2 }

interface Changes {
  devices?: Device[]
  gpu?: { decodeMs: number; prefillMsPerToken: number }
  workload?: Partial<ScenarioInput['workload']>
  metric?: ScenarioInput['metric']
  privacy?: ScenarioInput['privacy']
  objective?: ScenarioInput['objective']
  mbps?: number
}

/** `desk`, the source, with a CPU and a card; eight layers of 10 bytes. */
function scenario({
  devices = [desk(100, 100)],
  gpu = { decodeMs: 1, prefillMsPerToken: 0.1 },
  workload = {},
  mbps = 100,
  ...rest
}: Changes = {}): ScenarioInput {
  return {
    devices,
    source: 'desk',
    links: { default: { mbps, latencyMs: 1 } },
    model: {
      name: 'tiny',
      layers: [
        { kind: 'decoder', count: 7, weightBytes: 10, activationBytes: 16_000 },
        { kind: 'decoder', weightBytes: 10, activationBytes: 4 }
      ]
    },
    profiles: { cpu: { decoder: CPU }, gpu: { decoder: gpu } },
    workload: { promptTokens: 32, newTokens: 32, batch: 1, contextTokens: 64, ...workload },
    ...rest
  }
}

function desk(cpuBytes: number, gpuBytes: number, id = 'desk'): Device {
  return {
    id,
    processors: [
      { id: 'cpu', memoryBytes: cpuBytes, profile: 'cpu' },
      { id: 'gpu', memoryBytes: gpuBytes, profile: 'gpu' }
    ],
    // 16,000 bytes take 0.01 ms.
    processorLinkMbps: 12_800
  }
}

function planned(input: ScenarioInput): Plan {
  const result = plan(parseScenario(input))
  if (!result.feasible) throw new Error(result.reason)
  expect(result.optimal).toBe(true)
  return result
}

describe('devices that list processors', () => {
  test('a stage names its processor, and one device may hold one on each', () => {
    const { stages, predicted } = planned(scenario({ devices: [desk(100, 50)] }))
    // What the card has no room for stays on the CPU beside it, at the cost of a copy; the token is at home on either.
    expect(stages.map(({ processor }) => processor).sort()).toEqual(['cpu', 'gpu'])
    expect(stages.every(({ device }) => device === 'desk')).toBe(true)
    const [first, last] = stages.map(({ layers: [start, end] }) => end - start)
    expect(first! + last!).toBe(8)
    expect(stages.find(({ processor }) => processor === 'gpu')!.layers.reduce((a, b) => b - a)).toBe(5)
    expect(predicted.tpotMs).toBeCloseTo(5 * 1 + 3 * 4 + 0.01, 9)
    expect(predicted.ttftMs).toBeCloseTo(32 * (5 * 0.1 + 3 * 2) + 0.32, 9)
    expect(predicted.linksMs).toEqual([expect.closeTo(0.01, 9), 0])
  })

  test('a single processor is the device as it was, by its name', () => {
    const alone = (device: Device) => planned(scenario({ devices: [device, laptop] }))
    const laptop = { id: 'laptop', memoryBytes: 50, profile: 'gpu' }
    const before = alone({ id: 'desk', memoryBytes: 60, profile: 'cpu' })
    const after = alone({ id: 'desk', processors: [{ id: 'cpu', memoryBytes: 60, profile: 'cpu' }] })
    expect(after.predicted).toEqual(before.predicted)
    expect(after.lowerBoundMs).toBe(before.lowerBoundMs)
    expect(before.stages.some(stage => 'processor' in stage)).toBe(false)
    expect(after.stages).toEqual(
      before.stages.map(stage => (stage.device === 'desk' ? { ...stage, processor: 'cpu' } : stage))
    )
  })

  test('links between devices are the same from whichever processor', () => {
    const other = desk(0, 40, 'laptop')
    const { stages, predicted } = planned(scenario({ devices: [desk(40, 0), other] }))
    expect(stages).toEqual([
      { device: 'desk', processor: 'cpu', layers: [0, 4] },
      { device: 'laptop', processor: 'gpu', layers: [4, 8] }
    ])
    const hopMs = (bytes: number) => (8 * bytes) / (100 * 1000) + 1
    expect(predicted.linksMs).toEqual([expect.closeTo(hopMs(16_000), 9), expect.closeTo(hopMs(4), 9)])
  })

  test('a card that is faster for prompts only is used where the prompt outweighs the answer', () => {
    const used = (changes: Changes) =>
      planned(scenario({ gpu: PROMPTS_ONLY, ...changes })).stages.map(({ processor }) => processor)
    const long = { promptTokens: 500, newTokens: 8 }
    const short = { promptTokens: 8, newTokens: 500 }
    expect(used({ metric: 'request', workload: long })).toEqual(['gpu'])
    expect(used({ metric: 'request', workload: short })).toEqual(['cpu'])
    // A token alone has no prompt.
    expect(used({ metric: 'tpot', workload: long })).toEqual(['cpu'])
  })

  test('first layers and a sealed head stay on the source, on any of its processors', () => {
    const laptop = { id: 'laptop', memoryBytes: 1000, profile: 'gpu' }
    // One layer fits the card, so that the two that stay are on both.
    const { stages } = planned(scenario({ devices: [desk(10, 10), laptop], mbps: 1e6 }))
    expect(stages.map(({ device, layers }) => [device, layers])).toEqual([
      ['desk', [0, 1]],
      ['desk', [1, 2]],
      ['laptop', [2, 8]]
    ])
    const sealed = planned(scenario({ devices: [desk(20, 10), laptop], mbps: 1e6, privacy: 'sealed' }))
    expect(sealed.stages[0]).toMatchObject({ device: 'desk', layers: [0, expect.any(Number)] })
    expect(sealed.stages.at(-1)).toMatchObject({ device: 'desk', layers: [expect.any(Number), 8] })
    const none = plan(parseScenario(scenario({ devices: [desk(10, 9), laptop] })))
    expect(none).toMatchObject({ feasible: false, reason: expect.stringContaining('the source desk') })
  })

  test('whoever reads a plan reads which processor', () => {
    const problem = parseScenario(
      scenario({ devices: [desk(0, 40), desk(40, 0, 'laptop')], privacy: 'embedding' })
    )
    const result = plan(problem) as Plan
    const text = renderPlan(problem, result)
    expect(text).toContain('desk (gpu)')
    expect(text).toContain('laptop (cpu)')
    expect(result.left).toEqual([
      {
        device: 'desk',
        processor: 'cpu',
        reason: expect.stringContaining('too little memory for one layer')
      },
      { device: 'laptop', processor: 'gpu', reason: expect.stringContaining('too little memory') }
    ])
    expect(text).toContain('desk (cpu): too little memory')
    expect(result.binds!.join('\n')).toContain('memory of desk (gpu)')
    expect(result.binds!.join('\n')).toContain('link desk - laptop')
    expect(renderSvg(problem, result)).toContain('>desk (gpu)<')
    expect(renderComparison(problem, [result])).toContain('desk (gpu) [0, 4) > laptop (cpu) [4, 8)')
    const report = simulatePlan(problem, result)
    expect(report.noBubble.observed.tpotMs).toBeCloseTo(result.predicted.tpotMs, 6)
    expect(renderSimulation(report)).toContain('desk (gpu) -> laptop (cpu)')
  })

  test('a processor and a device that people would read alike are busy apart', () => {
    const other = { id: 'desk (gpu)', memoryBytes: 40, profile: 'cpu' }
    const problem = parseScenario(scenario({ devices: [desk(0, 40), other] }))
    const report = simulatePlan(problem, plan(problem) as Plan)
    const compute = report.noBubble.observed.busy.filter(({ resource }) => resource === 'desk (gpu)')
    expect(compute).toHaveLength(2)
  })

  test('what would make a model fit names the processor', () => {
    const refused = plan(parseScenario(scenario({ devices: [desk(30, 40)] }))) as Refusal
    expect(refused.advice).toMatch(/^with 10 B more on desk \((?:cpu|gpu)\)$/)
  })

  test('other methods take a device for its first processor', () => {
    const devices = [desk(100, 100), desk(100, 100, 'laptop')]
    const [ours, ...others] = compare(parseScenario({ ...scenario({ devices }), cloud: 'laptop' }))
    expect(ours).toMatchObject({ stages: [{ device: 'desk', processor: 'gpu', layers: [0, 8] }] })
    for (const result of others) {
      expect(result.feasible).toBe(true)
      if (result.feasible) expect(result.stages.every(({ processor }) => processor === 'cpu')).toBe(true)
    }
  })

  test.each<[string, Device, string]>([
    [
      'a processor twice',
      { id: 'desk', processors: Array(2).fill({ id: 'cpu', memoryBytes: 1, profile: 'cpu' }) },
      'devices[0].processors[1].id: "cpu" occurs twice'
    ],
    [
      'an unknown profile',
      { id: 'desk', processors: [{ id: 'cpu', memoryBytes: 1, profile: 'none' }] },
      'devices[0].processors[0].profile: "none" is not listed in profiles'
    ],
    ['none of them', { id: 'desk', processors: [] }, 'devices[0].processors'],
    [
      'one without memory',
      { id: 'desk', processors: [{ id: 'cpu', profile: 'cpu' } as never] },
      'devices[0].processors[0].memoryBytes'
    ],
    ['neither memory nor processors', { id: 'desk' } as never, 'devices[0].memoryBytes']
  ])('%s is refused by its path', (_, device, message) => {
    expect(() => parseScenario(scenario({ devices: [device] }))).toThrow(message)
  })

  test('a plan ends by itself where times are hardly more than nothing', () => {
    const devices = [{ ...desk(60, 80), turnMs: 4 * Number.MIN_VALUE }]
    const nothing = { decoder: { decodeMs: 0 } }
    const input = scenario({ devices, workload: { batch: 2, contextTokens: 0 }, objective: 'throughput' })
    const profiles = { cpu: nothing, gpu: nothing }
    // A clock that is one later whenever it is looked at.
    let looks = 0
    const limits = { now: () => looks++, budgetMs: 100_000, explain: false }
    expect(plan(parseScenario({ ...input, profiles }), limits)).toMatchObject({ feasible: true, batch: 2 })
    expect(looks).toBeLessThan(1000)
  })

  test('more than 1,024 in all are refused', () => {
    const devices = Array.from({ length: 600 }, (_, at) => desk(1, 1, at === 0 ? 'desk' : `d${at}`))
    expect(() => parseScenario(scenario({ devices }))).toThrow('1200 processors in all, at most 1024')
  })
})

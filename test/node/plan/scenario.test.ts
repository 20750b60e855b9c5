import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { decodeMs, occupiedMs, prefillMs } from '../../../node/plan/cost.ts'
import { parseScenario, plan, type ScenarioInput } from '../../../node/plan/index.ts'
import { testbedFiles, toJson } from '../../scenarios/testbed.ts'

const folder = join(import.meta.dirname, '..', '..', 'scenarios')

function sample(): ScenarioInput {
  return {
    devices: [
      { id: 'a', memoryBytes: 100, profile: 'p' },
      { id: 'b', memoryBytes: 100, profile: 'p' }
    ],
    source: 'a',
    links: { default: { mbps: 10 }, hopOverheadMs: 2, pairs: [] },
    model: { name: 'm', layers: [{ kind: 'decoder', count: 4, weightBytes: 10, activationBytes: 1000 }] },
    profiles: { p: { decoder: { decodeMs: 1 } } },
    workload: { promptTokens: 4, newTokens: 8, batch: 1, contextTokens: 12 }
  }
}

/** The sample with one thing changed by its path. */
function changed(path: readonly (string | number)[], value: unknown): unknown {
  const scenario = structuredClone(sample()) as unknown as Record<string | number, unknown>
  let at = scenario
  for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>
  const last = path.at(-1)!
  if (value === undefined) delete at[last]
  else at[last] = value
  return scenario
}

describe('parseScenario', () => {
  it('expands counts, defaults and links', () => {
    const problem = parseScenario({
      ...sample(),
      links: {
        default: { mbps: 10, latencyMs: 5 },
        hopOverheadMs: 2,
        pairs: [
          { from: 'a', to: 'b', mbps: 7 },
          { between: ['b', 'a'], mbps: 3, latencyMs: 1 }
        ]
      }
    })
    expect(problem.layers.length).toBe(4)
    expect([problem.privacy, problem.metric, problem.objective]).toEqual(['prompt', 'tpot', 'latency'])
    expect(problem.links[0]![1]).toEqual({ mbps: 7, delayMs: 2 })
    expect(problem.links[1]![0]).toEqual({ mbps: 3, delayMs: 3 })
    expect(problem.workload.batch).toEqual({ min: 1, max: 1 })
    const open = parseScenario(changed(['workload', 'batch'], { max: 6 }))
    expect(open.workload.batch).toEqual({ min: 1, max: 6 })
  })

  it.each([
    ['a missing number', ['devices', 0, 'memoryBytes'], undefined, 'devices[0].memoryBytes: '],
    ['frames that take more off than there is', ['devices', 0, 'frameMs'], -1, 'devices[0].frameMs: '],
    ['a negative number', ['devices', 1, 'memoryBytes'], -1, 'devices[1].memoryBytes: '],
    ['NaN', ['model', 'layers', 0, 'weightBytes'], Number.NaN, 'model.layers[0].weightBytes: '],
    [
      'an endless number',
      ['model', 'layers', 0, 'weightBytes'],
      Number.POSITIVE_INFINITY,
      'model.layers[0].weightBytes: '
    ],
    ['text for a number', ['workload', 'newTokens'], '8', 'workload.newTokens: '],
    ['half a token', ['workload', 'promptTokens'], 1.5, 'workload.promptTokens: '],
    ['no batch', ['workload', 'batch'], 0, 'workload.batch: '],
    ['an open batch of nothing', ['workload', 'batch'], { max: 0 }, 'workload.batch.max: '],
    ['a source that is not listed', ['source'], 'z', 'source: "z" is not listed'],
    ['a cloud that is not listed', ['cloud'], 'z', 'cloud: "z" is not listed'],
    ['a profile that is not listed', ['devices', 0, 'profile'], 'q', 'devices[0].profile: "q" is not listed'],
    ['the same device twice', ['devices', 1, 'id'], 'a', 'devices[1].id: "a" occurs twice'],
    ['zero layers', ['model', 'layers'], [], 'model.layers: '],
    ['a count of zero', ['model', 'layers', 0, 'count'], 0, 'model.layers[0].count: '],
    ['10,000 layers', ['model', 'layers', 0, 'count'], 10_000, 'model.layers[0].count: '],
    ['a link of no width', ['links', 'default', 'mbps'], 0, 'links.default.mbps: '],
    [
      'an unknown device in links',
      ['links', 'pairs'],
      [{ from: 'a', to: 'z', mbps: 1 }],
      'links.pairs[0].to: '
    ],
    ['a link to itself', ['links', 'pairs'], [{ from: 'a', to: 'a', mbps: 1 }], 'links.pairs[0]: '],
    [
      'the same pair twice',
      ['links', 'pairs'],
      [
        { between: ['a', 'b'], mbps: 1 },
        { between: ['b', 'a'], mbps: 1 }
      ],
      'links.pairs[1]: the same pair twice'
    ],
    ['no default and no entry', ['links', 'default'], undefined, 'links.default: missing'],
    ['a misspelt name', ['links', 'hopOverheadms'], 1, 'links: '],
    ['a point at zero', ['profiles', 'p', 'decoder', 'decodeMsByBatch'], { 0: 1 }, 'profiles.p.decoder.'],
    ['no points', ['profiles', 'p', 'decoder', 'decodeMsByBatch'], {}, 'profiles.p.decoder.decodeMsByBatch'],
    ['a name that a terminal obeys', ['devices', 0, 'id'], '\u001b[2J', 'devices[0].id: '],
    ['unknown privacy', ['privacy'], 'secret', 'privacy: ']
  ] as [string, (string | number)[], unknown, string][])(
    'refuses %s in one line with its path',
    (_, path, value, start) => {
      let message = ''
      try {
        parseScenario(changed(path, value))
      } catch (error) {
        message = (error as Error).message
        expect((error as Error).name).toBe('ScenarioError')
      }
      expect(message.startsWith(start), message).toBe(true)
      expect(message).not.toContain('\n')
    }
  )

  it('refuses 10,000 devices, and layers that add up to too many', () => {
    const devices = Array.from({ length: 10_000 }, (_, at) => ({
      id: `d${at}`,
      memoryBytes: 1,
      profile: 'p'
    }))
    expect(() => parseScenario(changed(['devices'], devices))).toThrow(/^devices: /)
    const layer = { kind: 'decoder', count: 600, weightBytes: 1, activationBytes: 1 }
    expect(() => parseScenario(changed(['model', 'layers'], [layer, layer]))).toThrow(/1200 layers/)
  })

  it.each([undefined, null, 7, 'text', [], [[]], { devices: {} }])('refuses %j', value => {
    expect(() => parseScenario(value)).toThrow(/: /)
  })
})

describe('the cost of one thing', () => {
  const line = { decodeMs: 4, decodeMsPerExtraSequence: 0.5, prefillMsPerToken: 0.25 }

  it('is a line in batch and in tokens, or points with straight lines between', () => {
    expect(decodeMs(line, 3)).toBe(5)
    expect(prefillMs(line, 32)).toBe(8)
    const measured = {
      ...line,
      decodeMsByBatch: [
        [1, 4],
        [8, 11]
      ] as const,
      prefillMsByTokens: [[32, 12]] as const
    }
    expect(decodeMs(measured, 1)).toBe(4)
    expect(decodeMs(measured, 4)).toBe(7)
    expect(decodeMs(measured, 16)).toBe(22)
    expect(prefillMs(measured, 8)).toBe(12)
    expect(prefillMs(measured, 64)).toBe(24)
    expect(decodeMs(undefined, 5)).toBe(0)
  })

  it('of a transfer is its bits over the bandwidth', () => {
    expect(occupiedMs({ mbps: 1, delayMs: 6.3 }, 16384)).toBe(131.072)
  })
})

describe('the testbed', () => {
  it('is what its generator writes', () => {
    for (const [name, scenario] of testbedFiles()) {
      expect(readFileSync(join(folder, name), 'utf8'), name).toBe(toJson(scenario))
    }
  })

  it('infeasible says what is missing', () => {
    const problem = parseScenario(changed(['model', 'layers', 0, 'weightBytes'], 60))
    const result = plan(problem)
    expect(result.feasible).toBe(false)
    expect(!result.feasible && result.reason).toBe(
      "privacy 'prompt' keeps 120 B on the source a, which offers 100 B; the whole model needs 240 B with room for 12 tokens"
    )
  })
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { compare, type Method, parseScenario, plan } from '../../../node/plan/index.ts'
import { paperPage } from '../../bench/plan-paper-page.ts'
import { MBPS, testbed } from '../../scenarios/testbed.ts'

const GIB = 2 ** 30

function tpots(options: Parameters<typeof testbed>[0]): Map<Method, string> {
  const results = compare(parseScenario(testbed(options)), { explain: false })
  return new Map(
    results.map(result => [
      result.method,
      result.feasible ? result.predicted.tpotMs.toFixed(1) : 'infeasible'
    ])
  )
}

describe("the paper's testbed", () => {
  it('7B at 1 Mbps: the figures of Table IV and the optimum', () => {
    const found = tpots({ model: 'llama2-7b', mbps: 1 })
    expect(found.get('edge-solo')).toBe('140.4')
    expect(found.get('cloud-edge-even')).toBe('227.5')
    expect(found.get('cloud-edge-opt')).toBe('140.4')
    expect(found.get('edgeshard')).toBe('60.4')
    expect(found.get('paper-dp')).toBe('68.0')
    const ours = plan(parseScenario(testbed({ model: 'llama2-7b', mbps: 1 })), { explain: false })
    expect(ours.feasible && [ours.optimal, ours.gap, ours.stages]).toEqual([
      true,
      0,
      [
        { device: 'agx-0', layers: [0, 1] },
        { device: 'agx-1', layers: [1, 3] },
        { device: 'rtx', layers: [3, 34] }
      ]
    ])
  })

  it('with 22 GiB on the 3090 the published algorithm comes back to a device, the optimum is 67.2 ms', () => {
    const problem = parseScenario(testbed({ model: 'llama2-7b', mbps: 1, rtxBytes: 22 * GIB }))
    const ours = plan(problem, { explain: false })
    expect(ours.feasible && ours.predicted.tpotMs.toFixed(1)).toBe('67.2')
    const published = plan(problem, { method: 'paper-dp', explain: false })
    expect(published.feasible && published.predicted.tpotMs).toBeGreaterThan(74)
  })

  it('what the paper calls out of memory is infeasible', () => {
    const solo = tpots({ model: 'llama2-13b', mbps: 1 })
    expect(solo.get('edge-solo')).toBe('infeasible')
    const large = tpots({ model: 'llama2-70b', mbps: 1 })
    for (const method of ['edge-solo', 'cloud-edge-even', 'cloud-edge-opt'] as const) {
      expect(large.get(method)).toBe('infeasible')
    }
    const small = tpots({ model: 'llama2-7b', mbps: 1, source: 'nx' })
    expect(small.get('edge-solo')).toBe('infeasible')
    expect(small.get('cloud-edge-even')).toBe('infeasible')
  })

  it('13B: a better link never lowers our throughput', () => {
    let before = 0
    for (const mbps of MBPS) {
      const problem = parseScenario(testbed({ model: 'llama2-13b', mbps }))
      const result = plan({ ...problem, objective: 'throughput' }, { explain: false })
      expect(result.feasible && result.optimal).toBe(true)
      if (!result.feasible) return
      expect(result.predicted.tokensPerSecond).toBeGreaterThanOrEqual(before * (1 - 1e-9))
      before = result.predicted.tokensPerSecond
    }
    expect(before).toBeGreaterThan(25.2)
  })

  it('the committed page is what the command writes', () => {
    const page = readFileSync(join(import.meta.dirname, '..', '..', '..', 'node', 'plan', 'PAPER.md'), 'utf8')
    expect(page).toBe(paperPage())
  })
})

import { expect, test } from 'vitest'
import { parseScenario, plan } from '../../../node/plan/index.ts'

const MIB = 2 ** 20

/** Two devices of `memory` MiB each, four layers of 10 MiB, and a KV cache of 1 MiB a layer for each 256 tokens. */
function scenario(memory: [number, number], { contextTokens = 1024, privacy = 'prompt' as const } = {}) {
  return parseScenario({
    devices: ['desk', 'laptop'].map((id, at) => ({ id, memoryBytes: memory[at]! * MIB, profile: 'p' })),
    source: 'desk',
    links: { default: { mbps: 100, latencyMs: 1 } },
    model: {
      name: 'tiny',
      layers: [
        { kind: 'decoder', count: 4, weightBytes: 10 * MIB, activationBytes: 64, kvBytesPerToken: MIB / 256 }
      ]
    },
    profiles: { p: { decoder: { decodeMs: 1 } } },
    workload: { promptTokens: 100, newTokens: 100, batch: 1, contextTokens },
    privacy
  })
}

function adviceOf(problem: ReturnType<typeof scenario>, explain = true): string | undefined {
  const answer = plan(problem, { explain })
  if (answer.feasible) throw new Error('it fits')
  return answer.advice
}

/** Whether the problem is feasible with so many more bytes on a device. */
function fitsWith(problem: ReturnType<typeof scenario>, id: string, bytes: number): boolean {
  const devices = problem.devices.map(device =>
    device.id === id ? { ...device, memoryBytes: device.memoryBytes + bytes } : device
  )
  return plan({ ...problem, devices }, { explain: false }).feasible
}

test('what fits nowhere says on which device least more memory would do, and how many tokens would fit', () => {
  // A layer takes 14 MiB: two fit on the desk, and one on the laptop, which lacks 1.5 MiB for its second.
  const advice = adviceOf(scenario([30, 26.5]))
  expect(advice).toBe('with 1.5 MiB more on laptop, or with room for 768 tokens instead of 1024')
  expect(fitsWith(scenario([30, 26.5]), 'laptop', 1.52 * MIB)).toBe(true)
  expect(fitsWith(scenario([30, 26.5]), 'laptop', 1.4 * MIB)).toBe(false)
  expect(plan(scenario([30, 26.5], { contextTokens: 768 }), { explain: false }).feasible).toBe(true)
})

test('where the source has to keep more than it has, only its own memory helps, and less of it with fewer tokens', () => {
  expect(adviceOf(scenario([5, 1000]))).toMatch(
    /^with 23\.\d MiB more on desk, or with 17\.\d MiB more on desk and room for 256 tokens instead of 1024$/
  )
})

test('weights that fit nowhere by themselves are not helped by fewer tokens alone', () => {
  const advice = adviceOf(scenario([21, 10]))!
  const [, bytes, where] =
    /, or with ([\d.]+) MiB more on (\w+) and room for 256 tokens instead of 1024$/.exec(advice)!
  const short = scenario([21, 10], { contextTokens: 257 })
  expect(fitsWith(short, where!, (Number(bytes) + 0.1) * MIB)).toBe(true)
  expect(fitsWith(short, where!, (Number(bytes) - 0.2) * MIB)).toBe(false)
})

test('of the fewest tokens there are no fewer, and a cache of whole steps is called by its tokens', () => {
  expect(adviceOf(scenario([21, 10], { contextTokens: 256 }))).toMatch(/^with \d+\.\d MiB more on \w+$/)
  expect(adviceOf(scenario([5, 1000], { contextTokens: 513 }))).toContain('256 tokens instead of 512')
})

test('a refusal says what all of it needs, for how many tokens, and what there is', () => {
  const answer = plan(scenario([30, 5], { contextTokens: 513 }), { explain: false })
  expect(answer).toMatchObject({
    reason:
      'it needs 48.0 MiB with room for 512 tokens, the mesh offers 35.0 MiB; the largest layer needs 12.0 MiB'
  })
})

test('nothing is worked out for who wants no explanation', () => {
  expect(adviceOf(scenario([30, 26.5]), false)).toBeUndefined()
})

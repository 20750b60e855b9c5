import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseScenario, predict, predictFirstToken, type StagePlan } from '../../../node/plan/index.ts'
import { simulate } from '../../../node/plan/simulate.ts'
import { toSegments } from '../../../node/plan/to-plan.ts'

const CHUNK_TOKENS = 32

interface Place {
  device: string
  layers: number
  tokenMs: number
  mbps: number
}

/** A chain of stages, and what a prompt of so many tokens is to it. */
function chainOf(places: readonly Place[], promptTokens: number) {
  const layers = places.reduce((sum, place) => sum + place.layers, 0)
  const scenario = {
    devices: [...new Set(places.map(({ device }) => device))].map(id => ({
      id,
      memoryBytes: 1e12,
      profile: id
    })),
    source: 'd0',
    links: {
      default: { mbps: 1000, latencyMs: 2 },
      pairs: places.slice(1).flatMap(({ device, mbps }, i) => {
        const from = places[i]!.device
        return from === device ? [] : [{ from, to: device, mbps, latencyMs: 2 }]
      })
    },
    model: {
      name: 'chain',
      layers: [
        { kind: 'decoder', count: layers, weightBytes: 1, activationBytes: 4096 },
        { kind: 'head', weightBytes: 1, activationBytes: 1 }
      ]
    },
    profiles: Object.fromEntries(
      places.map(({ device, tokenMs }) => [device, { decoder: { decodeMs: 1, prefillMsPerToken: tokenMs } }])
    ),
    workload: { promptTokens, newTokens: 1, batch: 1, contextTokens: 0 },
    privacy: 'embedding'
  }
  let start = 0
  const stages = places.map(({ device, layers: count }, i): StagePlan => {
    const end = start + count + (i === places.length - 1 ? 1 : 0)
    const stage = { device, layers: [start, end] as const }
    start = end
    return stage
  })
  return { problem: parseScenario(scenario), stages }
}

/** The time in which all chunks are through, played one by one. */
function playedMs(places: readonly Place[], chunks: number): number {
  const { problem, stages } = chainOf(places, CHUNK_TOKENS)
  const run = { batch: chunks, microBatches: chunks, strategy: 'noBubble' } as const
  const { tokensPerSecond } = simulate(problem, toSegments(problem, stages), run)
  return (1000 * chunks) / tokensPerSecond
}

const place = fc.record({
  layers: fc.integer({ min: 1, max: 4 }),
  tokenMs: fc.double({ min: 0.05, max: 4, noNaN: true }),
  mbps: fc.integer({ min: 20, max: 2000 })
})
const ways = fc.array(place, { minLength: 2, maxLength: 5 })
const counts = fc.integer({ min: 1, max: 24 })

test('chunks that are on several devices at once are through when the evaluator says', () => {
  fc.assert(
    fc.property(ways, counts, (way, chunks) => {
      const places = way.map((each, i) => ({ ...each, device: `d${i}` }))
      const { problem, stages } = chainOf(places, chunks * CHUNK_TOKENS)
      const expectedMs = playedMs(places, chunks)
      expect(Math.abs(predictFirstToken(problem, stages, CHUNK_TOKENS)! / expectedMs - 1)).toBeLessThan(1e-3)
    }),
    { numRuns: 200, seed: 3 }
  )
})

test('a source that has two stages is busy with both', () => {
  fc.assert(
    fc.property(ways, counts, (way, chunks) => {
      const middle = way.map((each, i) => ({ ...each, device: `d${i}` }))
      const places = [...middle, middle[0]!]
      const { problem, stages } = chainOf(places, chunks * CHUNK_TOKENS)
      const ratio = predictFirstToken(problem, stages, CHUNK_TOKENS)! / playedMs(places, chunks)
      expect(ratio).toBeGreaterThan(0.6)
      expect(ratio).toBeLessThan(1.5)
    }),
    { numRuns: 200, seed: 4 }
  )
})

test('nothing overlaps on one device, nor with a prompt of one chunk', () => {
  const one = { device: 'd0', layers: 3, tokenMs: 1, mbps: 100 }
  const two = [one, { ...one, device: 'd1' }]
  for (const [places, tokens] of [
    [[one], 320],
    [two, CHUNK_TOKENS],
    [two, 5]
  ] as const) {
    const { problem, stages } = chainOf(places, tokens)
    expect(predictFirstToken(problem, stages, CHUNK_TOKENS)).toBe(predict(problem, stages)!.ttftMs)
  }
  const { problem, stages } = chainOf(two, 320)
  expect(predictFirstToken(problem, stages, CHUNK_TOKENS)).toBeLessThan(
    0.6 * predict(problem, stages)!.ttftMs
  )
  expect(predictFirstToken(problem, [{ device: 'gone', layers: [0, 7] }], CHUNK_TOKENS)).toBeUndefined()
})

import { describe, expect, it } from 'vitest'
import { type Sampling, sampleToken, samplingProblem, uniform } from '../../../models/runtime/sampler.ts'

const logits = Float32Array.of(1, 3, 2, -4, 2.5)
const logSum = Math.log(logits.reduce((sum, x) => sum + Math.exp(x), 0))
const sampling = (changes: Partial<Sampling> = {}): Sampling => ({
  temperature: 0,
  topP: 1,
  seed: 1,
  topLogprobs: 0,
  ...changes
})
/** How often each token is drawn over `n` positions. */
function frequencies(changes: Partial<Sampling>, n = 20_000): number[] {
  const counts = new Array(logits.length).fill(0)
  for (let position = 0; position < n; position++) {
    counts[sampleToken(logits, logSum, sampling(changes), position).id]++
  }
  return counts.map(count => count / n)
}

describe('greedy', () => {
  it('takes the likeliest token, the first of equals', () => {
    expect(sampleToken(logits, logSum, sampling(), 0).id).toBe(1)
    expect(sampleToken(Float32Array.of(0, 5, 5), 0, sampling(), 0).id).toBe(1)
  })

  it('gives the log-probability and the likeliest tokens, best first', () => {
    const token = sampleToken(logits, logSum, sampling({ topLogprobs: 3 }), 0)
    // As the wire has it.
    expect(token.logprob).toBe(Math.fround(3 - logSum))
    expect(token.top.map(t => t.id)).toEqual([1, 4, 2])
    expect(token.top[2]!.logprob).toBe(Math.fround(2 - logSum))
  })

  it('lists the whole vocabulary when it is smaller than topLogprobs', () => {
    const { top } = sampleToken(logits, logSum, sampling({ topLogprobs: 20 }), 0)
    expect(top.map(t => t.id)).toEqual([1, 4, 2, 0, 3])
  })
})

describe('temperature', () => {
  it('draws each token as often as its probability says', () => {
    const expected = Array.from(logits, x => Math.exp(x - logSum))
    frequencies({ temperature: 1 }).forEach((share, i) => {
      expect(Math.abs(share - expected[i]!)).toBeLessThan(0.015)
    })
  })

  it('flattens above 1 and sharpens below', () => {
    expect(frequencies({ temperature: 4 })[1]!).toBeLessThan(frequencies({ temperature: 1 })[1]!)
    expect(frequencies({ temperature: 0.3 })[1]!).toBeGreaterThan(frequencies({ temperature: 1 })[1]!)
  })

  it('survives a temperature near 0', () => {
    expect(frequencies({ temperature: 1e-12 }, 100)[1]).toBe(1)
  })
})

describe('topP', () => {
  it('keeps the smallest set that reaches it', () => {
    // Probabilities, best first: 0.48 (1), 0.29 (4), 0.18 (2), 0.06 (0), 0.0004 (3).
    const kept = (topP: number) =>
      frequencies({ temperature: 1, topP }, 4000).flatMap((share, i) => (share > 0 ? [i] : []))
    expect(kept(0.4)).toEqual([1])
    expect(kept(0.5)).toEqual([1, 4])
    expect(kept(0.77)).toEqual([1, 2, 4])
    expect(kept(0.96)).toEqual([0, 1, 2, 4])
  })

  it('agrees with a sort of the whole vocabulary', () => {
    const large = Float32Array.from({ length: 5000 }, (_, i) => 8 * uniform(7, i))
    const sum = large.reduce((total, x) => total + Math.exp(x), 0)
    const order = [...large.keys()].sort((a, b) => large[b]! - large[a]!)
    let mass = 0
    const nucleus = new Set(
      order.filter(id => (mass += Math.exp(large[id]!) / sum) - Math.exp(large[id]!) / sum < 0.3)
    )
    for (let position = 0; position < 500; position++) {
      const token = sampleToken(large, Math.log(sum), sampling({ temperature: 1, topP: 0.3 }), position)
      expect(nucleus.has(token.id)).toBe(true)
    }
  })
})

describe('the draw', () => {
  it('depends on seed and position alone', () => {
    const draw = (seed: number, position: number) =>
      sampleToken(logits, logSum, sampling({ temperature: 1, seed }), position).id
    const positions = Array.from({ length: 40 }, (_, i) => i)
    expect(positions.map(p => draw(5, p))).toEqual(positions.map(p => draw(5, p)))
    expect(positions.map(p => draw(5, p))).not.toEqual(positions.map(p => draw(6, p)))
  })

  it('matches the published splitmix64', () => {
    // First outputs for seed 1234567: https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    const expected = [6457827717110365317n, 3203168211198807973n, 9817491932198370423n]
    expect(expected.map((_, i) => uniform(1234567, i))).toEqual(expected.map(x => Number(x >> 11n) / 2 ** 53))
  })
})

describe('samplingProblem', () => {
  it('accepts what makes sense and names what does not', () => {
    expect(samplingProblem(sampling({ temperature: 0.7, topP: 0.9, topLogprobs: 20 }))).toBeUndefined()
    expect(samplingProblem(sampling({ temperature: -1 }))).toContain('temperature -1')
    expect(samplingProblem(sampling({ topP: 1.1 }))).toContain('topP 1.1')
    expect(samplingProblem(sampling({ seed: 0.5 }))).toContain('seed 0.5')
    expect(samplingProblem(sampling({ topLogprobs: -1 }))).toContain('topLogprobs -1')
  })
})

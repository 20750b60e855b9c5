import { describe, expect, it } from 'vitest'
import {
  historyFor,
  type Sampling,
  sampleToken,
  samplingProblem,
  uniform
} from '../../../models/runtime/sampler.ts'
import { prng } from '../../fixtures/prng.ts'

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

describe('topK', () => {
  const kept = (changes: Partial<Sampling>) =>
    frequencies({ temperature: 1, ...changes }, 4000).flatMap((share, i) => (share > 0 ? [i] : []))

  it('keeps so many of the likeliest, and of equal ones those with lower ids', () => {
    expect(kept({ topK: 1 })).toEqual([1])
    expect(kept({ topK: 3 })).toEqual([1, 2, 4])
    expect(kept({ topK: 4 })).toEqual([0, 1, 2, 4])
    const equal = Float32Array.of(1, 1, 1, 1)
    const ids = Array.from({ length: 200 }, (_, position) => {
      return sampleToken(equal, Math.log(4 * Math.E), sampling({ temperature: 1, topK: 2 }), position).id
    })
    expect(new Set(ids)).toEqual(new Set([0, 1]))
  })

  it('leaves topP its share of what it keeps', () => {
    // 0.62 (1) and 0.38 (4) of these two; the first alone has 0.48 of all.
    expect(kept({ topK: 2, topP: 0.6 })).toEqual([1])
    expect(kept({ topP: 0.6 })).toEqual([1, 4])
  })
})

describe('minP', () => {
  it('keeps what is likely enough beside the likeliest', () => {
    // Beside the likeliest: 0.61 (4), 0.37 (2), 0.14 (0), 0.0009 (3).
    const kept = (minP: number) =>
      frequencies({ temperature: 1, minP }, 4000).flatMap((share, i) => (share > 0 ? [i] : []))
    expect(kept(1)).toEqual([1])
    expect(kept(0.5)).toEqual([1, 4])
    expect(kept(0.3)).toEqual([1, 2, 4])
    expect(kept(0.1)).toEqual([0, 1, 2, 4])
  })
})

/** By sorting all of the vocabulary, in float64, without a thought for time. */
function plainDraw(
  logits: Float32Array,
  { temperature, topP, seed, topK, minP = 0, penalties, logitBias = [], minTokens = 0, ends = [] }: Sampling,
  position: number,
  reply: readonly number[]
): number {
  const values = [...logits]
  for (const [id, bias] of logitBias) values[id]! += bias
  if (penalties !== undefined) {
    const last = penalties.window === 0 ? [] : reply.slice(-penalties.window)
    for (const id of new Set(last)) {
      const count = last.filter(other => other === id).length
      values[id] = values[id]! > 0 ? values[id]! / penalties.repetition : values[id]! * penalties.repetition
      values[id]! -= count * penalties.frequency
      values[id]! -= penalties.presence
    }
  }
  if (reply.length < minTokens) for (const id of ends) values[id] = Number.NEGATIVE_INFINITY
  const order = [...values.keys()].sort((a, b) => values[b]! - values[a]! || a - b)
  if (temperature === 0) return order[0]!
  const weightOf = (id: number) => Math.exp((values[id]! - values[order[0]!]!) / temperature)
  let kept = order.slice(0, topK)
  if (topP < 1) {
    const all = kept.reduce((sum, id) => sum + weightOf(id), 0)
    let before = 0
    kept = kept.filter(id => {
      const isIn = before < topP * all
      before += weightOf(id)
      return isIn
    })
  }
  kept = kept.filter(id => weightOf(id) >= minP)
  const isSorted = topP < 1 || (topK ?? Number.POSITIVE_INFINITY) < values.length
  if (!isSorted) kept.sort((a, b) => a - b)
  let left = uniform(seed, position) * kept.reduce((sum, id) => sum + weightOf(id), 0)
  return kept.find(id => (left -= weightOf(id)) < 0) ?? kept.at(-1)!
}

describe('what is drawn', () => {
  const VOCABULARY = 300
  const PROMPT_TOKENS = 5
  const random = prng(11)
  const oneOf = <T>(...values: T[]): T => values[Math.floor(random() * values.length)]!
  const some = (count: number) => Array.from({ length: count }, () => Math.floor(random() * VOCABULARY))
  const specification = (): Sampling => ({
    temperature: oneOf(0, 0.2, 0.7, 1, 2),
    topP: oneOf(1, 0.999, 0.9, 0.5, 1e-9),
    seed: Math.floor(random() * 1e9),
    topLogprobs: 0,
    topK: oneOf(undefined, 1, 2, 40, 200, 299, 300, 2 ** 21),
    minP: oneOf(undefined, 0, 0.01, 0.2, 1),
    penalties: oneOf(undefined, {
      repetition: oneOf(1, 0.7, 1.3, 5),
      frequency: oneOf(0, 0.5, -1),
      presence: oneOf(0, 1, -0.5),
      window: oneOf(0, 1, 4, 30, 4096)
    }),
    logitBias: oneOf(
      undefined,
      [],
      some(4).map(id => [id, oneOf(-100, -2, 3, 100)] as const)
    ),
    minTokens: oneOf(undefined, 0, 7, 40),
    ends: oneOf(undefined, [], some(20))
  })

  it('is what a plain reference draws, for specifications of all kinds', () => {
    const changed = { penalties: 0, logitBias: 0, minTokens: 0, topK: 0, minP: 0 }
    for (let round = 0; round < 100; round++) {
      const specified = specification()
      const known = some(oneOf(0, 0, 3, 20))
      const reply = { promptTokens: PROMPT_TOKENS, knownTokens: known.length, lastIds: known }
      const history = historyFor({ ...specified, reply })
      const written = [...known]
      for (let i = 0; i < 25; i++) {
        // Few values, so that some tie.
        const drawn = Float32Array.from({ length: VOCABULARY }, () => Math.round(random() * 80) / 8 - 3)
        const sum = Math.log(drawn.reduce((total, x) => total + Math.exp(x), 0))
        const position = PROMPT_TOKENS + written.length - 1
        const { id } = sampleToken(drawn, sum, specified, position, { reply: history })
        const plainly = (over: Partial<Sampling> = {}) =>
          plainDraw(drawn, { ...specified, ...over }, position, written)
        expect(id, JSON.stringify({ specified, position })).toBe(plainly())
        for (const name of Object.keys(changed) as (keyof typeof changed)[]) {
          if (plainly({ [name]: undefined }) !== id) changed[name]++
        }
        written.push(id)
      }
    }
    // Each has had its effect many times.
    expect(Math.min(...Object.values(changed))).toBeGreaterThan(10)
  })

  it('has the model’s own log-probability, whatever was done to the logits', () => {
    const history = historyFor({ ...sampling(), minTokens: 1 })
    const changes = { logitBias: [[0, 100]] as const, minTokens: 1, ends: [1], topLogprobs: 1 }
    const { id, logprob, top } = sampleToken(logits, logSum, sampling(changes), 0, { reply: history })
    expect([id, logprob]).toEqual([0, Math.fround(1 - logSum)])
    expect(top).toEqual([{ id: 1, logprob: Math.fround(3 - logSum) }])
  })

  it('is some token even where none may be drawn', () => {
    const changes = { temperature: 1, topP: 0.5, minTokens: 9, ends: [0, 1, 2, 3, 4] }
    const specified = sampling(changes)
    expect(sampleToken(logits, logSum, specified, 0, { reply: historyFor(specified) }).id).toBe(0)
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
    const penalties = { repetition: 1.1, frequency: 0, presence: 0, window: 64 }
    const reply = { promptTokens: 3, knownTokens: 2, lastIds: [5, 6] }
    const all = {
      topK: 1,
      minP: 1,
      penalties,
      logitBias: [[5, -100]],
      minTokens: 1,
      ends: [2],
      reply
    } as const
    expect(samplingProblem(sampling(all))).toBeUndefined()
    for (const [wrong, what] of [
      [{ topK: 0 }, 'topK 0'],
      [{ minP: -1 }, 'minP -1'],
      [{ minTokens: 0.5 }, 'minTokens 0.5'],
      [{ logitBias: [[-1, 0]] }, 'logitBias 0 of token -1'],
      [{ logitBias: [[1, Number.NaN]] }, 'logitBias NaN'],
      [{ logitBias: Array.from({ length: 513 }, () => [1, 1]) }, 'more than 512'],
      [{ ends: [0.5] }, 'ends'],
      [{ penalties: { ...penalties, repetition: 0 } }, 'repetition penalty 0'],
      [{ penalties: { ...penalties, presence: Number.NaN } }, 'penalty NaN'],
      [{ penalties: { ...penalties, window: 4097 } }, 'window 4097'],
      [{ reply: { ...reply, knownTokens: 1 } }, 'makes no sense'],
      [{ reply: { ...reply, promptTokens: -1 } }, 'makes no sense']
    ] as const) {
      expect(samplingProblem(sampling(wrong as Partial<Sampling>))).toContain(what)
    }
  })
})

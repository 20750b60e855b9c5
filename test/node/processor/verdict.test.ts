import { expect, test } from 'vitest'
import {
  type Findings,
  judge,
  LEAST_GAIN,
  LEAST_GPU_BYTES,
  MOST_DIFFERENCE,
  worstRatio
} from '../../../node/processor/verdict.ts'

const LAYERS = 22
/** Times of a GPU that is so many times faster for tokens and for prompts. */
const timesOf = (decode: number, prefill: number): Findings['times'] => [
  { kind: 'decoder', work: 'decode', cpuMs: 1, gpuMs: 1 / decode },
  { kind: 'decoder', work: 'prefill', cpuMs: 10, gpuMs: 10 / prefill },
  { kind: 'head', work: 'decode', cpuMs: 2, gpuMs: 2 / decode }
]

test('takes the GPU where it is faster by enough for tokens and for prompts, and says by how much', () => {
  const { use, reason } = judge({ times: timesOf(3, 10), difference: 0.01 }, LAYERS)
  expect(use).toBe('gpu')
  expect(reason).toBe('the GPU is 3.0 times faster for tokens and 10.0 times faster for prompts')
  expect(judge({ times: timesOf(LEAST_GAIN + 0.01, LEAST_GAIN + 0.01) }, LAYERS).use).toBe('gpu')
})

test('keeps the CPU where the GPU is faster for one kind of work only, or by too little', () => {
  for (const [decode, prefill] of [
    [1.1, 10],
    [10, 1.1],
    [0.5, 10],
    [1, 1]
  ] as const) {
    expect(judge({ times: timesOf(decode, prefill) }, LAYERS).use).toBe('cpu')
  }
})

test('keeps the CPU where a software adapter was given up after its first step', () => {
  const times = [{ kind: 'decoder', work: 'decode', cpuMs: 0.5, gpuMs: 600 }]
  expect(judge({ times }, LAYERS)).toEqual({
    use: 'cpu',
    reason: 'the GPU is 1200.0 times slower for tokens, and has to be 1.2 times faster for both'
  })
  expect(worstRatio(times)).toBeCloseTo(1 / 1200)
})

test('counts a layer as often as the model has it: a slow head weighs little beside many layers', () => {
  const times = [
    { kind: 'decoder', work: 'decode', cpuMs: 2, gpuMs: 1 },
    { kind: 'decoder', work: 'prefill', cpuMs: 2, gpuMs: 1 },
    { kind: 'head', work: 'decode', cpuMs: 1, gpuMs: 4 }
  ]
  expect(judge({ times }, 22).use).toBe('gpu')
  expect(judge({ times }, 1).use).toBe('cpu')
})

test('takes nothing that computes something else, however fast', () => {
  const times = timesOf(10, 10)
  expect(judge({ times, difference: MOST_DIFFERENCE }, LAYERS).use).toBe('gpu')
  expect(judge({ times, difference: 2 * MOST_DIFFERENCE }, LAYERS)).toMatchObject({
    use: 'cpu',
    reason: expect.stringContaining('differ by 12.0 %')
  })
  for (const difference of [Number.POSITIVE_INFINITY, Number.NaN]) {
    expect(judge({ times, difference }, LAYERS).use).toBe('cpu')
  }
})

test('says why a GPU could not be tried', () => {
  expect(judge({ times: [], failure: 'its process ended (SIGSEGV)' }, LAYERS)).toEqual({
    use: 'cpu',
    reason: 'the GPU could not be tried: its process ended (SIGSEGV)'
  })
})

test('keeps the CPU where a GPU, however fast, has no memory to give', () => {
  const findings = { times: timesOf(10, 10), difference: 0 }
  expect(judge({ ...findings, allocatableBytes: LEAST_GPU_BYTES }, LAYERS).use).toBe('gpu')
  expect(judge({ ...findings, allocatableBytes: 0 }, LAYERS)).toMatchObject({
    use: 'cpu',
    reason: expect.stringContaining('gives only')
  })
})

import { expect, test } from 'vitest'
import { gpuStageBytes, memoriesOf } from '../../../node/processor/memories.ts'

test('both processors together have what was given for stages', () => {
  expect(memoriesOf(100, 60)).toEqual({ budgetBytes: 60, besideBytes: 40 })
})

test('without a GPU, or one that nobody knows the memory of, or that may have all, there is one memory', () => {
  for (const gpuBytes of [undefined, 100, 200])
    expect(memoriesOf(100, gpuBytes)).toEqual({ budgetBytes: 100 })
})

test('a GPU keeps a fifth of what it gives for what a run has alive', () => {
  expect(gpuStageBytes(1001)).toBe(800)
})

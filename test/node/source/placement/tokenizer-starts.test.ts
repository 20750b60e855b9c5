import { expect, test } from 'vitest'
import { TokenizerStarts } from '../../../../node/source/placement/tokenizer-starts.ts'

function startsWith(processors: number) {
  const clock = { nowMs: 0 }
  return {
    clock,
    starts: new TokenizerStarts(
      () => processors,
      () => clock.nowMs
    )
  }
}

test('a load takes longer beside a tokenizer that starts, where there is no processor for each', () => {
  const { starts, clock } = startsWith(0.5)
  expect(starts.besideMs('m', 200)).toBe(200)
  starts.begin('m', 0)
  // 100 and 120 ms of a processor.
  expect(starts.besideMs('m', 200)).toBe(440)
  expect(starts.besideMs('other', 200)).toBe(200)
  // A quarter of a processor was the start's.
  clock.nowMs = 200
  expect(starts.besideMs('m', 200)).toBe(340)
  clock.nowMs = 10_000
  expect(starts.besideMs('m', 200)).toBe(200)
})

test('two processors take both at once', () => {
  const { starts } = startsWith(2)
  starts.begin('m', 0)
  expect(starts.besideMs('m', 200)).toBe(200)
  expect(starts.besideMs('m', 20)).toBe(70)
})

test('a start says how long the next one takes, one that failed nothing', () => {
  const { starts } = startsWith(1)
  starts.begin('m', 0)
  starts.end('m', 250)
  expect(starts.besideMs('m', 200)).toBe(200)
  starts.begin('n', 0)
  starts.end('n', undefined)
  starts.begin('o', 0)
  expect(starts.besideMs('o', 200)).toBe(450)
})

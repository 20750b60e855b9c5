import { expect, test } from 'vitest'
import { OwnLoads } from '../../../../node/source/placement/own-loads.ts'

function loadsWith(processors: number, { isFirst = false } = {}) {
  const clock = { nowMs: 0 }
  const loads = new OwnLoads(
    () => processors,
    () => clock.nowMs
  )
  if (!isFirst) loads.placed()
  return { clock, loads }
}

test('a load takes longer beside a tokenizer that starts, where there is no processor for each', () => {
  const { loads, clock } = loadsWith(0.5)
  expect(loads.msOf('m', 200)).toBe(200)
  loads.tokenizerBegins('m', 0)
  // 100 and 150 ms of a processor.
  expect(loads.msOf('m', 200)).toBe(500)
  expect(loads.msOf('other', 200)).toBe(200)
  // A quarter of a processor was the tokenizer's.
  clock.nowMs = 200
  expect(loads.msOf('m', 200)).toBe(400)
  clock.nowMs = 10_000
  expect(loads.msOf('m', 200)).toBe(200)
})

test('two processors take both at once', () => {
  const { loads } = loadsWith(2)
  loads.tokenizerBegins('m', 0)
  expect(loads.msOf('m', 200)).toBe(200)
  expect(loads.msOf('m', 20)).toBe(85)
})

test('a start says how long the next one takes, one that failed nothing', () => {
  const { loads } = loadsWith(1)
  loads.tokenizerBegins('m', 0)
  loads.tokenizerEnds('m', 250)
  expect(loads.msOf('m', 200)).toBe(200)
  loads.tokenizerBegins('n', 0)
  loads.tokenizerEnds('n', undefined)
  loads.tokenizerBegins('o', 0)
  expect(loads.msOf('o', 200)).toBe(450)
})

test("a process's first load takes longer, by what a processor or the part of one takes", () => {
  expect(loadsWith(2, { isFirst: true }).loads.msOf('m', 200)).toBe(320)
  const { loads } = loadsWith(0.5, { isFirst: true })
  expect(loads.msOf('m', 200)).toBe(440)
  loads.placed()
  expect(loads.msOf('m', 200)).toBe(200)
})

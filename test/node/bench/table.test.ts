import { expect, test } from 'vitest'
import { renderBench } from '../../../node/bench/table.ts'
import type { MeasuredRow } from '../../../node/bench/types.ts'
import { measuredRow, refusedRow, report } from './rows.ts'

test('a row says what ran, how fast, and how well it was foretold', () => {
  const text = renderBench(report([measuredRow()]))
  expect(text).toContain('tiny: 32 tokens in, 96 out, median of 3')
  expect(text).toMatch(/edgeshard .* 20\.0 ms \(20\) .* 18\.0 ms .* 0\.90 .* 25 50 /)
})

test('names of other devices are no orders to the terminal', () => {
  expect(renderBench(report([measuredRow()]))).not.toContain('\u001b[2J')
})

test('what does not fit says why, once a method', () => {
  const batch = { ...refusedRow, objective: 'throughput', strategy: 'bubble' } as const
  const text = renderBench(report([refusedRow, { ...batch, batch: 4 }, { ...batch, batch: 8 }]))
  expect(text.split('\n').filter(line => line.startsWith('edge-solo'))).toEqual([
    'edge-solo, latency: infeasible: out of memory: desk needs 7 MiB',
    'edge-solo, throughput of 4 bubble: infeasible: out of memory: desk needs 7 MiB'
  ])
})

test('what a rate rests on is said where it is little, or something else than usual', () => {
  const of = (counted: MeasuredRow['counted'], batch: number) =>
    measuredRow({ objective: 'throughput', strategy: 'bubble', batch, counted })
  const text = renderBench(
    report([
      of({ tokens: 190, least: 90, ms: 1900, together: true }, 2),
      of({ tokens: 6, least: 3, ms: 40, together: true }, 3),
      of({ tokens: 380, least: 95, ms: 900, together: false }, 4)
    ])
  )
  expect(text.split('\n').filter(line => line.startsWith('tokens/s'))).toEqual([
    'tokens/s from the first token of all to the last, since the sequences decoded fewer than 8 tokens together: edgeshard bubble 4',
    'tokens/s of fewer than 8 tokens a sequence: edgeshard bubble 3',
    'tokens/s of less than 100.0 ms in 1 of 3 rows, 40.0 ms in the shortest: their spread says how good they are; --new-tokens makes them longer'
  ])
})

test('throughput names batch, micro-batches and strategy', () => {
  const row = measuredRow({
    objective: 'throughput',
    strategy: 'bubble',
    batch: 8,
    microBatches: 4,
    largest: true
  })
  expect(renderBench(report([row]))).toMatch(/bubble .* 8 \(max\) in 4 .* 50\.0 \(20\) .* 45\.0 /)
})

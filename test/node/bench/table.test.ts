import { expect, test } from 'vitest'
import { renderBench } from '../../../node/bench/table.ts'
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

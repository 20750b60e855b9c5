import { expect, test } from 'vitest'
import { plotsOf } from '../../../node/bench/plots.ts'
import { barChart, lineChart } from '../../../node/bench/svg.ts'
import { measuredRow, refusedRow, report } from './rows.ts'

/** Every element is closed and every text escaped. */
function wellFormed(svg: string): boolean {
  const open: string[] = []
  for (const [, closing, name, , alone] of svg.matchAll(/<(\/?)([a-z]+)([^<>]*?)(\/?)>/g)) {
    if (closing === '/') {
      if (open.pop() !== name) return false
    } else if (alone !== '/') open.push(name!)
  }
  return open.length === 0
}

test('bars stand on the base line, as high as their values', () => {
  const svg = barChart({
    title: 'a < b',
    unit: 'ms',
    groups: ['x', 'y'],
    series: [{ name: 'one', values: [50, 100] }]
  })
  const bars = [...svg.matchAll(/y="([\d.]+)" width="[\d.]+" height="([\d.]+)" fill="#2f6f9f"><title>/g)]
  const [low, high] = bars.map(([, y, height]) => ({ y: Number(y), height: Number(height) }))
  expect(high!.height).toBeCloseTo(2 * low!.height)
  expect(high!.y + high!.height).toBeCloseTo(low!.y + low!.height)
  expect(svg).toContain('a &lt; b')
  expect(wellFormed(svg)).toBe(true)
})

test('a missing value is said, not drawn as nothing', () => {
  const svg = barChart({ title: 't', unit: 'ms', groups: ['x'], series: [{ name: 'one', values: [null] }] })
  expect(svg).toContain('>none<')
})

test('lines go through their points and leave out what is missing', () => {
  const svg = lineChart({
    title: 't',
    unit: 'ms',
    over: 'Mbps',
    at: [1, 10, 50],
    series: [{ name: 'one', values: [30, null, 10] }]
  })
  expect(svg.match(/<circle/g)).toHaveLength(2)
  expect(/points="([^"]*)"/.exec(svg)![1]!.split(' ')).toHaveLength(2)
  expect(wellFormed(svg)).toBe(true)
})

test('one run gives the plots that it has figures for', () => {
  const rows = [1, 4, 8].flatMap(batch =>
    (['no-bubble', 'bubble'] as const).map(strategy =>
      measuredRow({
        objective: 'throughput',
        batch,
        strategy: batch === 1 ? null : strategy,
        largest: batch === 8
      })
    )
  )
  expect(Object.keys(plotsOf(report([measuredRow(), refusedRow])))).toEqual(['latency.svg'])
  const plots = plotsOf(report(rows))
  expect(Object.keys(plots)).toEqual(['throughput-by-batch.svg', 'throughput.svg'])
  for (const svg of Object.values(plots)) expect(wellFormed(svg)).toBe(true)
})

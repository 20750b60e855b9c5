import { expect, test } from 'vitest'
import { tableText } from '../../node/table.ts'

const HEAD = ['name', 'state', 'free / budget', 'leases']
const ROWS = [
  [
    'desktop',
    'this device',
    '64.0 MiB / 64.0 MiB',
    'edgeshard-tiny [0, 10) for desktop\nmine [0, 3) for laptop'
  ],
  ['laptop', 'connected', '64.0 MiB / 64.0 MiB', '']
]
const widest = (text: string) => Math.max(...text.split('\n').map(line => line.length))

test('a table that fits, or that no terminal shows, is one', () => {
  const table = tableText(HEAD, ROWS, undefined)
  expect(table).toContain('│ desktop │ this device │')
  expect(tableText(HEAD, ROWS, widest(table))).toBe(table)
})

test.each([80, 40, 16])('in %i columns every line fits and nothing is left out', columns => {
  const text = tableText(HEAD, ROWS, Math.min(columns, widest(tableText(HEAD, ROWS, undefined)) - 1))
  expect(widest(text)).toBeLessThanOrEqual(columns)
  const words = (said: string) => said.replaceAll(/\s+/g, '')
  for (const cell of ROWS.flat())
    for (const line of cell.split('\n')) expect(words(text)).toContain(words(line))
})

test('a block has its name on top and no line for what is empty', () => {
  expect(tableText(HEAD, ROWS.slice(1), 40)).toBe(
    'laptop\n  state: connected\n  free / budget: 64.0 MiB / 64.0 MiB'
  )
})

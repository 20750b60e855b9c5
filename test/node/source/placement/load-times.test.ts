import { expect, test } from 'vitest'
import { LoadTimes } from '../../../../node/source/placement/load-times.ts'

const fail = () => expect.unreachable()

test('loads take what the last ones of that model took of what was expected', () => {
  const loads = new LoadTimes()
  expect(loads.factorOf('m')).toBe(1)
  loads.note('m', 500, 1000)
  expect(loads.factorOf('m')).toBe(2)
  expect(loads.factorOf('n')).toBe(1)
  for (const ms of [1500, 1500, 1500, 1500, 1500]) loads.note('m', 500, ms)
  expect(loads.factorOf('m')).toBe(3)
})

test("a process's first placement says something only where nothing else is known", () => {
  const loads = new LoadTimes({ loadFactorOf: id => (id === 'n' ? 1.5 : undefined), settleLoad: fail })
  for (const id of ['m', 'n']) loads.note(id, 500, 1000, { isFirst: true })
  expect([loads.factorOf('m'), loads.factorOf('n')]).toEqual([2, 1.5])
  const learning = new LoadTimes()
  learning.note('m', 500, 1000, { isFirst: true })
  learning.note('m', 500, 600)
  expect(learning.factorOf('m')).toBe(1.2)
})

test('loads begin where earlier runs settled, and tell what they settle on', () => {
  const told: [string, number][] = []
  const loads = new LoadTimes({
    loadFactorOf: modelId => (modelId === 'm' ? 1.5 : undefined),
    settleLoad: (...load) => void told.push(load)
  })
  expect([loads.factorOf('m'), loads.factorOf('n')]).toEqual([1.5, 1])
  loads.note('m', 500, 1000)
  expect(loads.factorOf('m')).toBe(2)
  expect(told).toEqual([['m', 2]])
})

test('what was loaded already teaches nothing, and no placement more than can be', () => {
  const loads = new LoadTimes()
  loads.note('m', 0, 100)
  loads.note('m', 500, Number.NaN)
  expect(loads.factorOf('m')).toBe(1)
  loads.note('m', 500, 1e9)
  expect(loads.factorOf('m')).toBe(10)
  loads.note('n', 500, 0)
  expect(loads.factorOf('n')).toBe(0.2)
})

import { expect, test } from 'vitest'
import { Line, type Turn } from '../../../../node/source/placement/line.ts'

const signal = new AbortController().signal

/** Takes turns by name; `order` holds those that had one so far. */
function waiting(line: Line): {
  order: string[]
  enter(name: string, options?: { begun?: boolean; signal?: AbortSignal }): Promise<Turn>
} {
  const order: string[] = []
  return {
    order,
    async enter(name, options = {}) {
      const turn = await line.take(options.signal ?? signal, { begun: options.begun ?? false })
      order.push(name)
      return turn
    }
  }
}

test('turns go round in the order of coming, answers that have begun first', async () => {
  const line = new Line()
  const { order, enter } = waiting(line)
  const first = await enter('first')
  const others = [
    enter('new 1'),
    enter('begun 1', { begun: true }),
    enter('new 2'),
    enter('begun 2', { begun: true })
  ]
  expect(line.length).toBe(5)
  first.giveBack()
  await Promise.all(others.map(async other => (await other).giveBack()))
  expect(order).toEqual(['first', 'begun 1', 'begun 2', 'new 1', 'new 2'])
  expect(line.length).toBe(0)
})

test('whoever has a turn and has not begun lets those pass that have, and is next then', async () => {
  const line = new Line()
  const { order, enter } = waiting(line)
  const holder = await enter('new 1')
  const later = enter('new 2')
  await holder.letBegunPass(signal)
  expect(order).toEqual(['new 1'])
  const begun = enter('begun', { begun: true })
  const again = holder.letBegunPass(signal).then(() => order.push('new 1 again'))
  ;(await begun).giveBack()
  await again
  holder.giveBack()
  ;(await later).giveBack()
  expect(order).toEqual(['new 1', 'begun', 'new 1 again', 'new 2'])
})

test('whoever leaves the line holds nobody up, also while he lets others pass', async () => {
  const line = new Line()
  const { order, enter } = waiting(line)
  const holder = await enter('holder')
  const leaving = new AbortController()
  const left = enter('left', { signal: leaving.signal })
  const stays = enter('stays')
  leaving.abort(new Error('gone'))
  await expect(left).rejects.toThrow('gone')
  const begun = enter('begun', { begun: true })
  const passing = new AbortController()
  const again = holder.letBegunPass(passing.signal)
  passing.abort(new Error('gone too'))
  await expect(again).rejects.toThrow('gone too')
  holder.giveBack()
  ;(await begun).giveBack()
  ;(await stays).giveBack()
  expect(order).toEqual(['holder', 'begun', 'stays'])
  expect(line.length).toBe(0)
})

test('a priority is a head start of a fixed time, so that none waits without end', async () => {
  let nowMs = 0
  const line = new Line(() => nowMs)
  const order: string[] = []
  const enter = (name: string, priority: 'low' | 'normal' | 'high') =>
    line.take(signal, { begun: false, priority }).then(turn => {
      order.push(name)
      return turn
    })
  const first = await enter('first', 'low')
  const others: Promise<Turn>[] = []
  const at = (ms: number, name: string, priority: 'low' | 'normal' | 'high') => {
    nowMs = ms
    others.push(enter(name, priority))
  }
  at(0, 'low', 'low')
  at(1, 'normal', 'normal')
  at(20_000, 'high', 'high')
  at(29_000, 'next', 'normal')
  at(31_000, 'behind low', 'normal')
  at(61_000, 'late high', 'high')
  first.giveBack()
  await Promise.all(others.map(async other => (await other).giveBack()))
  expect(order).toEqual(['first', 'high', 'normal', 'next', 'low', 'behind low', 'late high'])
})

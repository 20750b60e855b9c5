import { expect, test } from 'vitest'
import { MicroBatches, type MicroBatchesInit } from '../../../../node/source/pipeline/micro-batches.ts'

const session = (slot: number, over = {}) => ({
  ...{ slot, ready: false, busy: false, prefilling: false, promptTokens: 10, led: false, ...over }
})
const ready = (slot: number) => session(slot, { ready: true })
const stepping = (slot: number) => session(slot, { busy: true })
const prompt = (slot: number, promptTokens = 10) =>
  session(slot, { busy: true, prefilling: true, promptTokens })

const batchesOf = (over: Partial<MicroBatchesInit> = {}) =>
  new MicroBatches<ReturnType<typeof session>>({ slots: 4, microBatches: 2, strategy: 'no-bubble', ...over })
const slotsOf = (started: { slot: number }[][]) => started.map(each => each.map(({ slot }) => slot))

test('sessions of neighbouring slots step together once none of them is under way', () => {
  const batches = batchesOf()
  expect(slotsOf(batches.start([ready(0), ready(1), ready(2)]))).toEqual([[0, 1], [2]])
  expect(slotsOf(batches.start([ready(0), stepping(1), ready(2)]))).toEqual([[2]])
  expect(batches.underWay([stepping(0), stepping(1), ready(2)])).toBe(1)
  expect(batches.underWay([stepping(0), stepping(3)])).toBe(2)
})

test('with bubbles all wait for the last one', () => {
  const batches = batchesOf({ strategy: 'bubble' })
  expect(batches.start([ready(0), stepping(2)])).toEqual([])
  expect(slotsOf(batches.start([ready(0), ready(2)]))).toEqual([[0], [2]])
})

test('a prompt is in no micro-batch yet, and who follows another session is in none', () => {
  const batches = batchesOf()
  expect(slotsOf(batches.start([ready(0), prompt(1)]))).toEqual([[0]])
  const led = { ...ready(0), led: true }
  expect(slotsOf(batches.start([led, ready(1)]))).toEqual([[1]])
  expect(batches.isRunning([prompt(0)])).toBe(false)
  expect(batches.isRunning([led])).toBe(true)
})

test('where prompts go first answers wait for short ones, and for no long one', () => {
  const batches = batchesOf({ promptsFirst: true })
  expect(batches.start([ready(0), prompt(2)])).toEqual([])
  expect(batches.isRunning([ready(0), prompt(2)])).toBe(false)
  expect(slotsOf(batches.start([ready(0), prompt(2, 10_000)]))).toEqual([[0]])
  expect(slotsOf(batchesOf().start([ready(0), prompt(2)]))).toEqual([[0]])
})

test('and for no more of them than there are slots, until the next step', () => {
  const batches = batchesOf({ promptsFirst: true })
  const waiting = [ready(0), prompt(2)]
  for (let i = 0; i < 4; i++) batches.joins(waiting)
  expect(batches.start(waiting)).toEqual([])
  batches.joins([stepping(0), prompt(2)])
  expect(batches.start(waiting)).toEqual([])
  batches.joins(waiting)
  expect(slotsOf(batches.start(waiting))).toEqual([[0]])
  expect(batches.start(waiting)).toEqual([])
})

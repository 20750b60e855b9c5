import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { PromptFeed } from '../../../../node/source/pipeline/prompt-feed.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => void vi.useRealTimers())

test('a feed tells the newest number, and nothing more once it is over', async () => {
  const feed = new PromptFeed(100)
  const numbers = feed[Symbol.asyncIterator]()
  const first = numbers.next()
  feed.moved(101)
  feed.moved(355)
  feed.moved(356)
  expect(await first).toEqual({ done: false, value: 356 })
  feed.moved(700)
  feed.moved(1000)
  expect(await numbers.next()).toEqual({ done: false, value: 1000 })
  const last = numbers.next()
  feed.end()
  expect(await last).toEqual({ done: true, value: undefined })
})

test('a slow prompt is told of sooner, and a number never goes down', async () => {
  const feed = new PromptFeed(0)
  const numbers = feed[Symbol.asyncIterator]()
  const first = numbers.next()
  vi.advanceTimersByTime(1000)
  feed.moved(32)
  expect(await first).toEqual({ done: false, value: 32 })
  const second = numbers.next()
  feed.moved(20)
  vi.advanceTimersByTime(1000)
  feed.moved(64)
  expect(await second).toEqual({ done: false, value: 64 })
})

test('a session that has ended tells nobody anything', async () => {
  const feed = new PromptFeed(0)
  feed.moved(512)
  feed.end()
  for await (const tokens of feed) throw new Error(`${tokens}`)
})

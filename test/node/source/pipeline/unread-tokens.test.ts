import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { UnreadTokens } from '../../../../node/source/pipeline/unread-tokens.ts'
import { token } from './pipeline-fixture.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function unreadTokens() {
  const told: string[] = []
  const unread = new UnreadTokens({
    onRoom: () => void told.push('room'),
    onStalled: ({ message }) => void told.push(message)
  })
  return { unread, told }
}

function fill(unread: UnreadTokens): void {
  for (let id = 0; !unread.isFull; id++) unread.add(token(id))
}

test('tokens are read in the order in which they were drawn, by who waits too', async () => {
  const { unread } = unreadTokens()
  const first = unread.next()
  for (const id of [1, 2, 3]) unread.add(token(id))
  expect((await first).id).toBe(1)
  expect([unread.take()?.id, unread.take()?.id, unread.take()]).toEqual([2, 3, undefined])
})

test('room is told of once there is some again, and who reads in time has not stalled', async () => {
  const { unread, told } = unreadTokens()
  fill(unread)
  await vi.advanceTimersByTimeAsync(59_000)
  unread.take()
  unread.take()
  expect([unread.isFull, told]).toEqual([false, ['room']])
  await vi.advanceTimersByTimeAsync(60_000)
  expect(told).toEqual(['room'])
  fill(unread)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(told).toEqual(['room', 'nobody has read the answer for 60 s'])
})

test('what was there before the end is read first, and who waits is told why nothing comes', async () => {
  const { unread, told } = unreadTokens()
  const waits = expect(unread.next()).rejects.toThrow('lost')
  unread.end(new Error('lost'))
  await waits
  await expect(unread.next()).rejects.toThrow('lost')
  const ended = unreadTokens()
  fill(ended.unread)
  ended.unread.end(new Error('lost'))
  expect(ended.unread.take()?.id).toBe(0)
  await vi.advanceTimersByTimeAsync(120_000)
  expect([told, ended.told]).toEqual([[], ['room']])
})

test('who is sent on may come back', async () => {
  const { unread } = unreadTokens()
  const sent = expect(unread.next()).rejects.toThrow('elsewhere')
  unread.sendOn(new Error('elsewhere'))
  await sent
  const back = unread.next()
  unread.add(token(5))
  expect((await back).id).toBe(5)
})

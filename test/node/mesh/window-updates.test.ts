import type { Stream } from '@libp2p/interface'
import { expect, test } from 'vitest'
import { updateWindowSeldom } from '../../../node/mesh/window-updates.ts'

const WINDOW = 256 * 1024
const ESTABLISHED = 3

/** A stream with what yamux's has: `receive` takes bytes out of the window and then offers an update. */
function stream(state: number, window = WINDOW) {
  const updates: number[] = []
  const fake = {
    state,
    recvWindow: window,
    recvWindowCapacity: window,
    sendWindowUpdate() {
      updates.push(fake.recvWindow - fake.recvWindowCapacity)
      fake.recvWindowCapacity = fake.recvWindow
    },
    receive(bytes: number) {
      fake.recvWindowCapacity -= bytes
      fake.sendWindowUpdate()
    }
  }
  updateWindowSeldom(fake as unknown as Stream)
  return { fake, updates }
}

test('an update goes out when half of the window is used up, for all of it', () => {
  const { fake, updates } = stream(ESTABLISHED)
  for (let i = 0; i < 7; i++) fake.receive(16 * 1024)
  expect(updates).toEqual([])
  fake.receive(16 * 1024)
  expect(updates).toEqual([WINDOW / 2])
  for (let i = 0; i < 16; i++) fake.receive(16 * 1024)
  expect(updates).toEqual([WINDOW / 2, WINDOW / 2, WINDOW / 2])
})

test('of a large window an update does not wait for half', () => {
  const { fake, updates } = stream(ESTABLISHED, 8 * WINDOW)
  for (let i = 0; i < 32; i++) fake.receive(16 * 1024)
  expect(updates).toEqual([WINDOW, WINDOW])
})

test('those that open or resume a stream are not held back', () => {
  const opening = stream(ESTABLISHED - 1)
  opening.fake.receive(0)
  expect(opening.updates).toEqual([0])
  const resumed = stream(ESTABLISHED)
  resumed.fake.recvWindowCapacity = 0
  resumed.fake.sendWindowUpdate()
  expect(resumed.updates).toEqual([WINDOW])
})

test('a stream that has no such method is left alone', () => {
  const bare = {} as Stream
  updateWindowSeldom(bare)
  expect(Object.keys(bare)).toEqual([])
})

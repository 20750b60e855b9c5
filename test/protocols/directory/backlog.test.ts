import type { Stream } from '@libp2p/interface'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { SEND_STALL_TIMEOUT_MS } from '../../../protocols/constants.ts'
import { RECORD_PAUSE_MS } from '../../../protocols/directory/constants.ts'
import { createDirectoryService } from '../../../protocols/directory/index.ts'
import type { StreamHandler, Transport } from '../../../protocols/transport.ts'
import { PROTOCOLS } from '../../../protocols/versions.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { record } from '../../node/mesh/fixtures.ts'
import { FeedStream } from '../feed-stream.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A peer's stream that takes bytes only while the test lets it. */
class SlowStream extends FeedStream {
  writeStatus = 'writable'
  writableNeedsDrain = true
  readonly sent: { type: string; record?: { sequence: number } }[] = []

  send(bytes: Uint8Array): boolean {
    this.sent.push(JSON.parse(Buffer.from(bytes.subarray(4)).toString()))
    return !this.writableNeedsDrain
  }

  take(): void {
    this.writableNeedsDrain = false
    this.dispatchEvent(new Event('drain'))
  }

  get records(): number[] {
    return this.sent.flatMap(({ record }) => record?.sequence ?? [])
  }
}

async function service() {
  let onStream: StreamHandler = () => {}
  const own = { ...record('z'), peerId: peerIdOf('z'), sequence: 1, leases: [], links: {} }
  const transport: Transport = {
    peerId: own.peerId,
    protocols: PROTOCOLS,
    handle: async (_, handler) => {
      onStream = handler
      return async () => {}
    },
    newStream: () => Promise.reject(new Error('not used here')),
    touch() {},
    sinceSentMs: () => Number.POSITIVE_INFINITY
  }
  const directory = await createDirectoryService(transport, {
    own: () => ({ ...own }),
    contacts: () => [],
    onContacts() {},
    onRecord() {},
    onRtt() {},
    onError() {}
  })
  const stream = new SlowStream()
  directory.connected(peerIdOf('a'))
  onStream(stream as unknown as Stream, peerIdOf('a'))
  const change = async () => {
    own.sequence++
    directory.announce()
    await vi.advanceTimersByTimeAsync(RECORD_PAUSE_MS)
  }
  return { directory, stream, change }
}

test('for a peer that takes nothing one record waits, and when it does the last one follows', async () => {
  const { directory, stream, change } = await service()
  for (let i = 0; i < 100; i++) await change()
  expect(stream.records).toEqual([1])
  stream.take()
  await vi.advanceTimersByTimeAsync(1)
  expect(stream.records).toEqual([1, 101])
  await change()
  expect(stream.records).toEqual([1, 101, 102])
  await directory.stop()
})

test('neither do heartbeats pile up, and in the end the stream is given up', async () => {
  const { directory, stream } = await service()
  for (let ms = 0; ms < SEND_STALL_TIMEOUT_MS; ms += 100) {
    directory.ping(peerIdOf('a'))
    await vi.advanceTimersByTimeAsync(100)
  }
  await vi.advanceTimersByTimeAsync(1000)
  expect(stream.error).toMatchObject({ name: 'DeadlineError' })
  expect(stream.sent.length).toBeLessThanOrEqual(2)
  await directory.stop()
})

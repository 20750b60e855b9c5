import { randomBytes } from 'node:crypto'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { afterEach, expect, test } from 'vitest'
import { DIRECTORY_PROTOCOL } from '../../protocols/directory/constants.ts'
import { LEASE_PROTOCOL, MAX_LOAD_PROGRESS } from '../../protocols/lease/constants.ts'
import type { LoadProgress } from '../../protocols/lease/messages.ts'
import { LINKS_PROTOCOL } from '../../protocols/links/constants.ts'
import { MEMBERSHIP_PROTOCOL } from '../../protocols/membership/constants.ts'
import { STAGE_PROTOCOL } from '../../protocols/stage/constants.ts'
import { WEIGHTS_PROTOCOL } from '../../protocols/weights/constants.ts'
import { Meshes, record, until } from '../node/mesh/fixtures.ts'
import { message, rawMember } from '../node/mesh/raw-member.ts'

const PROTOCOLS = [
  DIRECTORY_PROTOCOL,
  LEASE_PROTOCOL,
  LINKS_PROTOCOL,
  MEMBERSHIP_PROTOCOL,
  STAGE_PROTOCOL,
  WEIGHTS_PROTOCOL
]
const meshes = new Meshes()
afterEach(() => meshes.stop())

test('rubbish on every protocol costs its sender the stream, and nobody else anything', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  await using hostile = await rawMember(a!)
  const ended = new Set<Stream>()
  for (let round = 0; round < 10; round++) {
    for (const protocol of PROTOCOLS) {
      const stream = await hostile.newStream(a!.peerId, [protocol]).catch(() => null)
      if (stream === null) continue
      // A measurement that is refused as busy is ended by one side only.
      for (const type of ['close', 'remoteCloseWrite'] as const) {
        stream.addEventListener(type, () => void ended.add(stream))
      }
      stream.send(Buffer.concat([Buffer.from([255, 255, 255, 255]), randomBytes(20 + 997 * round)]))
    }
  }
  // The other side ends them all. No more is counted on: nothing is heard of the end of one beyond its limits, and no
  // directory stream is taken after the first.
  await until(() => ended.size >= 30)
  expect(a!.peers.map(({ record }) => record.name)).toEqual(['b'])
  b!.update({ memory: { budgetBytes: 1000, freeBytes: 5 } })
  await until(() => a!.peers[0]?.record.memory.freeBytes === 5)
})

test('a record about somebody else is not believed', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  const notices: string[] = []
  a!.events.on('notice', text => notices.push(text))
  await using hostile = await rawMember(a!)
  const stream = await hostile.newStream(a!.peerId, [DIRECTORY_PROTOCOL])
  const closed = new Promise(resolve => stream.addEventListener('close', resolve))
  const lie = { ...record('liar'), peerId: b!.peerId, sequence: Number.MAX_SAFE_INTEGER, links: {} }
  stream.send(message({ type: 'record', record: lie }))
  await closed
  expect(a!.peers.map(({ record }) => record.name)).toEqual(['b'])
  expect(notices.join()).toContain(`sent a record of ${b!.peerId}`)
})

test('a flood of heartbeats ends the control stream', async () => {
  const a = await meshes.add('a')
  await using hostile = await rawMember(a)
  const stream = await hostile.newStream(a.peerId, [DIRECTORY_PROTOCOL])
  const closed = new Promise(resolve => stream.addEventListener('close', resolve))
  const flood = Buffer.concat(Array.from({ length: 500 }, () => message({ type: 'ping', at: 1 })))
  stream.send(flood)
  await closed
})

test('requests on a lease that was granted to somebody else are refused', async () => {
  const asked: string[] = []
  const leases = {
    reserve: () => ({ type: 'granted' as const, leaseId: 'abc', expiresInMs: 1000 }),
    stand: () => ({ type: 'first' as const }),
    load: async () => void asked.push('load'),
    relink: () => void asked.push('relink'),
    open: async () => {
      asked.push('open')
      return {}
    },
    close: () => {},
    renew: () => ({ expiresInMs: 1 }),
    release: () => void asked.push('release')
  }
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'], [{ leases }])
  const own = await b!.lease(a!.peerId)
  await own.reserve({ modelId: '0'.repeat(64), range: [0, 1], maxTokens: 1, sessions: 1 })
  const other = await c!.lease(a!.peerId)
  const load = other.load(
    { leaseId: 'abc', holders: [], previous: a!.peerId, next: a!.peerId },
    { timeoutMs: 1000 }
  )
  await expect(load).rejects.toMatchObject({ code: 'unknown-lease' })
  const neighbours = { leaseId: 'abc', previous: c!.peerId, next: c!.peerId }
  await expect(other.relink(neighbours)).rejects.toMatchObject({ code: 'unknown-lease' })
  await expect(other.release('abc')).rejects.toMatchObject({ code: 'unknown-lease' })
  other.end()
  await own.renew('abc')
  expect(asked).toEqual([])
})

test('ten times more streams than allowed are refused, and the node still answers', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  await using hostile = await rawMember(a!)
  const opened = await Promise.allSettled(
    Array.from({ length: 640 }, () =>
      hostile.newStream(a!.peerId, [LEASE_PROTOCOL], { maxOutboundStreams: 1000 })
    )
  )
  expect(opened.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0)
  const lease = await b!.lease(a!.peerId)
  const reply = await lease.reserve({ modelId: '0'.repeat(64), range: [0, 1], maxTokens: 1, sessions: 1 })
  expect(reply).toMatchObject({ type: 'refused', code: 'memory' })
})

test('a peer has three connections at most, even one whose part it is to close the second', async () => {
  const target = await meshes.add('a')
  let key = await generateKeyPair('Ed25519')
  while (peerIdFromPrivateKey(key).toString() > target.peerId) key = await generateKeyPair('Ed25519')
  // Hosts of one identity do not know of each other, so none closes anything.
  await using first = await rawMember(target, { key })
  await using second = await rawMember(target, { key })
  await using third = await rawMember(target, { key })
  await using fourth = await rawMember(target, { key })
  await until(() => first.connected.length === 0)
  expect([second, third, fourth].map(({ connected }) => connected)).toEqual(Array(3).fill([target.peerId]))
})

test('progress that does not end ends at the deadline, and hardly any of it is taken note of', async () => {
  const leases = {
    reserve: () => ({ type: 'granted' as const, leaseId: 'abc', expiresInMs: 1000 }),
    stand: () => ({ type: 'first' as const }),
    load: async (
      _peerId: string,
      _request: unknown,
      { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: LoadProgress) => void }
    ) => {
      for (let done = 0; done < 2 * MAX_LOAD_PROGRESS; done++) {
        onProgress({ phase: 'weights', done, total: 1 })
        onProgress({ phase: 'weights', done, total: 1 })
      }
      while (!signal.aborted) {
        onProgress({ phase: 'load', done: 0, total: 1 })
        await new Promise(resolve => setTimeout(resolve, 20))
      }
    },
    relink: () => {},
    open: async () => ({}),
    close: () => {},
    renew: () => ({ expiresInMs: 1 }),
    release: () => {}
  }
  const [a, b] = await meshes.connected(['a', 'b'], [{ leases }])
  let progress: LoadProgress[] = []
  // On a busy machine less than what is taken note of comes before a short deadline.
  for (let timeoutMs = 1500; progress.length < MAX_LOAD_PROGRESS; timeoutMs *= 2) {
    progress = []
    const lease = await b!.lease(a!.peerId)
    await lease.reserve({ modelId: '0'.repeat(64), range: [0, 1], maxTokens: 1, sessions: 1 })
    const load = lease.load(
      { leaseId: 'abc', holders: [], previous: a!.peerId, next: a!.peerId },
      { timeoutMs, onProgress: event => progress.push(event) }
    )
    await expect(load).rejects.toMatchObject({ name: 'DeadlineError' })
    lease.end()
  }
  expect(progress.map(({ done }) => done)).toEqual(Array.from({ length: MAX_LOAD_PROGRESS }, (_, i) => i))
})

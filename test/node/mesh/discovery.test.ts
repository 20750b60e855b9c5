import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type DialFailure, type Dialler, Discovery } from '../../../node/mesh/discovery.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const [A, M, Z] = ['a', 'm', 'z'].map(peerIdOf) as [string, string, string]

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A host that notes which peers are dialled and answers as the test wants. */
function fakeHost(
  peerId: string,
  answer: (peerId?: string) => Promise<string> = async id => id ?? 'unknown'
) {
  const dials: string[] = []
  const connected = new Set<string>()
  /** Connected peers that have proven no admission. */
  const strangers = new Set<string>()
  const host: Dialler = {
    peerId,
    isConnected: id => connected.has(id),
    hasMet: id => connected.has(id) && !strangers.has(id),
    async dial(addresses, id) {
      dials.push(`${id ?? 'whoever'} at ${addresses.join(' ')}`)
      const found = await answer(id)
      connected.add(found)
      return found
    }
  }
  return { host, dials, connected, strangers }
}

const init = { peers: [], remembered: new Map<string, string[]>() }
const refused = () =>
  Promise.reject(
    Object.assign(new Error('stage 1 validation fail: Invalid chacha20poly1305 decryption'), {
      name: 'EncryptionFailedError'
    })
  )
const unreachable = () => Promise.reject(new Error('ECONNREFUSED'))

test('of a pair the smaller id dials at once, the larger one only where nothing came of it', async () => {
  const small = fakeHost(A)
  const large = fakeHost(Z)
  new Discovery({ ...init, host: small.host }).heard(M, ['/ip4/10.0.0.2/tcp/1'])
  new Discovery({ ...init, host: large.host }).heard(M, ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(1)
  expect([small.dials.length, large.dials.length]).toEqual([1, 0])
  await vi.advanceTimersByTimeAsync(1500)
  expect(large.dials).toEqual([`${M} at /ip4/10.0.0.2/tcp/1`])
})

test('a peer that connected meanwhile is not dialled', async () => {
  const { host, dials, connected } = fakeHost(Z)
  new Discovery({ ...init, host }).heard(M, ['/ip4/10.0.0.2/tcp/1'])
  connected.add(M)
  await vi.advanceTimersByTimeAsync(5000)
  expect(dials).toEqual([])
})

test('who refuses the handshake is left alone for a minute, whatever is announced', async () => {
  const { host, dials } = fakeHost(A, refused)
  const discovery = new Discovery({ ...init, host })
  for (let i = 0; i < 50; i++) {
    discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
    await vi.advanceTimersByTimeAsync(1000)
  }
  expect(dials.length).toBe(1)
  await vi.advanceTimersByTimeAsync(12_000)
  expect(dials.length).toBe(2)
  discovery.stop()
})

test('who refused the old secret is asked again as soon as there is a new one', async () => {
  const { host, dials } = fakeHost(A, refused)
  const discovery = new Discovery({ ...init, host })
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(5000)
  discovery.forgetRefusals()
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.length).toBe(2)
  discovery.stop()
})

test('a lost peer is redialled with growing pauses, and at once when it is heard of again', async () => {
  const { host, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host, remembered: new Map([[M, ['/ip4/10.0.0.2/tcp/1']]]) })
  discovery.start()
  await vi.advanceTimersByTimeAsync(60_000)
  expect(dials.length).toBeGreaterThan(4)
  expect(dials.length).toBeLessThan(10)
  discovery.stop()
  await vi.advanceTimersByTimeAsync(120_000)
  const after = dials.length
  await vi.advanceTimersByTimeAsync(120_000)
  expect(dials.length).toBe(after)
})

test('a returning peer is dialled when it announces itself, not when its pause is over', async () => {
  const { host, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host })
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(40_000)
  const before = dials.length
  discovery.heard(M, ['/ip4/10.0.0.9/tcp/1'])
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.slice(before)).toEqual([`${M} at /ip4/10.0.0.9/tcp/1`, `${M} at /ip4/10.0.0.2/tcp/1`])
  discovery.stop()
})

test('an address without a peer id is dialled until somebody answers', async () => {
  let up = false
  const { host, dials } = fakeHost(A, () => (up ? Promise.resolve(M) : unreachable()))
  const peers = [{ address: '/ip4/10.0.0.2/tcp/1', peerId: undefined }]
  const discovery = new Discovery({ ...init, host, peers })
  discovery.start()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(dials.length).toBe(4)
  up = true
  await vi.advanceTimersByTimeAsync(10_000)
  expect(dials.length).toBe(5)
  expect(discovery.addressesOf(M)).toEqual(['/ip4/10.0.0.2/tcp/1'])
  discovery.stop()
})

test('banned peers and the node itself are not dialled', async () => {
  const { host, dials } = fakeHost(A)
  const discovery = new Discovery({ ...init, host, banned: id => id === M })
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  discovery.heard(A, ['/ip4/10.0.0.1/tcp/1'])
  await vi.advanceTimersByTimeAsync(5000)
  expect(dials).toEqual([])
})

test('what a member says of others hurries nothing and replaces no address', async () => {
  const { host, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host })
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(10_000)
  const before = dials.length
  for (let i = 0; i < 100; i++) discovery.hinted(M, [`/ip4/10.6.6.${i}/tcp/1`], Z)
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.length).toBe(before)
  await vi.advanceTimersByTimeAsync(30_000)
  const next = dials.slice(before, before + 9)
  expect(next).toContain(`${M} at /ip4/10.0.0.2/tcp/1`)
  expect(next.filter(dial => dial.includes('/ip4/10.6.6.')).length).toBe(8)
  discovery.stop()
})

test('what is no peer id or no address of a node is dropped, and the rest is dialled', async () => {
  const { host, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host })
  for (const id of ['x', '', 'A'.repeat(44), `${M}/`]) discovery.heard(id, ['/ip4/10.0.0.2/tcp/1'])
  const odd = ['/', '', `/p2p/${M}`, '/ip4/10.0.0.2/udp/1', '/ip4/10.0.0.2/tcp/1/ws', '/dns4/x/tcp/1']
  discovery.heard(M, odd)
  discovery.heard(M, [...odd, '/ip4/10.0.0.2/tcp/99999', '/ip4/10.0.0.2/tcp/1', '/ip6/fd00::1/tcp/2'])
  discovery.hinted(M, odd, Z)
  await vi.advanceTimersByTimeAsync(100)
  expect(dials).toEqual([`${M} at /ip4/10.0.0.2/tcp/1`, `${M} at /ip6/fd00::1/tcp/2`])
  expect(discovery.contacts.size).toBe(0)
  discovery.stop()
})

test('a thousand inventions keep no newcomer out, push no member out and are not remembered', async () => {
  const { host, dials, connected } = fakeHost(A, id => (id === Z ? Promise.resolve(Z) : unreachable()))
  const discovery = new Discovery({ ...init, host })
  connected.add(M)
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  connected.delete(M)
  for (let i = 0; i < 1000; i++) discovery.heard(peerIdOf(`x${i}`), ['/ip4/10.6.6.6/tcp/1'])
  discovery.heard(Z, ['/ip4/10.0.0.3/tcp/1'])
  await vi.advanceTimersByTimeAsync(100)
  expect(dials).toContain(`${Z} at /ip4/10.0.0.3/tcp/1`)
  discovery.connected(Z, ['/ip4/10.0.0.3/tcp/1'])
  expect([...discovery.contacts.keys()]).toEqual([M, Z])
  discovery.stop()
})

test("a peer that has the secret and proved no admission is no contact to remember, and takes no member's place", async () => {
  const { host, connected, strangers, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host })
  discovery.connected(Z, ['/ip4/10.0.0.3/tcp/1'])
  connected.add(M)
  strangers.add(M)
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  expect([...discovery.contacts.keys()]).toEqual([Z])
  for (let i = 0; i < 1000; i++) {
    const id = peerIdOf(`x${i}`)
    connected.add(id)
    strangers.add(id)
    discovery.heard(id, ['/ip4/10.6.6.6/tcp/1'])
  }
  expect([...discovery.contacts.keys()]).toEqual([Z])
  for (const id of strangers) {
    connected.delete(id)
    discovery.disconnected(id)
  }
  await vi.advanceTimersByTimeAsync(1500)
  // Their dials are a stranger's, of which one teller has four at a time.
  expect(dials.length).toBeLessThan(600)
  discovery.stop()
})

test('of full contacts a member that is connected stays, and one that is connected unproven goes', () => {
  const { host, connected, strangers } = fakeHost(A)
  const remembered = Array.from({ length: 512 }, (_, i) => peerIdOf(`r${i}`))
  const discovery = new Discovery({ ...init, host })
  for (const id of remembered) discovery.connected(id, ['/ip4/10.0.0.2/tcp/1'])
  for (const id of remembered) connected.add(id)
  strangers.add(remembered[7]!)
  discovery.connected(Z, ['/ip4/10.0.0.3/tcp/1'])
  expect([...discovery.contacts.keys()]).toEqual([...remembered.filter((_, i) => i !== 7), Z])
  discovery.stop()
})

test('who answers at an address without a peer id is remembered once it is met', async () => {
  const { host, strangers } = fakeHost(A, () => Promise.resolve(M))
  const peers = [{ address: '/ip4/10.0.0.2/tcp/1', peerId: undefined }]
  const discovery = new Discovery({ ...init, host, peers })
  strangers.add(M)
  discovery.start()
  await vi.advanceTimersByTimeAsync(10_000)
  expect([discovery.contacts.size, discovery.isProvenHost('/ip4/10.0.0.2')]).toEqual([0, false])
  strangers.delete(M)
  await vi.advanceTimersByTimeAsync(3000)
  expect(discovery.contacts).toEqual(new Map([[M, ['/ip4/10.0.0.2/tcp/1']]]))
  discovery.stop()
})

test('inventions whose dials hang fill no more than their share, and hold up nobody who was connected', async () => {
  const hung: (() => void)[] = []
  const { host, dials } = fakeHost(A, id =>
    id === M ? Promise.resolve(M) : new Promise((_, reject) => hung.push(() => reject(new Error('timeout'))))
  )
  const discovery = new Discovery({ ...init, host, remembered: new Map([[M, ['/ip4/10.0.0.2/tcp/1']]]) })
  const invent = (teller: string) => {
    for (let i = 0; i < 30; i++) discovery.heard(peerIdOf(`${teller} ${i}`), ['/ip4/10.6.6.6/tcp/1'], teller)
  }
  invent('10.6.6.0')
  await vi.advanceTimersByTimeAsync(5000)
  expect(dials.length).toBe(4)
  for (const teller of ['10.6.6.1', '10.6.6.2', '10.6.6.3', '10.6.6.4']) invent(teller)
  await vi.advanceTimersByTimeAsync(5000)
  expect(dials.length).toBe(16)
  discovery.start()
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.at(-1)).toBe(`${M} at /ip4/10.0.0.2/tcp/1`)
  for (const fail of hung.splice(0)) fail()
  await vi.advanceTimersByTimeAsync(1500)
  expect([dials.length, new Set(dials).size]).toEqual([33, 33])
  discovery.stop()
})

test('a flood of announcements leads to one dial a second', async () => {
  const { host, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host })
  for (let i = 0; i < 500; i++) {
    discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
    await vi.advanceTimersByTimeAsync(10)
  }
  expect(dials.length).toBeGreaterThan(3)
  expect(dials.length).toBeLessThan(7)
  discovery.stop()
})

test('an address without a peer id is dialled again when the one who answered there is gone', async () => {
  const answers = [M, Z]
  const { host, dials, connected } = fakeHost(A, id =>
    id ? unreachable() : Promise.resolve(answers.shift()!)
  )
  const discovery = new Discovery({
    ...init,
    host,
    peers: [{ address: '/ip4/10.0.0.2/tcp/1', peerId: undefined }]
  })
  discovery.start()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(dials.length).toBe(1)
  connected.delete(M)
  await vi.advanceTimersByTimeAsync(3000)
  expect(connected).toEqual(new Set([Z]))
  discovery.stop()
})

/** For a member that it has heard of a stranger tells of 16 addresses of its own, behind which another secret refuses. */
const STRANGERS = Array.from({ length: 16 }, (_, i) => `/ip4/10.0.0.66/tcp/${4000 + i}`)
const PROVEN = '/ip4/10.0.0.2/tcp/1'

/** A discovery that was connected to `M` at `PROVEN` once, and a network of which `at` says what answers where. */
function metOnce(at: (address: string, timeoutMs: number) => Promise<string>) {
  const failures: DialFailure[] = []
  const dials: string[] = []
  const connected = new Set<string>()
  const host: Dialler = {
    peerId: A,
    isConnected: id => connected.has(id),
    hasMet: id => connected.has(id),
    async dial([address], _, options) {
      dials.push(address!)
      const found = await at(address!, options!.timeoutMs)
      connected.add(found)
      discovery.connected(found, [address!])
      return found
    }
  }
  const discovery = new Discovery({ ...init, host, onFailure: failure => failures.push(failure) })
  discovery.connected(M, [PROVEN])
  /** Announcements of the stranger, 33 packets a second, until the time is up or M is connected; how long that took. */
  async function announcedFor(ms: number): Promise<number> {
    const startMs = performance.now()
    while (!connected.has(M) && performance.now() < startMs + ms) {
      for (const half of [0, 8]) discovery.heard(M, STRANGERS.slice(half, half + 8), '10.0.0.66')
      await vi.advanceTimersByTimeAsync(30)
    }
    return performance.now() - startMs
  }
  return { discovery, dials, failures, announcedFor }
}

test('a stranger that announces addresses of its own for a member does not keep it away, and is not remembered', async () => {
  let cable = false
  const { discovery, dials, failures, announcedFor } = metOnce(address =>
    address !== PROVEN ? refused() : cable ? Promise.resolve(M) : unreachable()
  )
  discovery.disconnected(M)
  await announcedFor(22_000)
  cable = true
  expect(await announcedFor(60_000)).toBeLessThan(5000)
  expect(new Set(dials.filter(address => STRANGERS.includes(address))).size).toBeGreaterThanOrEqual(8)
  expect(discovery.contacts).toEqual(new Map([[M, [PROVEN]]]))
  expect(discovery.addressesOf(M)).toEqual([PROVEN])
  expect(failures.length).toBeGreaterThan(0)
  expect(failures.filter(({ refused }) => refused)).toEqual([])
  discovery.stop()
})

test('nor does one whose addresses take connections and say nothing', async () => {
  let cable = false
  const slow = (timeoutMs: number) =>
    new Promise<never>((_, reject) =>
      setTimeout(() => reject(Object.assign(new Error('too late'), { name: 'TimeoutError' })), timeoutMs)
    )
  const { discovery, dials, announcedFor } = metOnce((address, timeoutMs) =>
    address !== PROVEN ? slow(timeoutMs) : cable ? Promise.resolve(M) : unreachable()
  )
  discovery.disconnected(M)
  await announcedFor(22_000)
  cable = true
  expect(await announcedFor(60_000)).toBeLessThan(5000)
  expect(dials.filter(address => STRANGERS.includes(address)).length).toBeGreaterThan(3)
  discovery.stop()
})

test('a member that has moved is found where it says, whatever a stranger tells of it', async () => {
  const moved = '/ip4/10.0.0.9/tcp/1'
  const { discovery, announcedFor } = metOnce(address =>
    address === PROVEN ? unreachable() : address === moved ? Promise.resolve(M) : refused()
  )
  discovery.disconnected(M)
  await announcedFor(10_000)
  discovery.heard(M, [moved], '10.0.0.9')
  expect(await announcedFor(60_000)).toBeLessThan(20_000)
  expect(discovery.contacts).toEqual(new Map([[M, [moved, PROVEN]]]))
  discovery.stop()
})

test('a peer vouches for the addresses of the host that it comes from; its others are tried and not remembered', async () => {
  const { host, dials } = fakeHost(A, unreachable)
  const discovery = new Discovery({ ...init, host })
  discovery.connected(M, [])
  discovery.said(M, ['/ip4/172.17.0.1/tcp/1', PROVEN], ['/ip4/10.0.0.2/tcp/50123'])
  expect(discovery.contacts).toEqual(new Map([[M, [PROVEN]]]))
  expect([discovery.isProvenHost('/ip4/10.0.0.2'), discovery.isProvenHost('/ip4/172.17.0.1')]).toEqual([
    true,
    false
  ])
  discovery.disconnected(M)
  await vi.advanceTimersByTimeAsync(1500)
  expect(dials).toEqual([`${M} at ${PROVEN}`, `${M} at /ip4/172.17.0.1/tcp/1`])
  discovery.stop()
})

test('whom a large mesh does not need is asked about ever more seldom, and dialled at once when it is', async () => {
  const { host, dials } = fakeHost(A)
  let asked = 0
  let isNeeded = false
  const mayDial = () => {
    asked++
    return isNeeded
  }
  const discovery = new Discovery({ ...init, host, mayDial })
  discovery.heard(M, ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(600_000)
  // Every three seconds it would be 200 times, of each of the devices that are not neighbours.
  expect(asked).toBeGreaterThan(10)
  expect(asked).toBeLessThan(50)
  isNeeded = true
  discovery.seek(M, [])
  await vi.advanceTimersByTimeAsync(1)
  expect(dials.length).toBe(1)
  discovery.stop()
})

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Dialler, Discovery } from '../../../node/mesh/discovery.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** A host that notes who is dialled and answers as the test wants. */
function fakeHost(
  peerId: string,
  answer: (peerId?: string) => Promise<string> = async id => id ?? 'unknown'
) {
  const dials: string[] = []
  const connected = new Set<string>()
  const host: Dialler = {
    peerId,
    isConnected: id => connected.has(id),
    async dial(addresses, id) {
      dials.push(`${id ?? 'whoever'} at ${addresses.join(' ')}`)
      const found = await answer(id)
      connected.add(found)
      return found
    }
  }
  return { host, dials, connected }
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
  const small = fakeHost('a')
  const large = fakeHost('z')
  new Discovery({ ...init, host: small.host }).heard('m', ['/ip4/10.0.0.2/tcp/1'])
  new Discovery({ ...init, host: large.host }).heard('m', ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(1)
  expect([small.dials.length, large.dials.length]).toEqual([1, 0])
  await vi.advanceTimersByTimeAsync(1500)
  expect(large.dials).toEqual(['m at /ip4/10.0.0.2/tcp/1'])
})

test('a peer that connected meanwhile is not dialled', async () => {
  const { host, dials, connected } = fakeHost('z')
  new Discovery({ ...init, host }).heard('m', ['/ip4/10.0.0.2/tcp/1'])
  connected.add('m')
  await vi.advanceTimersByTimeAsync(5000)
  expect(dials).toEqual([])
})

test('who refuses the handshake is left alone for a minute, whatever is announced', async () => {
  const { host, dials } = fakeHost('a', refused)
  const discovery = new Discovery({ ...init, host })
  for (let i = 0; i < 50; i++) {
    discovery.heard('m', ['/ip4/10.0.0.2/tcp/1'])
    await vi.advanceTimersByTimeAsync(1000)
  }
  expect(dials.length).toBe(1)
  await vi.advanceTimersByTimeAsync(12_000)
  expect(dials.length).toBe(2)
  discovery.stop()
})

test('who refused the old secret is asked again as soon as there is a new one', async () => {
  const { host, dials } = fakeHost('a', refused)
  const discovery = new Discovery({ ...init, host })
  discovery.heard('m', ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(5000)
  discovery.forgetRefusals()
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.length).toBe(2)
  discovery.stop()
})

test('a lost peer is redialled with growing pauses, and at once when it is heard of again', async () => {
  const { host, dials } = fakeHost('a', unreachable)
  const discovery = new Discovery({ ...init, host, remembered: new Map([['m', ['/ip4/10.0.0.2/tcp/1']]]) })
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
  const { host, dials } = fakeHost('a', unreachable)
  const discovery = new Discovery({ ...init, host })
  discovery.heard('m', ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(40_000)
  const before = dials.length
  discovery.heard('m', ['/ip4/10.0.0.9/tcp/1'])
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.length).toBe(before + 1)
  expect(dials.at(-1)).toBe('m at /ip4/10.0.0.9/tcp/1 /ip4/10.0.0.2/tcp/1')
  discovery.stop()
})

test('an address without a peer id is dialled until somebody answers', async () => {
  let up = false
  const { host, dials } = fakeHost('a', () => (up ? Promise.resolve('m') : unreachable()))
  const peers = [{ address: '/ip4/10.0.0.2/tcp/1', peerId: undefined }]
  const discovery = new Discovery({ ...init, host, peers })
  discovery.start()
  await vi.advanceTimersByTimeAsync(10_000)
  expect(dials.length).toBe(4)
  up = true
  await vi.advanceTimersByTimeAsync(10_000)
  expect(dials.length).toBe(5)
  expect(discovery.addressesOf('m')).toEqual(['/ip4/10.0.0.2/tcp/1'])
})

test('banned peers and the node itself are not dialled', async () => {
  const { host, dials } = fakeHost('a')
  const discovery = new Discovery({ ...init, host, banned: id => id === 'm' })
  discovery.heard('m', ['/ip4/10.0.0.2/tcp/1'])
  discovery.heard('a', ['/ip4/10.0.0.1/tcp/1'])
  await vi.advanceTimersByTimeAsync(5000)
  expect(dials).toEqual([])
})

test('what a member says of others hurries nothing and replaces no address', async () => {
  const { host, dials } = fakeHost('a', unreachable)
  const discovery = new Discovery({ ...init, host })
  discovery.heard('m', ['/ip4/10.0.0.2/tcp/1'])
  await vi.advanceTimersByTimeAsync(10_000)
  const before = dials.length
  for (let i = 0; i < 100; i++) discovery.hinted('m', [`/ip4/10.6.6.${i}/tcp/1`])
  await vi.advanceTimersByTimeAsync(10)
  expect(dials.length).toBe(before)
  expect(discovery.addressesOf('m')[0]).toBe('/ip4/10.0.0.2/tcp/1')
  expect(discovery.addressesOf('m').length).toBe(16)
  discovery.stop()
})

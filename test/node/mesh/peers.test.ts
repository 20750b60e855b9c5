import { afterEach, describe, expect, test } from 'vitest'
import { MeshPeers } from '../../../node/mesh/mesh-peers.ts'
import { connectedRecords, holdersOf, modelNameOf, type Peers } from '../../../node/mesh/peers.ts'
import { RefusedError } from '../../../protocols/lease/index.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'
import { SimulatedMesh } from '../simulation/mesh.ts'
import { Meshes } from './fixtures.ts'

/** One node's view of another one. */
interface Pair {
  peers: Peers
  other: string
  /** What the other one does with a reservation. */
  onReserve(act: () => Promise<never>): void
  /** Frames that have come to the other one. */
  frames(): number
  /** The other one goes away. */
  lose(): Promise<void>
}

const meshes = new Meshes()
afterEach(() => meshes.stop())

async function realPair(): Promise<Pair> {
  let reserve = (): Promise<never> => new Promise(() => {})
  let frames = 0
  const onFrame = () => void frames++
  const leases = {
    reserve: () => reserve(),
    stand: () => ({ type: 'first' as const }),
    load: async () => {},
    relink: () => {},
    open: async () => ({}),
    close: () => {},
    renew: () => ({ expiresInMs: 1000 }),
    release: () => {}
  }
  const stage = { allocate: () => null, onFrame, onLost: () => {} }
  const [a, b] = await meshes.connected(['a', 'b'], [{}, { leases, stage }])
  return {
    peers: new MeshPeers(a!),
    other: b!.peerId,
    onReserve: act => {
      reserve = act
    },
    frames: () => frames,
    lose: () => b!.stop()
  }
}

async function simulatedPair(): Promise<Pair> {
  const mesh = new SimulatedMesh()
  const [a, b] = ['a', 'b'].map(id => mesh.add(id, { memoryBytes: 1000 }))
  return {
    peers: a!.peers,
    other: 'b',
    onReserve: act => {
      b!.peers.meet = what => (what === 'reserve' ? act() : undefined)
    },
    frames: () => b!.peers.met.get('frame') ?? 0,
    lose: async () => mesh.vanish('b')
  }
}

const going = { signal: new AbortController().signal }
const request = { modelId: 'f'.repeat(64), range: [0, 1] as [number, number], maxTokens: 8, sessions: 1 }
const frame: StageFrame = {
  type: 'error',
  rows: [{ sessionId: 'aa'.repeat(16), position: 0 }],
  tokens: 0,
  hiddenSize: 0,
  sample: false,
  timings: [],
  code: 'stage',
  message: 'it cannot go on'
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(resolve => setTimeout(resolve, 5))
}

// What the simulated mesh does, the real one does: tests on the one say something of the other.
describe.each([
  ['the real mesh', realPair],
  ['the simulated mesh', simulatedPair]
])('%s', (_, pairOf) => {
  test('says who is there', async () => {
    const { peers, other } = await pairOf()
    expect(peers.known).toMatchObject([{ record: { peerId: other, name: 'b' }, connected: true }])
    expect([peers.self.peerId, peers.nameOf(other)]).toEqual([peers.peerId, 'b'])
    // Neither is true of every moment on a machine on which processes wait for seconds.
    await until(() => peers.suspects().size === 0 && !peers.known[0]!.suspect)
    await peers.measure([other], going)
    // What a plan does not wait for is measured all the same.
    await until(() => peers.links.some(({ from, to }) => from === peers.peerId && to === other))
    await until(() => (peers.known[0]!.rttMs ?? 0) > 0)
  })

  test.each([
    ['expired', new RefusedError('expired', 'no')],
    ['internal', new Error('no')]
  ])('passes on what a peer refuses, as %s', async (code, error) => {
    const { peers, other, onReserve } = await pairOf()
    onReserve(() => Promise.reject(error))
    const lease = await peers.lease(other, going)
    await expect(lease.reserve(request)).rejects.toMatchObject({ name: 'RemoteError', code, message: 'no' })
    lease.end()
  })

  test('does not wait for an answer that is no longer wanted', async () => {
    const { peers, other, onReserve } = await pairOf()
    onReserve(() => new Promise(() => {}))
    const lease = await peers.lease(other, going)
    const abort = new AbortController()
    const reserving = lease.reserve(request, { signal: abort.signal })
    abort.abort(new Error('enough'))
    await expect(reserving).rejects.toThrow('enough')
    await expect(lease.reserve(request, { timeoutMs: 10 })).rejects.toMatchObject({ name: 'DeadlineError' })
    lease.end()
  })

  test('ends a lease where the source ends it', async () => {
    const { peers, other } = await pairOf()
    const lease = await peers.lease(other, going)
    lease.end()
    expect((await lease.ended).message).toContain('ended here')
    await expect(lease.reserve(request)).rejects.toMatchObject({ name: 'PeerLostError', peerId: other })
  })

  test('carries frames', async () => {
    const { peers, other, frames } = await pairOf()
    await peers.send(other, frame)
    await until(() => frames() === 1)
  })

  test('says who is lost, and all that goes to it is', async () => {
    const { peers, other, onReserve, lose } = await pairOf()
    onReserve(() => new Promise(() => {}))
    const lease = await peers.lease(other, going)
    const pending = lease.reserve(request).catch((error: Error) => error)
    const lost: string[] = []
    peers.events.on('lost', peerId => void lost.push(peerId))
    await lose()
    await until(() => lost.length > 0)
    expect(lost).toEqual([other])
    const isLost = { name: 'PeerLostError', peerId: other }
    expect(await pending).toMatchObject(isLost)
    expect(await lease.ended).toMatchObject(isLost)
    await expect(peers.send(other, frame)).rejects.toMatchObject({ name: 'PeerLostError' })
    await expect(peers.lease(other, going)).rejects.toMatchObject({ name: 'PeerLostError' })
    expect(peers.known).toMatchObject([{ record: { peerId: other }, connected: false }])
    expect(peers.suspects()).toEqual(new Set([other]))
  })
})

test('what is known of a model is what connected peers say of it', () => {
  const mesh = new SimulatedMesh()
  const [a, b, gone] = ['a', 'b', 'gone'].map(id => mesh.add(id, { memoryBytes: 1 }))
  const held = (name: string, layers: [number, number][]) => [{ name, id: 'f'.repeat(64), layers }]
  const models = new Map([
    [a!, held('mine', [])],
    [b!, held('theirs', [[0, 1]])],
    [gone!, held('away', [[0, 1]])]
  ])
  for (const [node, of] of models) {
    Object.defineProperty(node, 'record', { value: { ...node.record, models: of } })
  }
  mesh.vanish('gone')
  expect(connectedRecords(a!.peers).map(({ peerId }) => peerId)).toEqual(['a', 'b'])
  expect(holdersOf(a!.peers, 'f'.repeat(64))).toEqual(['b'])
  expect(modelNameOf(a!.peers, 'f'.repeat(64))).toBe('mine')
  expect(modelNameOf(a!.peers, 'f'.repeat(64), 'b')).toBe('theirs')
  expect(modelNameOf(a!.peers, 'e'.repeat(64), 'b')).toBe('eeeeeeeeeeee')
})

import { expect, test } from 'vitest'
import { Directory } from '../../../node/mesh/directory.ts'
import { nodeRecordSchema } from '../../../protocols/directory/record.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { record } from './fixtures.ts'

const peer = (peerId: string, sequence = 1) => ({
  ...record(peerId),
  peerId,
  sequence,
  leases: [],
  links: {}
})

test('a silent peer is suspect after 3 s, given up after 15 s, and back with its next byte', () => {
  let nowMs = 0
  const directory = new Directory(peer('self'), () => nowMs)
  directory.connected('b')
  directory.record('b', peer('b'))
  nowMs = 2900
  expect(directory.review(3000, 15_000)).toEqual({ suspect: [], recovered: [], gone: [] })
  nowMs = 3100
  expect(directory.review(3000, 15_000).suspect).toEqual(['b'])
  expect(directory.get('b')).toMatchObject({ suspect: true, lastSeenMs: 3100 })
  directory.touched('b')
  expect(directory.review(3000, 15_000).recovered).toEqual(['b'])
  nowMs = 20_000
  expect(directory.review(3000, 15_000).gone).toEqual(['b'])
})

test('a peer that left is shown for ten minutes, then forgotten', () => {
  let nowMs = 0
  const directory = new Directory(peer('self'), () => nowMs)
  directory.connected('b')
  directory.record('b', peer('b'))
  directory.measured('b', 3)
  directory.disconnected('b')
  nowMs = 9 * 60_000
  directory.review(3000, 15_000)
  expect(directory.get('b')).toMatchObject({ connected: false, rttMs: null })
  nowMs = 11 * 60_000
  directory.review(3000, 15_000)
  expect(directory.peers).toEqual([])
})

test('of peers that left the last 256 are shown', () => {
  const directory = new Directory(peer('self'))
  directory.connected('stays')
  directory.record('stays', peer('stays'))
  for (let i = 0; i < 1000; i++) {
    directory.connected(`p${i}`)
    directory.record(`p${i}`, peer(`p${i}`))
    directory.disconnected(`p${i}`)
  }
  expect(directory.peers.length).toBe(257)
  for (const id of ['stays', 'p999', 'p744']) expect(directory.get(id)).toBeDefined()
})

test('a peer of another version is incompatible until its next connection is judged, and gone when it stays away', () => {
  let nowMs = 0
  const directory = new Directory(peer('self'), () => nowMs)
  directory.connected('b')
  directory.record('b', peer('b'))
  const other = { name: 'b', isNode: true, version: '9', reason: 'update it' }
  directory.judged('b', { ...other, mute: false })
  const incompatible = { state: 'incompatible', reason: 'update it', connected: false, suspect: false }
  expect(directory.get('b')).toMatchObject({ ...incompatible, record: { memory: { budgetBytes: 1000 } } })
  nowMs = 5000
  // Its heartbeats are understood, so its silence means something.
  expect(directory.review(3000, 15_000)).toMatchObject({ suspect: ['b'] })
  directory.judged('b', { ...other, mute: true })
  expect(directory.get('b')).toMatchObject({ ...incompatible, record: { memory: { budgetBytes: 0 } } })
  nowMs = 60_000
  expect(directory.review(3000, 15_000).gone).toEqual([])
  directory.disconnected('b', 'it was switched off')
  expect(directory.get('b')).toMatchObject(incompatible)
  directory.connected('b')
  expect(directory.get('b')).toMatchObject(incompatible)
  directory.disconnected('b', 'it was switched off')
  nowMs = 90_000
  expect(directory.get('b')).toMatchObject({ state: 'gone', reason: 'it was switched off' })
  directory.connected('b')
  directory.judged('b', undefined)
  expect(directory.get('b')).toMatchObject({ state: 'connected', connected: true })
  expect(directory.get('b')).not.toHaveProperty('reason')
})

test('who speaks nothing of ours and has said nothing is nobody', () => {
  const directory = new Directory(peer('self'))
  directory.connected('b')
  directory.judged('b', { name: 'b', isNode: false, mute: true, version: 'unknown', reason: 'no node' })
  expect(directory.peers).toEqual([])
  directory.record('b', peer('b'))
  expect(directory.peers).toMatchObject([{ state: 'incompatible', record: { name: 'b' } }])
})

test('every change of the own record raises its sequence number', () => {
  const directory = new Directory(peer('self'))
  directory.update({ name: 'renamed' })
  expect(directory.own).toMatchObject({ peerId: 'self', name: 'renamed', sequence: 2 })
})

test('the round-trip time is the least of the last heartbeats', () => {
  const directory = new Directory(peer('self'))
  directory.connected('b')
  directory.record('b', peer('b'))
  for (const rttMs of [25, 4, 9]) directory.measured('b', rttMs)
  expect(directory.get('b')?.rttMs).toBe(4)
  for (let i = 0; i < 8; i++) directory.measured('b', 30)
  expect(directory.get('b')?.rttMs).toBe(30)
})

test('names from peers lose what a terminal would obey, oversized records are refused', () => {
  const hostile = nodeRecordSchema.parse({ ...peer(peerIdOf('b')), name: 'a\u001b[31mb\u202e\nc' })
  expect(hostile.name).toBe('a [31mb c')
  expect(nodeRecordSchema.safeParse({ ...peer(peerIdOf('b')), name: 'x'.repeat(1000) }).success).toBe(false)
  expect(nodeRecordSchema.safeParse({ ...peer(peerIdOf('b')), sequence: -1 }).success).toBe(false)
  const models = Array.from({ length: 257 }, () => ({ name: 'm', id: '0'.repeat(64), layers: [] }))
  expect(nodeRecordSchema.safeParse({ ...peer(peerIdOf('b')), models }).success).toBe(false)
})

test('an incompatible peer that sends no heartbeats is let go in the end: its power may be gone', () => {
  let nowMs = 0
  const directory = new Directory(peer('self'), () => nowMs)
  directory.connected('b')
  directory.judged('b', { name: 'b', isNode: true, mute: true, version: '9', reason: 'update it' })
  nowMs = 100_000
  expect(directory.review(3000, 15_000)).toEqual({ suspect: [], recovered: [], gone: [] })
  nowMs = 130_000
  expect(directory.review(3000, 15_000).gone).toEqual(['b'])
})

test('a device without a connection is as others say, until its own connection says otherwise', () => {
  const state: { state: 'connected' | 'suspect' | 'gone' } = { state: 'connected' }
  const own = { ...record('own'), peerId: 'own', sequence: 1, leases: [], links: {} }
  const far = { ...own, peerId: 'far', name: 'far' }
  const sight = () => ({ record: far, addresses: [], epoch: 0, ageMs: 7, unreachedMs: 0, ...state })
  const directory = new Directory(own, () => 0, {
    devices: ['far'],
    get: peerId => (peerId === 'far' ? sight() : undefined),
    isOutOfReach: () => false
  })
  const seen = () => directory.get('far')
  expect(seen()).toMatchObject({
    state: 'connected',
    connected: true,
    direct: false,
    rttMs: null,
    recordAgeMs: 7
  })
  directory.connected('far')
  directory.record('far', { ...far, sequence: 2 })
  expect(seen()).toMatchObject({ state: 'connected', direct: true, record: { sequence: 2 } })
  state.state = 'gone'
  expect(seen()?.state).toBe('connected')
  directory.disconnected('far')
  expect(seen()).toMatchObject({ state: 'gone', connected: false, direct: false })
})

test('a far device that could not be connected, or was found to speak another version, is not planned with', () => {
  let nowMs = 0
  let isOutOfReach = false
  const own = { ...record('own'), peerId: 'own', sequence: 1, leases: [], links: {} }
  const far = { ...own, peerId: 'far', name: 'far' }
  const directory = new Directory(own, () => nowMs, {
    devices: ['far'],
    get: () => ({ record: far, addresses: [], epoch: 0, ageMs: 7, unreachedMs: 0, state: 'connected' }),
    isOutOfReach: () => isOutOfReach
  })
  isOutOfReach = true
  expect(directory.get('far')).toMatchObject({
    state: 'suspect',
    suspect: true,
    reason: 'this device needed it and could not connect to it'
  })
  isOutOfReach = false
  expect(directory.get('far')?.state).toBe('connected')

  directory.connected('far')
  directory.record('far', far)
  const { version } = far
  directory.judged('far', { name: 'far', isNode: true, mute: false, version, reason: 'update it' })
  directory.disconnected('far')
  nowMs = 60_000
  expect(directory.get('far')).toMatchObject({ state: 'incompatible', connected: false, reason: 'update it' })
  far.version = `${version}1`
  expect(directory.get('far')?.state).toBe('connected')
})

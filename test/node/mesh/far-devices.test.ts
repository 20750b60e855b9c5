import { createHash } from 'node:crypto'
import { expect, test } from 'vitest'
import { FarDevices } from '../../../node/mesh/far-devices.ts'
import type { NodeRecord, SignedRecord } from '../../../protocols/directory/index.ts'
import { signedRecordBytes } from '../../../protocols/directory/index.ts'
import { signedRecordSchema } from '../../../protocols/directory/signed-record.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { record } from './fixtures.ts'
import { SimulatedTime } from './simulated-relays.ts'

const [OWN, FAR, NEIGHBOUR] = ['own', 'far', 'neighbour'].map(peerIdOf) as [string, string, string]

const signatureOf = (peerId: string, bytes: Uint8Array) =>
  createHash('sha512').update(peerId).update(bytes).digest('base64url')

function signed(device: string, serial: number, text: string): SignedRecord {
  const unsigned = { device, serial, text }
  return { ...unsigned, signature: signatureOf(device, signedRecordBytes('test', unsigned)) }
}

const recordOf = (peerId: string, change: Partial<NodeRecord> = {}): NodeRecord => ({
  ...record('a device'),
  peerId,
  sequence: 1,
  leases: [],
  links: {},
  ...change
})
const textOf = (peerId: string, neighbours: string[] = []) =>
  JSON.stringify({ record: recordOf(peerId), addresses: [], neighbours, epoch: 0 })

function farOf({ wallMs = 1_000_000, own = {} }: { wallMs?: number; own?: Partial<NodeRecord> } = {}) {
  const time = new SimulatedTime()
  const state = { wallMs, looks: 0, isIn: new Set([OWN, FAR, NEIGHBOUR]), neighbours: [] as string[] }
  const changes: (string | undefined)[] = []
  const far: FarDevices = new FarDevices({
    peerId: OWN,
    mesh: 'test',
    timers: time,
    sign: bytes => signatureOf(OWN, bytes),
    isSigned: (peerId, bytes, signature) => signature === signatureOf(peerId, bytes),
    isIn: peerId => state.isIn.has(peerId),
    own: () => {
      state.looks++
      return { record: recordOf(OWN, own), addresses: [], epoch: 0 }
    },
    neighbours: () => state.neighbours,
    onNews: () => {},
    onChange: device => void changes.push(far.get(device)?.state),
    wallMs: () => state.wallMs
  })
  return { far, time, state, changes }
}

test('connections of devices that come and go leave nothing to look at', () => {
  const { far, time, state } = farOf()
  far.begin()
  time.pass(30_000)
  const looksOf = () => {
    const before = state.looks
    time.pass(20_000)
    return state.looks - before
  }
  const calm = looksOf()
  for (let i = 0; i < 100; i++) far.broke(peerIdOf(`stranger ${i}`))
  far.broke(NEIGHBOUR)
  time.pass(10_000)
  expect(looksOf()).toBeLessThanOrEqual(calm + 1)
  far.stop()
})

test('a device whose clock was set back at its start is heard once its clock is set', () => {
  const { far, time, state } = farOf({ wallMs: 7 })
  far.begin()
  expect(far.signed(OWN)!.serial).toBeLessThan(100)
  state.wallMs = 5_000_000
  time.pass(601_000)
  far.changed()
  time.pass(1000)
  expect(far.signed(OWN)!.serial).toBeGreaterThanOrEqual(5_000_000)
  far.stop()
})

test('a device goes on above what an earlier start of it has signed, and signs nothing where no serial is left', () => {
  const { far, time } = farOf()
  far.begin()
  far.take(signed(OWN, 9_000_000, textOf(OWN)))
  time.pass(1000)
  expect(far.signed(OWN)!.serial).toBe(9_000_001)
  far.take(signed(OWN, Number.MAX_SAFE_INTEGER, textOf(OWN)))
  time.pass(1000)
  expect(far.signed(OWN)!.serial).toBe(9_000_001)
  far.stop()
})

test('the last record of a device that is gone is not taken again, and kept for the device itself', () => {
  const { far, time, state } = farOf()
  far.begin()
  const last = signed(FAR, 1000, textOf(FAR))
  far.take(last)
  time.pass(620_000)
  expect(far.get(FAR)).toBeUndefined()
  expect([far.lacks(FAR, 1000), far.lacks(FAR, 1001)]).toEqual([false, true])
  expect([far.worthTelling(NEIGHBOUR), far.worthTelling(FAR)].map(devices => devices.includes(FAR))).toEqual([
    false,
    true
  ])
  expect(far.signed(FAR)).toEqual(last)
  state.isIn.delete(FAR)
  far.membershipChanged()
  expect(far.signed(FAR)).toBeUndefined()
  far.stop()
})

test('a device that is put out is gone first, and then unknown', () => {
  const { far, time, state, changes } = farOf()
  state.neighbours = [NEIGHBOUR]
  far.take(signed(NEIGHBOUR, 1, textOf(NEIGHBOUR, [FAR])))
  far.take(signed(FAR, 1, textOf(FAR, [NEIGHBOUR])))
  time.pass(1000)
  expect(far.get(FAR)?.state).toBe('connected')
  changes.length = 0
  state.isIn.delete(FAR)
  far.membershipChanged()
  expect(changes).toEqual(['gone', undefined])
  far.stop()
})

test('a record is signed so that it fits in one message as it is sent, whatever its names are', () => {
  const models = Array.from({ length: 94 }, (_, i) => ({
    name: `${i}${'"'.repeat(117)}`,
    id: String(i).padStart(64, '0'),
    layers: [[0, 1] as [number, number]]
  }))
  const { far } = farOf({ own: { models } })
  far.begin()
  const own = far.signed(OWN)!
  expect(signedRecordSchema.parse(own)).toEqual(own)
  expect(Buffer.byteLength(JSON.stringify(own))).toBeLessThanOrEqual(48 * 1024)
  far.stop()
})

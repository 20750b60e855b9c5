import { afterEach, expect, test } from 'vitest'
import type { NodeRecord } from '../../../node/api.ts'
import { LinkTable } from '../../../node/mesh/link-table.ts'
import { sayable } from '../../../node/mesh/own-record.ts'
import { MAX_MESSAGE_BYTES } from '../../../protocols/constants.ts'
import { nodeRecordSchema } from '../../../protocols/directory/record.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { Meshes, record, until } from './fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const own: NodeRecord = { ...record('a'), peerId: peerIdOf('a'), sequence: 3, leases: [], links: {} }
const times = { decodeMs: 1, prefillMsPerToken: 0.1 }
const profile = { decoder: times, head: times }
const idOf = (i: number) => i.toString(16).padStart(64, '0')
const profiles = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [idOf(i), profile]))
const link = { outMbps: 9, inMbps: 9, rttMs: 1, spread: 0, ageMs: 0 }

test('a record that fits is sent as it is', () => {
  const full = { ...own, profiles: profiles(64), links: { [peerIdOf('b')]: link } }
  expect(sayable(full)).toEqual({ record: full, leftOut: [] })
})

test('what peers would expel this node for is left out, the newest stay, and it is said', () => {
  const { record: sent, leftOut } = sayable({
    ...own,
    profiles: profiles(67),
    links: Object.fromEntries(Array.from({ length: 130 }, (_, i) => [peerIdOf(`p${i}`), link])),
    leases: [{ modelId: 'none', layers: [0, 1], source: peerIdOf('b') }]
  })
  expect(leftOut).toEqual([
    { list: 'leases', missing: 1, of: 1 },
    { list: 'profiles', missing: 3, of: 67 },
    { list: 'links', missing: 2, of: 130 }
  ])
  expect(Object.keys(sent.profiles)).toEqual(Object.keys(profiles(67)).slice(3))
  expect(nodeRecordSchema.parse(sent)).toEqual(sent)
})

test('a record is no larger than a message may be', () => {
  const models = Array.from({ length: 256 }, (_, i) => ({
    name: 'é'.repeat(200),
    id: idOf(i),
    layers: [[0, 1] as const, [2, 3] as const]
  }))
  const { record: sent, leftOut } = sayable({ ...own, models, profiles: profiles(64) })
  expect(Buffer.byteLength(JSON.stringify({ type: 'record', record: sent }))).toBeLessThan(MAX_MESSAGE_BYTES)
  expect(nodeRecordSchema.parse(sent)).toEqual(sent)
  expect(sent.models.length).toBeGreaterThan(64)
  expect(leftOut).toMatchObject([{ list: 'models', of: 256 }])
})

test('a transfer that was nothing like the estimate leaves a link that peers take', () => {
  const table = new LinkTable({ now: () => 0 })
  table.measured(peerIdOf('b'), { ...link, inMbps: 1e-6 })
  for (let i = 0; i < 5; i++) table.transferred(peerIdOf('b'), { bytes: 1e9, ms: 0.01 })
  expect(sayable({ ...own, links: table.row }).leftOut).toEqual([])
})

test('a node with a long name and more profiles than fit stays a member', async () => {
  const a = await meshes.add('a')
  const notices: string[] = []
  const b = await meshes.add('b', {
    peers: a.addresses,
    record: { ...record('b'.repeat(2000)), profiles: profiles(70) }
  })
  b.events.on('notice', text => notices.push(text))
  await until(() => a.peers.length === 1)
  expect(a.peers[0]!.record.name).toMatch(/^b{63}…$/)
  expect(Object.keys(a.peers[0]!.record.profiles).length).toBe(64)
  expect(Object.keys(b.self.profiles).length).toBe(70)
  await until(() => notices.some(text => text.includes('6 of 70 profiles')))
  for (const count of [71, 64, 72]) {
    b.update({ profiles: profiles(count), memory: { budgetBytes: 1000, freeBytes: count } })
    await until(() => a.peers[0]!.record.memory.freeBytes === count)
  }
  expect(notices.filter(text => text.includes('profiles')).length).toBe(1)
})

test('times that peers would refuse the whole record for are not said, whosever they are', () => {
  const wrong = { [idOf(7)]: { decoder: { ...times, loadMs: Number.NaN } } }
  const cpu = { kind: 'cpu', name: 'a processor', used: false, memory: { budgetBytes: 9, freeBytes: 9 } }
  const full: NodeRecord = {
    ...own,
    stageTimes: { turnMs: 1, sharedTurnMs: -1, startMs: 1 },
    processors: [{ ...cpu, profiles: { ...profiles(65), ...wrong } }]
  }
  const { record: sent, leftOut } = sayable(full)
  expect(nodeRecordSchema.safeParse(sent).success).toBe(true)
  expect(sent).not.toHaveProperty('stageTimes')
  const kept = Object.keys(sent.processors![0]!.profiles!)
  expect(kept).toEqual(Object.keys(profiles(65)).filter(id => id !== idOf(7)))
  expect(leftOut).toEqual([{ list: 'profiles of other processors', missing: 1, of: 65 }])
})

test('a record has an end where its processors alone take more than its lists may', () => {
  const refuses = Array.from({ length: 64 }, (_, i) => idOf(i))
  const card = { kind: 'gpu', name: 'a card', used: true, refuses }
  const { record: sent } = sayable({ ...own, processors: [card], profiles: profiles(9) }, 1000)
  expect(sent.processors).toEqual([card])
  expect(sent.profiles).toEqual({})
})

test('times of what computes beside make room, the oldest first, and nothing else of the processors', () => {
  const beside = { kind: 'cpu', name: 'a processor', used: false, memory: { budgetBytes: 9, freeBytes: 9 } }
  const gpu = { kind: 'gpu', name: 'a card', used: true, refuses: [idOf(1)] }
  const full = { ...own, profiles: profiles(64), processors: [{ ...beside, profiles: profiles(64) }, gpu] }
  expect(sayable(full).record).toEqual(full)
  const { record: sent } = sayable(full, 16_000)
  const kept = Object.keys(sent.processors![0]!.profiles!)
  expect(kept.length).toBeGreaterThan(0)
  expect(kept).toEqual(Object.keys(profiles(64)).slice(-kept.length))
  expect(Buffer.byteLength(JSON.stringify([sent.processors, Object.entries(sent.profiles)]))).toBeLessThan(
    16_000
  )
  expect(sayable(full, 800).record.processors).toEqual([beside, gpu])
})

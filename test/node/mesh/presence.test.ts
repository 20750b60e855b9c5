import { EventEmitter } from 'node:events'
import { expect, test, vi } from 'vitest'
import { Directory } from '../../../node/mesh/directory.ts'
import type { Discovery } from '../../../node/mesh/discovery.ts'
import type { Host } from '../../../node/mesh/host.ts'
import type { MeshEvents } from '../../../node/mesh/mesh-types.ts'
import { Presence, type PresenceInit } from '../../../node/mesh/presence.ts'
import { PROTOCOLS } from '../../../protocols/versions.ts'
import { record } from './fixtures.ts'

const ALL = Object.values(PROTOCOLS).flat()
const said = (protocols: string[]) => ({ addresses: [], protocols, version: '0.1.0' })

function presenceOf() {
  const own = { ...record('own'), peerId: 'own', sequence: 1, leases: [], links: {} }
  const directory = new Directory(own)
  const notices: string[] = []
  const host = {
    peerId: 'own',
    protocols: PROTOCOLS,
    isConnected: () => true,
    addressesOf: () => [],
    outboundAddresses: () => []
  }
  const redialled: string[] = []
  const discovery = { connected() {}, disconnected: (peerId: string) => void redialled.push(peerId) }
  const events = new EventEmitter<MeshEvents>()
  let changes = 0
  events.on('change', () => changes++)
  const presence = new Presence({
    host: host as Partial<Host> as Host,
    discovery: discovery as Partial<Discovery> as Discovery,
    directory,
    events,
    whyOut: () => null,
    own: () => own,
    nameOf: peerId => peerId,
    onNotice: message => void notices.push(message)
  } as Partial<PresenceInit> as PresenceInit)
  directory.connected('b')
  directory.record('b', { ...own, peerId: 'b', name: 'b' })
  return {
    directory,
    presence,
    notices,
    redialled,
    changes: () => changes,
    announcements: vi.spyOn(presence, 'announce'),
    state: () => directory.get('b')?.state
  }
}

test('a device that is back updated is taken for what it says, though its old connection has not ended yet', () => {
  const { presence, state, notices } = presenceOf()
  presence.identified('b', said(ALL.filter(id => !PROTOCOLS.directory.includes(id))))
  expect(state()).toBe('incompatible')
  expect(notices).toHaveLength(1)
  presence.identified('b', said(ALL))
  expect(state()).toBe('connected')
})

test('a node that stops takes its protocols back one by one, and is not incompatible for that', () => {
  const { presence, state, notices } = presenceOf()
  presence.identified('b', said(ALL))
  presence.identified('b', said(ALL.slice(1)))
  expect(state()).toBe('connected')
  expect(notices).toEqual([])
})

test('who comes and goes without having been met changes nothing, and may be dialled again', () => {
  const { presence, changes, announcements, redialled } = presenceOf()
  for (let i = 0; i < 100; i++) presence.disconnected('stranger')
  expect([announcements.mock.calls.length, changes(), redialled.length]).toEqual([0, 0, 100])
})

test('that a member has left is told once, however often it comes back and is not let in', () => {
  const { presence, changes, announcements, state } = presenceOf()
  presence.connected('b')
  announcements.mockClear()
  presence.disconnected('b')
  presence.disconnected('b')
  expect([announcements.mock.calls.length, changes(), state()]).toEqual([1, 1, 'gone'])
})

test('one of another version that leaves changes what is shown, and is announced to nobody', () => {
  const { presence, changes, announcements } = presenceOf()
  presence.foreign('b', said(ALL.filter(id => !PROTOCOLS.directory.includes(id))))
  const before = changes()
  presence.disconnected('b')
  expect([announcements.mock.calls.length, changes() - before]).toEqual([0, 1])
})

import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { Directory } from '../../../node/mesh/directory.ts'
import type { Host } from '../../../node/mesh/host.ts'
import { Presence, type PresenceInit } from '../../../node/mesh/presence.ts'
import { PROTOCOLS } from '../../../protocols/versions.ts'
import { record } from './fixtures.ts'

const ALL = Object.values(PROTOCOLS).flat()
const said = (protocols: string[]) => ({ addresses: [], protocols, version: '0.1.0' })

function presenceOf() {
  const own = { ...record('own'), peerId: 'own', sequence: 1, leases: [], links: {} }
  const directory = new Directory(own)
  const notices: string[] = []
  const host = { peerId: 'own', protocols: PROTOCOLS, isConnected: () => true, addressesOf: () => [] }
  const presence = new Presence({
    host: host as Partial<Host> as Host,
    directory,
    events: new EventEmitter(),
    own: () => own,
    nameOf: peerId => peerId,
    onNotice: message => void notices.push(message)
  } as Partial<PresenceInit> as PresenceInit)
  directory.connected('b')
  directory.record('b', { ...own, peerId: 'b', name: 'b' })
  return { directory, presence, notices, state: () => directory.get('b')?.state }
}

test('a device that is back updated is taken for what it says, though its old connection has not ended yet', () => {
  const { presence, state, notices } = presenceOf()
  presence.identified('b', said(ALL.filter(id => id !== PROTOCOLS.directory[0])))
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

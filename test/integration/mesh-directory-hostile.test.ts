import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Stream } from '@libp2p/interface'
import { afterEach, expect, test } from 'vitest'
import type { Mesh } from '../../node/mesh/index.ts'
import { MAX_MESSAGE_BYTES } from '../../protocols/constants.ts'
import {
  DIRECTORY_PROTOCOL,
  MAX_CONTACTS,
  MAX_DIRECTORY_MESSAGES_PER_SECOND,
  MAX_SEQUENCE_STEP
} from '../../protocols/directory/constants.ts'
import { PROTOCOLS } from '../../protocols/versions.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'
import { Meshes, record, until } from '../node/mesh/fixtures.ts'
import { message, rawMember } from '../node/mesh/raw-member.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const own = (peerId: string, sequence: number, over: object = {}) =>
  message({ type: 'record', record: { ...record('hostile'), peerId, sequence, links: {}, ...over } })
const contact = { peerId: peerIdOf('c'), name: 'c', addresses: ['/ip4/127.0.0.1/tcp/1'] }
const ESCAPE = '\u001b]0;owned\u0007\u202e'

/** What a member sends that must cost it its control stream. */
const ATTACKS: [name: string, bytes: (self: string, other: string) => Buffer[], reason: RegExp][] = [
  ['a record about somebody else', (_, other) => [own(other, 9)], /sent a record of/],
  [
    'a record from the future',
    self => [own(self, 1), own(self, 2 + MAX_SEQUENCE_STEP)],
    /sent record \d+ after 1/
  ],
  [
    'a record that was sent before',
    self => [own(self, 5), own(self, 6), own(self, 5)],
    /sent record 5 after 6/
  ],
  ['a number that is none', self => [own(self, 2 ** 60)], /malformed: record.sequence/],
  [
    'a flood of records',
    self => Array.from({ length: 1 + MAX_DIRECTORY_MESSAGES_PER_SECOND }, (_, i) => own(self, i)),
    /directory messages a second/
  ],
  [
    'more contacts than may be',
    () => [message({ type: 'contacts', contacts: Array(MAX_CONTACTS + 1).fill(contact) })],
    /malformed: contacts/
  ],
  ...['x', 'A'.repeat(44), `${peerIdOf('c')}1`].map((peerId): (typeof ATTACKS)[number] => [
    `a contact called ${peerId}`,
    () => [message({ type: 'contacts', contacts: [{ ...contact, peerId }] })],
    /malformed: contacts.0.peerId not a peer id/
  ]),
  [
    'keys that a terminal would obey',
    self => [own(self, 1, { profiles: { [ESCAPE]: {} } })],
    /^[^\p{Cc}\p{Cf}]*malformed[^\p{Cc}\p{Cf}]*$/u
  ],
  [
    'a message without end',
    () => [Buffer.from([0x7f, 0xff, 0xff, 0xff])],
    new RegExp(`exceeds ${MAX_MESSAGE_BYTES}`)
  ]
]

test.each(ATTACKS)('%s costs its sender the stream, and nobody else anything', async (_, bytes, reason) => {
  const [a, b] = await meshes.connected(['a', 'b'])
  const notices: string[] = []
  a!.events.on('notice', text => notices.push(text))
  await using hostile = await rawMember(a!)
  const stream = await hostile.newStream(a!.peerId, [DIRECTORY_PROTOCOL])
  for (const part of bytes(hostile.peerId, b!.peerId)) stream.send(part)
  await closed(stream)
  expect(notices.join('\n')).toMatch(reason)
  await undisturbed(a!, b!)
})

test('who broke the protocol is not heard on another stream either, for a while', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  await using hostile = await rawMember(a!)
  const first = await hostile.newStream(a!.peerId, [DIRECTORY_PROTOCOL])
  first.send(own(b!.peerId, 1))
  await closed(first)
  // Reset before it is handed out, or right after.
  const second = await hostile.newStream(a!.peerId, [DIRECTORY_PROTOCOL]).catch(() => null)
  if (second?.status === 'open') {
    second.send(own(hostile.peerId, 1))
    await closed(second)
  }
  expect(a!.peers.map(({ record }) => record.name)).toEqual(['b'])
  await undisturbed(a!, b!)
})

test('a member of another version is named, once, and who speaks nothing of ours is not', async () => {
  const a = await meshes.add('a')
  const notices: string[] = []
  a.events.on('notice', text => notices.push(text))
  const key = await generateKeyPair('Ed25519')
  const others = Object.values(PROTOCOLS)
    .flat()
    .filter(id => !PROTOCOLS.directory.includes(id))
  const old = { key, speaks: ['/edgeshard/directory/1', ...others] }
  let peerId = ''
  for (let i = 0; i < 2; i++) {
    await using other = await rawMember(a, old)
    await using silent = await rawMember(a, { speaks: ['/other/1'] })
    await until(() => [other, silent].every(host => host.isConnected(a.peerId)))
    await until(() => notices.length > 0)
    peerId = other.peerId
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  expect(notices).toEqual([
    expect.stringMatching(
      `^${peerId.slice(-8)} at /ip4/127.* is incompatible: version unknown, update it: its directory protocol is 1, here it is 4$`
    )
  ])
})

test('a flood does not pass on several streams either', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  const notices: string[] = []
  a!.events.on('notice', text => notices.push(text))
  await using hostile = await rawMember(a!)
  const most = MAX_DIRECTORY_MESSAGES_PER_SECOND - 10
  for (let i = 0; i < 2; i++) {
    const stream = await hostile.newStream(a!.peerId, [DIRECTORY_PROTOCOL])
    for (let j = 0; j < most; j++) stream.send(message({ type: 'ping', at: 1 }))
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  await until(() => notices.some(text => text.includes('directory messages a second')))
  await undisturbed(a!, b!)
})

test('names are one line without control characters, wherever they go', async () => {
  const a = await meshes.add('a')
  await using hostile = await rawMember(a)
  const stream = await hostile.newStream(a.peerId, [DIRECTORY_PROTOCOL])
  const models = [{ name: `m\n${ESCAPE}`, id: 'ab'.repeat(32), layers: [[0, 2]] }]
  stream.send(own(hostile.peerId, 1, { name: `${ESCAPE}box\n<img src=x>`, version: `1\r${ESCAPE}`, models }))
  await until(() => a.peers.length === 1)
  const state = JSON.stringify(a.state().peers)
  expect(state).toContain('box <img src=x>')
  expect(state).not.toMatch(/\\u001b|\\u0007|\\n|\\r|\u202e/)
})

function closed(stream: Stream): Promise<unknown> {
  return stream.status === 'open'
    ? new Promise(resolve => stream.addEventListener('close', resolve))
    : Promise.resolve()
}

/** `b`, which did nothing, is known as before and its changes still arrive. */
async function undisturbed(a: Mesh, b: Mesh): Promise<void> {
  b.update({ memory: { budgetBytes: 1000, freeBytes: 5 } })
  await until(() => a.peers.some(({ record }) => record.name === 'b' && record.memory.freeBytes === 5))
  expect(a.peers.find(({ record }) => record.peerId === b.peerId)).toMatchObject({
    connected: true,
    suspect: false
  })
}

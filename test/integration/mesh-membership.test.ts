import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { noise } from '@chainsafe/libp2p-noise'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { afterEach, expect, test } from 'vitest'
import { splitAddress } from '../../node/mesh/contacts.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { loadMembership, meshKeys, readMembership, saveMembership } from '../../node/mesh/membership.ts'
import { decodeTicket } from '../../node/mesh/ticket.ts'
import { Meshes, SECRET, until } from '../node/mesh/fixtures.ts'
import { nobody, rawMember } from '../node/mesh/raw-member.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

test('the first start makes a mesh of its own, readable by its owner alone', async () => {
  const home = await mkdtemp(join(tmpdir(), 'edgeshard-member-'))
  const made = await loadMembership(home)
  expect(await loadMembership(home)).toEqual(made)
  expect((await stat(join(home, 'mesh.json'))).mode & 0o777).toBe(0o600)
  await rm(home, { recursive: true })
})

test('join says whether a mesh was left, and remembers where the members are', async () => {
  const a = await meshes.add('a')
  const ticket = decodeTicket(a.members.invite())
  const home = await meshes.home(null)
  expect(await joinMesh(home, ticket)).toBe('joined')
  expect(await joinMesh(home, ticket)).toBe('unchanged')
  expect(await joinMesh(await meshes.home(new Uint8Array(32)), ticket)).toBe('replaced')
  const b = await meshes.add('b', { home })
  await until(() => b.peers.length === 1)
  expect(b.peers[0]?.record.name).toBe('a')
})

test('after a rotation the members stay, a new member needs the new secret', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'])
  const old = decodeTicket(a!.members.invite())
  const { reached, missed } = await b!.members.rotate()
  expect(reached.map(({ name }) => name).toSorted()).toEqual(['a', 'c'])
  expect(missed).toEqual([])
  const fresh = decodeTicket(a!.members.invite())
  expect(fresh).toMatchObject({ epoch: 1, secret: decodeTicket(c!.members.invite()).secret })
  expect(fresh.secret).not.toEqual(old.secret)

  const late = await meshes.add('late', { secret: old.secret, peers: a!.addresses })
  const home = await meshes.home(null)
  await joinMesh(home, fresh)
  const d = await meshes.add('d', { home })
  await until(() => [a, b, c].every(mesh => mesh!.peers.filter(peer => peer.connected).length === 3))
  await until(() => d.peers.length === 3)
  expect(late.peers).toEqual([])
})

test('who is off during a rotation is named as missed, and comes back with a new ticket alone', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'])
  const home = await meshes.home()
  const off = await meshes.add('off', { home, peers: a!.addresses })
  await until(() => [a, b, c].every(mesh => mesh!.peers.length === 3))
  const { peerId } = off
  await off.stop()
  await until(() => a!.peers.some(({ record, connected }) => record.name === 'off' && !connected))
  const { reached, missed } = await a!.members.rotate()
  expect(reached.map(({ name }) => name).toSorted()).toEqual(['b', 'c'])
  expect(missed).toEqual([{ peerId, name: 'off' }])

  const late = await meshes.add('off', { home, peers: a!.addresses })
  const notices: string[] = []
  late.events.on('notice', text => void notices.push(text))
  await until(() => notices.some(text => text.includes('with another secret answers')))
  expect(late.peers).toEqual([])
  await late.stop()
  expect(await joinMesh(home, decodeTicket(b!.members.invite()))).toBe('replaced')
  const back = await meshes.add('off', { home })
  await until(() => back.peers.length === 3)
})

test('two that dial each other at the same time end with one connection', async () => {
  const [a, b] = await Promise.all([meshes.add('a'), meshes.add('b')])
  await using one = await rawMember(a)
  await using two = await rawMember(b)
  const addresses = (host: typeof one) => host.addresses.map(text => splitAddress(text).address)
  await Promise.all([one.dial(addresses(two), two.peerId), two.dial(addresses(one), one.peerId)])
  await until(() => one.addressesOf(two.peerId).length === 1 && two.addressesOf(one.peerId).length === 1)
  await new Promise(resolve => setTimeout(resolve, 200))
  expect([one.addressesOf(two.peerId).length, two.addressesOf(one.peerId).length]).toEqual([1, 1])
})

test('the larger id leaves three connections to the smaller one, which closes all but the oldest, and no more', async () => {
  const keys = await Promise.all([generateKeyPair('Ed25519'), generateKeyPair('Ed25519')])
  const idOf = (key: PrivateKey) => peerIdFromPrivateKey(key).toString()
  const [smaller, larger] = keys.toSorted((a, b) => (idOf(a) < idOf(b) ? -1 : 1)) as [PrivateKey, PrivateKey]
  const a = await meshes.add('a')
  await using host = await rawMember(a, { key: larger })
  const raw = await createLibp2p({
    privateKey: smaller,
    transports: [tcp()],
    connectionEncrypters: [noise({ prologueBytes: meshKeys(SECRET).prologue })],
    streamMuxers: [yamux()]
  })
  const count = () => host.addressesOf(idOf(smaller)).length
  try {
    for (const open of [1, 2, 3, 3]) {
      await raw.dial(multiaddr(host.addresses[0]!), { force: true })
      await until(() => raw.getConnections().length === open && count() === open)
    }
  } finally {
    await raw.stop()
  }
})

test('a banned peer is cut off, does not hear of the new secret and is not let in with it', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'])
  await a!.members.rotate({ ban: c!.peerId })
  await until(() =>
    [a, b].every(mesh => mesh!.peers.every(({ record, connected }) => connected === (record.name !== 'c')))
  )
  expect(decodeTicket(c!.members.invite()).epoch).toBe(0)
  await until(() => b!.members.isBanned(c!.peerId))
  const lease = a!.lease(c!.peerId)
  await expect(lease).rejects.toMatchObject({ name: 'PeerLostError' })
  const { secret } = decodeTicket(a!.members.invite())
  await a!.members.unban(c!.peerId)
  await until(() => [a, b].every(mesh => mesh!.members.banned.length === 0))
  expect([a, b].map(mesh => decodeTicket(mesh!.members.invite()).secret)).toEqual([secret, secret])
})

test('a member that has just joined has the ban list, and one that was away hears that it has changed', async () => {
  const [lost, sold] = await Promise.all([nobody(), nobody()])
  const [a, b, late] = await Promise.all([meshes.home(null), meshes.home(null), meshes.home(null)])
  await saveMembership(a, { secret: SECRET, epoch: 2, banned: [sold] })
  await saveMembership(b, { secret: SECRET, epoch: 1, banned: [lost, sold] })
  await saveMembership(late, { secret: SECRET, epoch: 2, banned: [] })
  const first = await meshes.add('a', { home: a })
  const others = await Promise.all([b, late].map(home => meshes.add('b', { home, peers: first.addresses })))
  await until(() => [first, ...others].every(({ members }) => members.banned.join() === sold))
})

test('two rotations at once end with one secret everywhere', async () => {
  const members = await meshes.connected(['a', 'b', 'c'])
  await Promise.all(members.map(mesh => mesh.members.rotate()))
  const secrets = () =>
    new Set(members.map(mesh => Buffer.from(decodeTicket(mesh.members.invite()).secret).toString('hex')))
  await until(() => secrets().size === 1)
  const home = await meshes.home(null)
  await joinMesh(home, decodeTicket(members[0]!.members.invite()))
  expect((await readMembership(home))?.epoch).toBe(1)
  const d = await meshes.add('d', { home })
  await until(() => d.peers.filter(({ connected }) => connected).length === 3)
})

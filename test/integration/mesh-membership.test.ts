import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
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
import { inviteAtRest } from '../../node/mesh/at-rest.ts'
import { splitAddress } from '../../node/mesh/contacts.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { loadMembership, meshKeys, readMembership } from '../../node/mesh/membership.ts'
import { signedRoll } from '../../node/mesh/signed-roll.ts'
import { signerOf } from '../../node/mesh/signing.ts'
import { decodeTicket, encodeTicket } from '../../node/mesh/ticket.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { meet } from '../../protocols/membership/client.ts'
import { redeem, rotationBytes } from '../../protocols/membership/index.ts'
import { rotateReply } from '../../protocols/membership/messages.ts'
import { PROTOCOLS } from '../../protocols/versions.ts'
import { admittedMembership, signedStatement, testMesh } from '../fixtures/admitted.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'
import { Meshes, SECRET, until } from '../node/mesh/fixtures.ts'
import { rawHandlers, rawMember, rawStranger } from '../node/mesh/raw-member.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const JOIN = { mdns: false, timeoutMs: deadlineMs(20_000) }
const ticketOf = async (mesh: Mesh) => decodeTicket(await mesh.members.invite())
const secretOf = async (mesh: Mesh) => Buffer.from((await ticketOf(mesh)).secret).toString('hex')
const there = (mesh: Mesh) => mesh.peers.filter(({ connected }) => connected).map(({ record }) => record.name)

/** A mesh that its first device has made, and devices that joined it with tickets of the ones named. */
async function invited(names: Record<string, string | null>): Promise<Record<string, Mesh>> {
  const made: Record<string, Mesh> = {}
  for (const [name, inviter] of Object.entries(names)) {
    const home = await meshes.home(null)
    if (inviter !== null) await joinMesh(home, await ticketOf(made[inviter]!), JOIN)
    made[name] = await meshes.add(name, { home })
  }
  const all = Object.values(made)
  await until(() => all.every(mesh => there(mesh).length === all.length - 1))
  return made
}

test('the first start makes a mesh of its own, readable by its owner alone', async () => {
  const home = await mkdtemp(join(tmpdir(), 'edgeshard-member-'))
  const made = await loadMembership(home, peerIdOf('a'))
  expect(await loadMembership(home, peerIdOf('a'))).toEqual(made)
  expect((await stat(join(home, 'mesh.json'))).mode & 0o777).toBe(0o600)
  await rm(home, { recursive: true })
})

test('join says whether a mesh was left, and remembers where the members are', async () => {
  const a = await meshes.add('a', { home: await meshes.home(null) })
  const ticket = await ticketOf(a)
  const home = await meshes.home(null)
  expect(await joinMesh(home, ticket, JOIN)).toBe('joined')
  // Whoever has taken a ticket may show it again, for the answer may have been lost.
  expect(await joinMesh(home, ticket, JOIN)).toBe('unchanged')
  expect(await joinMesh(await meshes.home(new Uint8Array(32)), await ticketOf(a), JOIN)).toBe('replaced')
  expect((await stat(join(home, 'mesh.json'))).mode & 0o777).toBe(0o600)
  const b = await meshes.add('b', { home })
  await until(() => there(b).length === 1)
  expect(there(b)).toEqual(['a'])
  expect(a.members.state.devices).toMatchObject([
    { name: 'a', founder: true, owner: true, self: true, admittedBy: [] },
    { admittedBy: [{ name: 'a' }] },
    { admittedBy: [{ name: 'a' }] }
  ])
  expect(b.state().peers).toMatchObject([{ name: 'a', admittedBy: [] }])
})

test('a ticket admits one device, and its end is judged by the device that made it, whatever is written in it', async () => {
  const a = await meshes.add('a', { home: await meshes.home(null) })
  const used = await ticketOf(a)
  await joinMesh(await meshes.home(null), used, JOIN)
  const late = decodeTicket(await a.members.invite(-1000))
  // An attacker writes another date into it and a checksum over that.
  const redated = decodeTicket(encodeTicket({ ...late, expiresAtMs: Date.now() + 30 * 86_400_000 }))
  const invented = { ...used, code: new Uint8Array(16) }
  for (const [ticket, message] of [
    [used, /has admitted another device already: make a new one/],
    [late, /the ticket was good until .*Z, and the device that made it says it is .*Z: make a new one/],
    [redated, /the ticket was good until/],
    [invented, /was not made here.*: make a new one/],
    [{ ...used, mesh: `${peerIdOf('x')}.${'00'.repeat(16)}` }, /of another mesh/]
  ] as const) {
    const home = await meshes.home(null)
    await expect(joinMesh(home, ticket, JOIN)).rejects.toMatchObject({
      name: 'TicketError',
      message: expect.stringMatching(message)
    })
    expect(await readMembership(home)).toBeNull()
  }
  expect(a.members.state.devices.length).toBe(2)
})

test('a ticket that was made before the node runs is taken when it does, and once', async () => {
  const home = await meshes.home(null)
  const early = decodeTicket(await inviteAtRest(home))
  const away = { ...JOIN, timeoutMs: 300 }
  await expect(joinMesh(await meshes.home(null), early, away)).rejects.toMatchObject({
    name: 'InviterUnreachedError',
    message: expect.stringMatching(/did not answer .* on this network .*'edgeshard up' has to run there/)
  })
  const a = await meshes.add('a', { home })
  const ticket = { ...early, addresses: a.addresses }
  const guest = await meshes.home(null)
  expect(await joinMesh(guest, ticket, JOIN)).toBe('joined')
  await a.stop()
  const again = await meshes.add('a', { home })
  const late = { ...ticket, addresses: again.addresses }
  await expect(joinMesh(await meshes.home(null), late, JOIN)).rejects.toThrow(/another device already/)
  expect(await joinMesh(guest, late, JOIN)).toBe('unchanged')
})

test('a wrong clock keeps nobody from joining, and is named where the ticket is refused', async () => {
  const a = await meshes.add('a', { home: await meshes.home(null) })
  for (const clock of ['1970-01-02T00:00:00Z', '2099-01-01T00:00:00Z']) {
    const nowMs = () => Date.parse(clock)
    const says = new RegExp(`this device's clock says ${clock}: set`)
    expect(await joinMesh(await meshes.home(null), await ticketOf(a), { ...JOIN, nowMs })).toBe('joined')
    const late = decodeTicket(await a.members.invite(-1000))
    await expect(joinMesh(await meshes.home(null), late, { ...JOIN, nowMs })).rejects.toThrow(says)
    const away = { ...late, addresses: [`/ip4/127.0.0.1/tcp/1/p2p/${a.peerId}`], expiresAtMs: Date.now() }
    await expect(
      joinMesh(await meshes.home(null), away, { ...JOIN, nowMs, timeoutMs: 500 })
    ).rejects.toMatchObject({
      name: 'InviterUnreachedError',
      message: expect.stringMatching(
        new RegExp(
          `did not answer within .*'edgeshard up' has to run there.*clock says ${clock}.*set the clock`
        )
      )
    })
  }
})

test('a copied secret without an admitted key speaks no protocol, gets no new secret, and bans nobody', async () => {
  const { own, stolen } = await invited({ own: null, stolen: 'own' })
  const notices: string[] = []
  own!.events.on('notice', text => notices.push(text))
  const before = await secretOf(own!)

  // What is on the stolen disk, under a key of its own: by the program, and by one that says what it likes.
  const home = await meshes.home(null)
  const known = own!.members.membership
  await writeFile(
    join(home, 'mesh.json'),
    JSON.stringify({ ...known, secret: Buffer.from(known.secret).toString('hex') })
  )
  const thief = await meshes.add('thief', { home, peers: own!.addresses })
  const heard: string[] = []
  thief.events.on('notice', text => heard.push(text))
  await until(() =>
    notices.some(text => /is cut off: no device that is in the mesh has admitted it/.test(text))
  )
  await until(() => heard.some(text => text.includes('does not let this device in')))
  await expect(thief.members.ban(own!.peerId)).rejects.toThrow(/^only owners of this mesh can ban: /)
  await expect(thief.members.rotate()).rejects.toThrow(/only owners/)
  await expect(thief.members.invite()).rejects.toThrow(/is not admitted to its mesh/)

  await using raw = await rawStranger(own!, { secret: known.secret })
  for (const protocol of ['directory', 'lease', 'stage', 'weights', 'links'] as const) {
    const outcome = raw
      .newStream(own!.peerId, PROTOCOLS[protocol])
      .then(stream => new Promise(resolve => stream.addEventListener('close', resolve)))
    // It arrives, and is reset: before or right after it is handed out.
    await outcome.catch((error: Error) => expect(error.message).toMatch(/no stream to/))
  }
  const code = '00'.repeat(16)
  expect(await redeem(raw, own!.peerId, { mesh: known.mesh, code })).toMatchObject({
    refusal: { code: 'ticket-unknown' }
  })
  expect(there(own!)).toEqual(['stolen'])

  await own!.members.ban(stolen!.peerId)
  const { reached } = await own!.members.rotate()
  expect(reached).toEqual([])
  await until(() => there(own!).length === 0 && there(stolen!).length === 0)
  expect(await secretOf(own!)).not.toBe(before)
  for (const mesh of [thief, stolen!]) {
    expect(Buffer.from(mesh.members.membership.secret).toString('hex')).toBe(before)
  }
  expect(own!.members.banned).toEqual([stolen!.peerId])
})

test('what a member that is no owner signs bans nobody and changes no secret', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  const key = await generateKeyPair('Ed25519')
  const signer = signerOf(key)
  const membership = await admittedMembership(SECRET, signer.peerId)
  await using hostile = await rawMember(a!, { key, membership })
  await until(() => a!.members.state.devices.some(({ peerId }) => peerId === hostile.peerId))
  const { mesh, founder } = await testMesh(SECRET)
  const by = signer.peerId
  const own = [
    signedStatement(mesh, signer, { type: 'ban', device: b!.peerId, by, counter: 1 }),
    signedStatement(mesh, signer, { type: 'ban', device: founder.peerId, by, counter: 2 ** 31 }),
    signedStatement(mesh, signer, { type: 'owner', device: by, by })
  ]
  const forged = own.map(statement => ({ ...statement, by: founder.peerId }))
  const innocent = peerIdOf('innocent')
  const admit = signedStatement(mesh, signer, { type: 'admit', device: innocent, by, counter: 0 })
  const handlers = {
    ...rawHandlers(signedRoll(membership, signer)),
    statements: () => [...own, admit, ...forged]
  }
  expect(await meet(hostile, a!.peerId, handlers)).toMatchObject({ type: 'met' })
  // What it may say has come, with what it may not.
  expect(a!.members.state.devices.map(({ peerId }) => peerId)).toContain(innocent)
  const rotation = { epoch: 1, secret: 'ab'.repeat(32), by: hostile.peerId }
  const told = await hostile.newStream(a!.peerId, PROTOCOLS.membership)
  const messages = new JsonStream(told)
  await messages.send({ type: 'rotate', ...rotation, signature: signer.sign(rotationBytes(mesh, rotation)) })
  expect(await messages.read(rotateReply)).toMatchObject({
    type: 'refused',
    reason: expect.stringContaining('no owner')
  })
  const { devices, banned } = a!.members.state
  expect([banned, devices.filter(({ owner }) => owner).map(({ peerId }) => peerId)]).toEqual([
    [],
    [founder.peerId]
  ])
  expect(await secretOf(a!)).toBe(Buffer.from(SECRET).toString('hex'))
  expect(there(a!)).toContain('b')
})

test('a ban takes along what only the banned device had let in, keeps what an owner keeps, and all hear of it', async () => {
  const { a, b, c, d } = await invited({ a: null, b: 'a', c: 'b', d: 'b' })
  expect(a!.members.state.devices.find(({ name }) => name === 'b')?.dependents).toMatchObject(
    expect.arrayContaining([
      { peerId: c!.peerId, name: 'c' },
      { peerId: d!.peerId, name: 'd' }
    ])
  )
  await expect(c!.members.ban(b!.peerId)).rejects.toMatchObject({
    name: 'NotOwnerError',
    message: 'only owners of this mesh can ban: a'
  })
  await expect(a!.members.ban(a!.peerId)).rejects.toThrow('cannot ban itself')
  const secret = await secretOf(a!)
  const home = await meshes.home(null)
  await joinMesh(home, await ticketOf(a!), JOIN)
  const { out, kept } = await a!.members.ban(b!.peerId, { keep: [d!.peerId] })
  expect([out, kept].map(list => list.map(({ name }) => name))).toEqual([['b', 'c'], ['d']])
  await until(() => there(a!).join() === 'd' && there(d!).join() === 'a')
  await until(() => a!.peers.every(({ record, reason }) => record.name === 'd' || reason?.includes('banned')))
  await expect(a!.lease(b!.peerId)).rejects.toMatchObject({ name: 'PeerLostError' })
  expect(await secretOf(a!)).toBe(secret)

  // One that was off hears of it from whom it meets first, before the banned ones can speak to it.
  const late = await meshes.add('late', { home, peers: [...d!.addresses, ...b!.addresses, ...c!.addresses] })
  await until(() => late.members.isBanned(b!.peerId))
  await until(() => there(late).join() === 'a,d')

  await a!.members.unban(b!.peerId)
  await until(() => there(a!).includes('b') && there(late).includes('b'))
  expect(there(a!)).not.toContain('c')
  expect(there(b!)).not.toContain('c')
})

test('an owner bans as the device that made the mesh does, and is banned by that one alone', async () => {
  const { a, b, c, d } = await invited({ a: null, b: 'a', c: 'a', d: 'c' })
  await expect(b!.members.promote(c!.peerId)).rejects.toThrow(
    'only the device that made this mesh can promote: a'
  )
  await a!.members.promote(b!.peerId)
  await a!.members.promote(c!.peerId)
  await until(() =>
    [a, b, c, d].every(mesh => mesh!.members.state.devices.filter(({ owner }) => owner).length === 3)
  )
  await expect(b!.members.ban(a!.peerId)).rejects.toThrow('nobody can ban the device that made the mesh')
  await expect(b!.members.ban(c!.peerId)).rejects.toThrow('only the device that made the mesh can ban it')
  await b!.members.ban(d!.peerId)
  await until(() => [a, b, c].every(mesh => mesh!.members.isBanned(d!.peerId)))
  // What the owner has banned stays so when it is banned itself.
  await a!.members.ban(b!.peerId)
  await until(() => there(a!).join() === 'c' && there(c!).join() === 'a')
  expect([a, c].map(mesh => mesh!.members.banned.toSorted())).toEqual(
    Array(2).fill([b!.peerId, d!.peerId].toSorted())
  )
})

test('a device that is off is known by its name after a restart, too', async () => {
  const home = await meshes.home(null)
  const first = await meshes.add('a', { home })
  const guest = await meshes.home(null)
  await joinMesh(guest, await ticketOf(first), JOIN)
  const lost = await meshes.add('lost', { home: guest })
  await until(() => there(first).length === 1)
  await Promise.all([lost, first].map(mesh => mesh.stop()))
  const again = await meshes.add('a', { home })
  expect(again.members.state.devices.map(({ name }) => name)).toEqual(['a', 'lost'])
  await again.members.ban(lost.peerId)
  expect(again.members.state.banned).toEqual([{ peerId: lost.peerId, name: 'lost' }])
})

test('who knows the secret and proves itself in another mesh is cut off', async () => {
  const a = await meshes.add('a')
  const key = await generateKeyPair('Ed25519')
  const signer = signerOf(key)
  const mesh = `${signer.peerId}.${'00'.repeat(16)}`
  const membership = { mesh, secret: SECRET, epoch: 0, statements: [] }
  await using other = await rawStranger(a, { key })
  expect(await meet(other, a.peerId, rawHandlers(signedRoll(membership, signer)))).toMatchObject({
    type: 'refused',
    by: 'peer',
    refusal: { code: 'other-mesh' }
  })
  await until(() => !other.isConnected(a.peerId))
  expect(a.peers).toEqual([])
})

test('after a rotation the members stay, a new member needs the new secret', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'], [], { owner: true })
  const old = await ticketOf(a!)
  const { reached, missed } = await b!.members.rotate()
  expect(reached.map(({ name }) => name).toSorted()).toEqual(['a', 'c'])
  expect(missed).toEqual([])
  const fresh = await ticketOf(a!)
  expect(fresh.secret).toEqual((await ticketOf(c!)).secret)
  expect(fresh.secret).not.toEqual(old.secret)
  await expect(joinMesh(await meshes.home(null), old, { ...JOIN, timeoutMs: 2000 })).rejects.toThrow(
    /another secret now/
  )
  const home = await meshes.home(null)
  await joinMesh(home, fresh, JOIN)
  expect(await readMembership(home)).toMatchObject({ epoch: 1, signed: { by: b!.peerId } })
  const d = await meshes.add('d', { home })
  await until(() => [a, b, c, d].every(mesh => there(mesh!).length === 3))
})

test('who is off during a rotation is named as missed, and comes back with a new ticket alone', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'], [], { owner: true })
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
  expect(await joinMesh(home, await ticketOf(b!), JOIN)).toBe('unchanged')
  const back = await meshes.add('off', { home })
  await until(() => back.peers.length === 3)
})

test('two that dial each other at the same time end with one connection', async () => {
  const [a, b] = await Promise.all([meshes.add('a'), meshes.add('b')])
  await using one = await rawMember(a)
  await using two = await rawMember(b)
  const addresses = (host: typeof one) => host.addresses.map(text => splitAddress(text).address)
  // The dial whose connection is the second one may fail: it is closed as soon as the other side sees it.
  const dials = [one.dial(addresses(two), two.peerId), two.dial(addresses(one), one.peerId)]
  const outcomes = await Promise.allSettled(dials)
  expect(outcomes.map(({ status }) => status)).toContain('fulfilled')
  const seen = () => [one.addressesOf(two.peerId).length, two.addressesOf(one.peerId).length]
  const dialled = () => [...one.outboundAddresses(two.peerId), ...two.outboundAddresses(one.peerId)]
  // One that each has dialled would be two, however many either sees of them by now.
  await until(() => dialled().length === 1 && seen().every(count => count === 1))
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

test('two rotations at once end with one secret everywhere', async () => {
  const members = await meshes.connected(['a', 'b', 'c'], [], { owner: true })
  await Promise.allSettled(members.map(mesh => mesh.members.rotate()))
  const secrets = () =>
    new Set(members.map(({ members }) => Buffer.from(members.membership.secret).toString('hex')))
  await until(() => secrets().size === 1)
  const home = await meshes.home(null)
  await joinMesh(home, await ticketOf(members[0]!), JOIN)
  expect((await readMembership(home))?.epoch).toBe(1)
  const d = await meshes.add('d', { home })
  await until(() => there(d).length === 3)
})

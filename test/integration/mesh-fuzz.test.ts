import { randomBytes } from 'node:crypto'
import { createSocket, type Socket } from 'node:dgram'
import { setTimeout as delay } from 'node:timers/promises'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Stream } from '@libp2p/interface'
import { afterEach, expect, test } from 'vitest'
import { z } from 'zod'
import type { Host } from '../../node/mesh/host.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { localIpv4 } from '../../node/mesh/interfaces.ts'
import { meshKeys } from '../../node/mesh/membership.ts'
import { checkMulticast } from '../../node/mesh/multicast.ts'
import { signedRoll } from '../../node/mesh/signed-roll.ts'
import { signerOf } from '../../node/mesh/signing.ts'
import { DIRECTORY_PROTOCOL } from '../../protocols/directory/constants.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { MEMBERSHIP_PROTOCOL } from '../../protocols/membership/constants.ts'
import { rotationBytes } from '../../protocols/membership/index.ts'
import { admittedMembership, signedStatement } from '../fixtures/admitted.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'
import { message, rawMember } from '../node/mesh/raw-member.ts'
import { mutateBytes, mutateJson, Random } from '../protocols/mutate.ts'

const SEED = 20_261_126
/** A peer that breaks the protocol is shut out, so each comes with an id of its own; a host takes 20 of them a second. */
const MEMBERS = 40
const MEMBER_MS = 70
const MESSAGES = 12
const ROTATIONS = 300
const PACKETS = 3000
/** A mesh of its own: its announcements must reach no other test. */
const secret = new Uint8Array(randomBytes(32))
const { interfaceTag, serviceTag } = meshKeys(secret)

const meshes = new Meshes()
afterEach(() => meshes.stop())

const ADDRESSES = [
  '/',
  '//',
  'x',
  '/p2p/x',
  `/p2p/${peerIdOf('p')}`,
  '/ip4/127.0.0.1/tcp/1',
  '/ip4/127.0.0.1/tcp/99999',
  '/ip6/::1/tcp/1',
  '/ip4/999.1.1.1/tcp/1',
  '/dns4/nowhere.invalid/tcp/1',
  'a'.repeat(250)
]

test('mutated sequences on the directory and membership protocols leave the node and an honest peer as they were', async () => {
  const random = new Random(SEED)
  const [a, b] = await pair()
  const recorded = await record(a)
  const counts = new Map<string, number>()
  for (let i = 0; i < MEMBERS; i++) {
    const pace = delay(MEMBER_MS)
    await using hostile = await rawMember(a, { secret })
    const stream = await hostile.newStream(a.peerId, [DIRECTORY_PROTOCOL])
    const sequence = Array.from({ length: MESSAGES }, () => random.pick(recorded))
    for (const [at, said] of sequence.entries()) {
      if (stream.status !== 'open') break
      stream.send(message(changed(said, hostile.peerId, at, random)))
    }
    await Promise.all([pace, Promise.race([closed(stream), delay(50)])])
    count(counts, stream.status === 'open' ? 'kept' : 'expelled')
    a.state()
  }
  await undisturbed(a, b, 5)

  // An owner that runs wild: what it signs is valid, and what it mutates mostly is not.
  const key = await generateKeyPair('Ed25519')
  const signer = signerOf(key)
  const membership = await admittedMembership(secret, signer.peerId, { owner: true })
  const { mesh } = membership
  await using hostile = await rawMember(a, { key, secret, membership })
  const agree = async (stream: Stream) => {
    const messages = new JsonStream(stream)
    await messages.send({ type: 'adopted' })
    await messages.close()
  }
  // A member that does not confirm a new secret is cut off.
  await hostile.handle([MEMBERSHIP_PROTOCOL], stream => void agree(stream).catch(() => {}), {
    maxInboundStreams: 64
  })
  const by = hostile.peerId
  const { proof, digest } = signedRoll(membership, signer).proof
  const hello = { type: 'hello', mesh, epoch: 0, proof, digest }
  for (let i = 0; i < ROTATIONS; i++) {
    const { epoch } = a.members.membership
    const next = { epoch: epoch + 1, secret: randomBytes(32).toString('hex'), by }
    const rotate = { type: 'rotate', ...next, signature: signer.sign(rotationBytes(mesh, next)) }
    const device = peerIdOf(`x${i % 300}`)
    const own = [
      signedStatement(mesh, signer, { type: 'ban', device, by, counter: 1 + (i % 5) }),
      signedStatement(mesh, signer, { type: 'admit', device: peerIdOf(`y${i}`), by, counter: 0 })
    ]
    const news = random.pick<object>([
      rotate,
      { ...hello, proof: [...proof, ...own] },
      { ...hello, proof: [...own, ...proof, { ...own[0]!, by: b.peerId }] },
      { type: 'redeem', mesh, code: '00'.repeat(16) }
    ])
    const sent = random.next() < 0.5 ? news : mutateJson(news, random)
    count(counts, `membership ${await told(hostile, a.peerId, sent)}`)
    a.state()
  }
  await undisturbed(a, b, 6)
  report('sequences', counts)
  expect(counts.get('kept')).toBeGreaterThan(0)
  expect(counts.get('expelled')).toBeGreaterThan(0)
  expect(counts.get('membership refused')).toBeGreaterThan(0)
  expect(counts.get('membership hello')).toBeGreaterThan(0)
  expect(a.members.banned.length).toBeGreaterThan(0)
  await until(() => b.members.banned.toSorted().join() === a.members.banned.toSorted().join())
  expect(b.members.membership.secret).toEqual(a.members.membership.secret)
})

const multicast = (await checkMulticast()).some(({ error }) => error === null)

test.skipIf(!multicast)(
  'broken mDNS packets leave the node as it was, and it still hears the good ones',
  async () => {
    const random = new Random(SEED)
    const [a, b] = await pair({ mdns: true, listen: '0.0.0.0' })
    const socket = await sender()
    const counts = new Map<string, number>()
    for (let i = 0; i < PACKETS; i++) {
      const id = random.pick([
        '',
        'x',
        'A'.repeat(44),
        'A'.repeat(63),
        a.peerId,
        b.peerId,
        peerIdOf(`p${i % 20}`)
      ])
      const [tag, key] = random.pick([
        [interfaceTag, 'a='],
        [serviceTag, 'dnsaddr=']
      ])
      const texts = Array.from({ length: random.below(4) }, () => key + random.pick(ADDRESSES))
      const whole = packet(tag, id, key === 'a=' ? texts : texts.map(text => `${text}/p2p/${id}`))
      const broken = random.next() < 0.5
      socket.send(broken ? mutateBytes(whole, random) : whole, 5353, '224.0.0.251')
      count(counts, broken ? 'broken' : 'odd')
      // A receive buffer that is full would drop what the test is about.
      if (i % 20 === 0) await delay(5)
    }
    await undisturbed(a, b, 5)
    const c = await meshes.add('c', { secret, mdns: true, listen: '0.0.0.0' })
    await until(() => c.peers.length === 2)
    report('mDNS packets', counts)
    socket.close()
  }
)

async function pair(options: { mdns?: boolean; listen?: string } = {}): Promise<[Mesh, Mesh]> {
  const a = await meshes.add('a', { secret, ...options })
  const b = await meshes.add('b', { secret, ...options, peers: a.addresses })
  await until(() => a.peers.length === 1 && b.peers.length === 1)
  return [a, b]
}

/** What the node itself says on a control stream in its first moments. */
async function record(target: Mesh): Promise<Record<string, unknown>[]> {
  await using member = await rawMember(target, { secret })
  const messages = new JsonStream(await member.newStream(target.peerId, [DIRECTORY_PROTOCOL]))
  await messages.send({ type: 'ping', at: 1 })
  const said: Record<string, unknown>[] = []
  const types = () => new Set(said.map(({ type }) => type))
  while (!['record', 'contacts', 'pong'].every(type => types().has(type)))
    said.push(await messages.read(z.record(z.string(), z.unknown()), { timeoutMs: 5000 }))
  return said
}

/** The message as `peerId` might send it, and in half of the cases something is wrong with it. */
function changed(said: Record<string, unknown>, peerId: string, sequence: number, random: Random): unknown {
  const own = structuredClone(said)
  if (own.type === 'record') Object.assign(own.record as object, { peerId, sequence })
  if (own.type === 'contacts') {
    own.contacts = Array.from({ length: random.below(8) }, () => ({
      peerId: peerIdOf(`p${random.below(600)}`),
      name: 'c',
      addresses: Array.from({ length: random.below(6) }, () =>
        random.pick(ADDRESSES.filter(text => text !== ''))
      )
    }))
  }
  return random.next() < 0.9 ? own : mutateJson(own, random)
}

/** What becomes of a change: the type of the reply, or of the error. */
async function told(hostile: Host, peerId: string, news: unknown): Promise<string> {
  let stream: Stream | undefined
  try {
    stream = await hostile.newStream(peerId, [MEMBERSHIP_PROTOCOL])
    const messages = new JsonStream(stream)
    stream.send(message(news))
    const reply = await messages.read(z.object({ type: z.string() }), { timeoutMs: 2000 })
    return reply.type
  } catch (error) {
    return (error as Error).name
  } finally {
    stream?.abort(new Error('that was all'))
    // The end of a stream makes room for the next one when the other side has seen it.
    await delay(2)
  }
}

function closed(stream: Stream): Promise<unknown> {
  return stream.status === 'open'
    ? new Promise(resolve => stream.addEventListener('close', resolve))
    : Promise.resolve()
}

async function undisturbed(a: Mesh, b: Mesh, freeBytes: number): Promise<void> {
  b.update({ memory: { budgetBytes: 1000, freeBytes } })
  await until(() =>
    a.peers.some(({ record }) => record.peerId === b.peerId && record.memory.freeBytes === freeBytes)
  )
  a.update({ memory: { budgetBytes: 1000, freeBytes } })
  await until(() =>
    b.peers.some(({ record }) => record.peerId === a.peerId && record.memory.freeBytes === freeBytes)
  )
}

async function sender(): Promise<Socket> {
  const socket = createSocket('udp4')
  await new Promise<void>(resolve => socket.bind(0, resolve))
  socket.setMulticastInterface(localIpv4()[0]!)
  return socket
}

/** A response with a PTR and a TXT record, as `tag`'s nodes send it. */
function packet(tag: string, instance: string, texts: string[]): Buffer {
  const name = (text: string) => [
    ...text.split('.').flatMap(label => [Uint8Array.of(label.length), Buffer.from(label)]),
    Uint8Array.of(0)
  ]
  const answer = (owner: string, type: number, parts: Uint8Array[]) => {
    const data = Buffer.concat(parts)
    return [...name(owner), Buffer.of(0, type, 0, 1, 0, 0, 0, 120, data.length >> 8, data.length & 255), data]
  }
  const full = `${instance}.${tag}`
  const strings = texts.flatMap(text => [Uint8Array.of(text.length), Buffer.from(text)])
  return Buffer.concat([
    Buffer.of(0, 0, 0x84, 0, 0, 0, 0, 2, 0, 0, 0, 0),
    ...answer(tag, 12, name(full)),
    ...answer(full, 16, strings)
  ])
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1)
}

function report(what: string, counts: Map<string, number>): void {
  process.stderr.write(`${what}: ${[...counts].map(([name, n]) => `${name} ${n}`).join(', ')}\n`)
}

import { generateKeyPair } from '@libp2p/crypto/keys'
import type { Stream } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { afterEach, expect, test } from 'vitest'
import { z } from 'zod'
import type { Host } from '../../node/mesh/host.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { MAX_CRITICAL_FIELDS } from '../../protocols/constants.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { PROTOCOLS, type ProtocolName } from '../../protocols/versions.ts'
import { Meshes, record, until } from '../node/mesh/fixtures.ts'
import { rawMember } from '../node/mesh/raw-member.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

const SHA = '0'.repeat(64)
const anything = z.record(z.string(), z.unknown())
/** As a later version might add it: to a message, to a body, to an entry of a list. */
const later = { colour: 'blue', shape: { sides: [3, 4] } }

async function open(from: Host, peerId: string, protocol: ProtocolName): Promise<JsonStream> {
  return new JsonStream(await from.newStream(peerId, PROTOCOLS[protocol]))
}

/** A member that speaks every protocol and, having the smaller id, opens the control stream. */
async function wholeMember(a: Mesh): Promise<Host & AsyncDisposable> {
  let key = await generateKeyPair('Ed25519')
  while (peerIdFromPrivateKey(key).toString() > a.peerId) key = await generateKeyPair('Ed25519')
  return await rawMember(a, { key, speaks: Object.values(PROTOCOLS).flat() })
}

/** The first message of a type. */
async function next(messages: JsonStream, ...types: string[]): Promise<Record<string, unknown>> {
  for (;;) {
    const message = await messages.read(anything, { timeoutMs: 20_000 })
    if (types.includes(message.type as string)) return message
  }
}

const reserve = { modelId: SHA, range: [0, 1], maxTokens: 1, sessions: 1 }
const leaseRequest = (over: object) => ({ type: 'reserve', id: 1, body: { ...reserve, ...over } })

test('a record, contacts and heartbeats with fields of a later version say what they say to this one', async () => {
  const a = await meshes.add('a')
  await using member = await wholeMember(a)
  const messages = await open(member, a.peerId, 'directory')
  const own = {
    ...record('later'),
    ...later,
    peerId: member.peerId,
    sequence: 1,
    hardware: { ...record('later').hardware, ...later },
    models: [{ name: 'm', id: SHA, layers: [[0, 2]], ...later }],
    leases: [{ modelId: SHA, layers: [0, 2], source: member.peerId, ...later }],
    links: { [a.peerId]: { outMbps: 5, inMbps: 5, rttMs: 1, spread: 0, ageMs: 0, ...later } },
    profiles: { [SHA]: { decoder: { decodeMs: 1, prefillMsPerToken: 1, ...later } } }
  }
  await messages.send({ type: 'record', record: own, ...later })
  await until(() => a.peers.length === 1)
  const [{ record: read, state }] = a.peers as [(typeof a.peers)[number]]
  expect(state).toBe('connected')
  expect(read).toMatchObject({
    name: 'later',
    models: [{ name: 'm' }],
    links: { [a.peerId]: { outMbps: 5 } }
  })
  expect(JSON.stringify(read)).not.toContain('blue')
  await messages.send({ type: 'contacts', contacts: [], ...later })
  await messages.send({ type: 'ping', at: 7, echo: { at: 1, heldMs: 1, ...later }, ...later })
  expect(await next(messages, 'pong')).toMatchObject({ echo: { at: 7 } })
})

test('requests of every other protocol with fields of a later version are answered', async () => {
  const a = await meshes.add('a')
  await using member = await rawMember(a)
  const lease = await open(member, a.peerId, 'lease')
  await lease.send({ ...leaseRequest({ ...later, requestId: 'r-1_A' }), ...later })
  expect(await lease.read(anything)).toMatchObject({ type: 'ok', body: { type: 'refused', code: 'memory' } })
  const weights = await open(member, a.peerId, 'weights')
  await weights.send({ sha256: SHA, offset: 0, credit: 65_536, ...later })
  expect(await weights.read(anything)).toMatchObject({ type: 'failed', code: 'absent' })
  const links = await open(member, a.peerId, 'links')
  await links.send({ type: 'echo', ...later })
  expect(await links.read(anything)).toEqual({ type: 'echo' })
  const membership = await open(member, a.peerId, 'membership')
  await membership.send({
    type: 'redeem',
    mesh: `${a.peerId}.${SHA.slice(32)}`,
    code: SHA.slice(32),
    ...later
  })
  expect(await membership.read(anything)).toMatchObject({ type: 'refused', code: 'other-mesh' })
})

test('answers with fields and words of a later version are understood as far as they can be', async () => {
  const a = await meshes.add('a')
  await using member = await rawMember(a)
  const serve = (protocol: ProtocolName, answers: (said: Record<string, unknown>) => object[]) =>
    member.handle(
      PROTOCOLS[protocol],
      (stream: Stream) => {
        const messages = new JsonStream(stream)
        const answer = async () => {
          for (;;) for (const each of answers(await messages.read(anything))) await messages.send(each)
        }
        answer().catch(() => {})
      },
      { maxInboundStreams: 8 }
    )
  await serve('lease', ({ type, id }) => {
    const granted = { type: 'granted', leaseId: 'ab', expiresInMs: 1000, ...later }
    const progress = { type: 'progress', id, body: { phase: 'load', done: 1, total: 2, ...later }, ...later }
    if (type === 'reserve') return [{ type: 'ok', id, body: granted, ...later }]
    if (type === 'load') return [progress, { type: 'ok', id, body: later, ...later }]
    return [{ type: 'failed', id, code: 'a-later-word', reason: 'on \u001b[2Jthe moon', ...later }]
  })
  await serve('weights', () => [{ type: 'failed', code: 'a-later-word', reason: 'moved', ...later }])
  // An answer comes once both ends have the connection.
  const links = await open(member, a.peerId, 'links')
  await links.send({ type: 'echo' })
  await links.read(anything)
  const lease = await a.lease(member.peerId)
  const reply = await lease.reserve({ modelId: SHA, range: [0, 1], maxTokens: 1, sessions: 1 })
  expect(reply).toEqual({ type: 'granted', leaseId: 'ab', expiresInMs: 1000 })
  const progress: object[] = []
  await lease.load(
    { leaseId: 'ab', holders: [], previous: a.peerId, next: a.peerId },
    { timeoutMs: 20_000, onProgress: event => progress.push(event) }
  )
  expect(progress).toEqual([{ phase: 'load', done: 1, total: 2 }])
  await expect(lease.renew('ab')).rejects.toMatchObject({
    code: 'internal',
    message: expect.stringMatching(/^on +\[2Jthe moon$/)
  })
  const fetching = a.fetchRaw(member.peerId, SHA, { maxBytes: 10 }).next()
  await expect(fetching).rejects.toMatchObject({ name: 'RemoteError', code: 'internal', message: 'moved' })
})

const CRITICAL: [ProtocolName, object, object][] = [
  [
    'lease',
    leaseRequest({ colour: 1, critical: ['maxTokens', 'colour'] }),
    { type: 'failed', code: 'not-understood' }
  ],
  [
    'weights',
    { sha256: SHA, offset: 0, credit: 65_536, critical: ['colour'] },
    { type: 'failed', code: 'internal' }
  ],
  ['links', { type: 'echo', colour: 1, critical: ['colour'] }, { type: 'refused' }],
  [
    'membership',
    { type: 'redeem', code: SHA.slice(32), colour: 1, critical: ['colour'] },
    { type: 'refused', code: 'internal' }
  ],
  ['directory', { type: 'ping', at: 1, colour: 1, critical: ['colour'] }, { type: 'refused' }]
]

test.each(CRITICAL)(
  'a %s message with a field that must be understood and is not is refused by that name',
  async (protocol, message, refusal) => {
    const a = await meshes.add('a')
    await using member = await rawMember(a)
    const messages = await open(member, a.peerId, protocol)
    await messages.send(message)
    const answer = await next(messages, 'failed', 'refused')
    expect(answer).toMatchObject({
      ...refusal,
      reason: expect.stringContaining("'colour' must be understood")
    })
  }
)

test('a lease stream goes on behind a request that was not understood, and critical fields that are known are fine', async () => {
  const a = await meshes.add('a')
  await using member = await rawMember(a)
  const messages = await open(member, a.peerId, 'lease')
  await messages.send(leaseRequest({ critical: ['colour'] }))
  expect(await messages.read(anything)).toMatchObject({ type: 'failed' })
  await messages.send({ ...leaseRequest({ critical: ['modelId', 'range'] }), critical: ['id', 'body'] })
  expect(await messages.read(anything)).toMatchObject({ type: 'ok', body: { code: 'memory' } })
  // Where the message around the body is not understood, no reply is sure to be read.
  await messages.send({ ...leaseRequest({}), critical: ['urgency'] })
  await expect(messages.read(anything)).rejects.toThrow()
})

test.each([
  ['names that do not end', Array.from({ length: MAX_CRITICAL_FIELDS + 1 }, () => 'id')],
  ['a name that does not end', ['x'.repeat(65)]],
  ['no list', 'id'],
  ['what is no name', [7]]
])('critical with %s ends the stream', async (_, critical) => {
  const a = await meshes.add('a')
  await using member = await rawMember(a)
  const messages = await open(member, a.peerId, 'lease')
  await messages.send({ ...leaseRequest({}), critical })
  await expect(messages.read(anything)).rejects.toThrow()
})

test('who says what this version must understand and cannot is incompatible from then on, and people hear of it', async () => {
  const [a] = await meshes.connected(['a', 'b'])
  const said: string[] = []
  a!.events.on('notice', message => said.push(message))
  await using member = await wholeMember(a!)
  const messages = await open(member, a!.peerId, 'directory')
  await messages.send({
    type: 'record',
    record: { ...record('later'), peerId: member.peerId, sequence: 1, links: {} }
  })
  const seen = () => a!.peers.find(peer => peer.record.peerId === member.peerId)
  await until(() => seen()?.state === 'connected')
  await messages.send({ type: 'beat', at: 1, critical: ['colour'] })
  await until(() => seen()?.state === 'incompatible')
  expect(seen()?.reason).toContain("field 'colour' must be understood")
  await until(() => said.length > 0)
  expect(said).toEqual([expect.stringMatching(/^later at .* is incompatible: .*'colour' must be understood/)])
})

test('a node hears that it was refused, too', async () => {
  const a = await meshes.add('a')
  await using member = await wholeMember(a)
  const said: string[] = []
  a.events.on('notice', message => said.push(message))
  const messages = await open(member, a.peerId, 'directory')
  await messages.send({ type: 'refused', reason: 'a message says\nthat its field is too new' })
  await until(() => said.length > 0)
  expect(said[0]).toContain('it refused: a message says that its field is too new')
  expect(a.peers[0]).toMatchObject({ state: 'incompatible', record: { peerId: member.peerId } })
})

import type { Stream } from '@libp2p/interface'
import { afterEach, expect, test } from 'vitest'
import type { PairingState } from '../../node/api.ts'
import type { Host } from '../../node/mesh/host.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { pairForTicket } from '../../node/mesh/pair.ts'
import { createPairingHost, hostEvents } from '../../node/mesh/pairing-host.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import { PAIRING_PROTOCOL } from '../../protocols/pairing/constants.ts'
import { JoinerSide } from '../../protocols/pairing/handshake.ts'
import { pair } from '../../protocols/pairing/index.ts'
import { confirmMessage, confirmReply, startMessage, startReply } from '../../protocols/pairing/messages.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { peerIdOf } from '../fixtures/peer-ids.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
const hosts: Host[] = []
afterEach(async () => {
  await Promise.all(hosts.splice(0).map(host => host.stop()))
  await meshes.stop()
})

const LONG = { timeoutMs: deadlineMs(20_000) }
const SIGNAL = { signal: new AbortController().signal }
const DEVICE = peerIdOf('device')

type Opened = Extract<PairingState, { open: true }>

async function opened(mesh: Mesh): Promise<Opened> {
  const state = await mesh.pairing.open()
  if (!state.open) throw new Error('pairing is not open')
  return state
}

async function member(): Promise<Mesh> {
  return await meshes.add('a', { home: await meshes.home(null) })
}

const otherThan = (code: string) => String((Number(code) + 1) % 1e6).padStart(6, '0')

/** A device that says what a test wants. */
async function rawHost(): Promise<Host> {
  const host = await createPairingHost({ port: 0, listen: '127.0.0.1' })
  hosts.push(host)
  await host.start(hostEvents({}))
  return host
}

/** A run of such a device with a member, as far as the member's share. */
async function begun(host: Host, at: string, code: string) {
  const stream = await host.newStream(at, [PAIRING_PROTOCOL])
  const messages = new JsonStream(stream)
  const side = new JoinerSide(code, { joiner: host.peerId, member: at }, DEVICE)
  await messages.send({ type: 'start', ...side.start })
  const reply = await messages.read(startReply, LONG)
  if (reply.type !== 'share') throw new Error(`the member says ${reply.code}`)
  return { messages, proof: side.answered(reply.share) }
}

const CLOSED = { type: 'refused', code: 'closed' }

/** Shows what a run has to show, and gives back what is said to it; nothing any more is as good as `closed`. */
async function confirmed({ messages, proof }: Awaited<ReturnType<typeof begun>>) {
  try {
    await messages.send({ type: 'confirm', tag: proof.tag })
    return await messages.read(confirmReply, LONG)
  } catch (error) {
    expect(error).toMatchObject({ name: expect.stringMatching(/StreamEndedError|StreamResetError/) })
    return CLOSED
  }
}

test('two devices pair: the code is typed once, the ticket is for that device, and pairing is closed', async () => {
  const a = await member()
  const { code, addresses } = await opened(a)
  const home = await meshes.home(null)
  const ticket = await pairForTicket(home, { addresses }, code, LONG)
  await expect(joinMesh(await meshes.home(null), ticket, { ...LONG, mdns: false })).rejects.toThrow(
    /another device/
  )
  expect(await joinMesh(home, ticket, { ...LONG, mdns: false })).toBe('joined')
  const b = await meshes.add('b', { home })
  await until(() => b.peers.length === 1)
  expect(a.pairing.state).toEqual({ open: false, end: 'paired', device: b.peerId, from: '127.0.0.1' })
  await expect(pairForTicket(await meshes.home(null), { addresses }, code, LONG)).rejects.toMatchObject({
    name: 'PairingError'
  })
  expect(a.members.state.devices.map(({ peerId }) => peerId)).toEqual([a.peerId, b.peerId])
})

test('who is given the address of a node in the place of that of its pairing hears which one to give', async () => {
  const a = await member()
  const { code } = await opened(a)
  const addresses = a.addresses.map(address => address.replace(/\/p2p\/.*/, ''))
  await expect(pairForTicket(await meshes.home(null), { addresses }, code, LONG)).rejects.toThrow(
    /takes no codes: give .* the address that 'edgeshard pair' prints/
  )
})

test('a device in the middle that hands on both handshakes, word for word, is refused, though the code is right', async () => {
  const a = await member()
  const { code, addresses } = await opened(a)
  const [towardsMember, towardsJoiner] = [await rawHost(), await rawHost()]
  const memberId = await towardsMember.dial(addresses)
  const handedOn: string[] = []
  await towardsJoiner.handle(
    [PAIRING_PROTOCOL],
    joiner => {
      const early: Uint8Array[] = []
      let other: Stream | undefined
      joiner.addEventListener('message', ({ data }) => {
        const bytes = data.subarray()
        handedOn.push('to the member')
        if (other === undefined) early.push(bytes)
        else other.send(bytes)
      })
      void towardsMember.newStream(memberId, [PAIRING_PROTOCOL]).then(stream => {
        other = stream
        stream.addEventListener('message', ({ data }) => {
          handedOn.push('to the joiner')
          joiner.send(data.subarray())
        })
        for (const bytes of early) stream.send(bytes)
      })
    },
    { maxInboundStreams: 1 }
  )
  const place = { addresses: towardsJoiner.addresses.map(text => text.replace(/\/p2p\/.*/, '')) }
  await expect(pairForTicket(await meshes.home(null), place, code, LONG)).rejects.toMatchObject({
    name: 'PairingError',
    isWrongCode: true
  })
  expect(new Set(handedOn)).toEqual(new Set(['to the member', 'to the joiner']))
  // It has cost one of the three tries, and nobody has a ticket.
  expect(a.pairing.state).toMatchObject({ open: true, code, triesLeft: 2 })
})

test('a mirror that plays the member is found out', async () => {
  const mirror = await rawHost()
  await mirror.handle(
    [PAIRING_PROTOCOL],
    stream => {
      const messages = new JsonStream(stream)
      const reflect = async () => {
        const { share } = await messages.read(startMessage, LONG)
        await messages.send({ type: 'share', share })
        const { tag } = await messages.read(confirmMessage, LONG)
        await messages.send({ type: 'ticket', tag, nonce: '00'.repeat(12), ticket: 'A'.repeat(64) })
      }
      reflect().catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: 1 }
  )
  const place = { addresses: mirror.addresses.map(text => text.replace(/\/p2p\/.*/, '')) }
  await expect(pairForTicket(await meshes.home(null), place, '123456', LONG)).rejects.toMatchObject({
    name: 'PairingError',
    isWrongCode: false,
    message: expect.stringContaining('does not know the code itself')
  })
})

test('of many runs side by side three are judged, and who knows the code comes too late after them', async () => {
  const a = await member()
  const { code, addresses } = await opened(a)
  const runs: Awaited<ReturnType<typeof begun>>[] = []
  for (const guess of [...Array.from({ length: 6 }, () => otherThan(code)), code]) {
    const host = await rawHost()
    runs.push(await begun(host, await host.dial(addresses), guess))
  }
  const [right, ...wrong] = runs.toReversed()
  const said = await Promise.all(wrong.map(confirmed))
  expect(said.filter(({ type }) => type === 'ticket')).toEqual([])
  const codes = said.map(answer => ('code' in answer ? answer.code : '')).sort()
  expect(codes).toEqual(['closed', 'closed', 'closed', 'wrong-code', 'wrong-code', 'wrong-code'])
  expect(a.pairing.state).toMatchObject({ open: false, end: 'tries' })
  expect(await confirmed(right!)).toEqual(CLOSED)
})

test('a run that is late finds it closed, in the same words whatever closed it', async () => {
  const a = await member()
  for (const close of ['paired', 'closed', 'tries']) {
    const { code, addresses } = await opened(a)
    const [late, other] = [await rawHost(), await rawHost()]
    const run = await begun(late, await late.dial(addresses), code)
    const at = await other.dial(addresses)
    if (close === 'closed') await a.pairing.close()
    if (close === 'paired')
      expect(await pair(other, at, { code, device: DEVICE }, SIGNAL)).toMatchObject({ type: 'ticket' })
    if (close === 'tries')
      for (let tries = 0; tries < 3; tries++)
        expect(await pair(other, at, { code: otherThan(code), device: DEVICE }, SIGNAL)).toMatchObject({
          code: 'wrong-code'
        })
    expect(a.pairing.state).toMatchObject({ open: false, end: close })
    expect(await confirmed(run)).toEqual(CLOSED)
  }
})

test('who says something else than it is its turn to say, too much or nonsense is reset, and has tried nothing', async () => {
  const a = await member()
  const { code, addresses } = await opened(a)
  const good = new JoinerSide(code, { joiner: 'x', member: 'y' }, DEVICE).start
  for (const said of [
    { type: 'confirm', tag: 'ab'.repeat(64) },
    { type: 'share', share: good.share },
    { type: 'ticket', tag: 'ab'.repeat(64), nonce: '00'.repeat(12), ticket: 'AAAA' },
    { type: 'start', ...good, share: '00'.repeat(32) },
    { type: 'start', ...good, share: 'ff'.repeat(32) },
    { type: 'start', ...good, device: 'nobody' },
    { type: 'start', ...good, sid: good.sid.toUpperCase().replace(/\d/g, 'F') },
    { type: 'start', ...good, more: 'x'.repeat(17_000) }
  ]) {
    const host = await rawHost()
    const stream = await host.newStream(await host.dial(addresses), [PAIRING_PROTOCOL])
    const messages = new JsonStream(stream)
    await messages.send(said)
    await expect(messages.read(startReply, LONG)).rejects.toMatchObject({
      name: expect.stringMatching(/StreamEndedError|StreamResetError/)
    })
  }
  expect(a.pairing.state).toMatchObject({ open: true, triesLeft: 3 })
})

test('its listener knows of no member: another id each time, and no protocol of members', async () => {
  const a = await member()
  const ids = []
  for (let round = 0; round < 2; round++) {
    const { addresses } = await opened(a)
    const host = await rawHost()
    const at = await host.dial(addresses)
    ids.push(at)
    for (const ids of Object.values(host.protocols))
      await expect(host.newStream(at, ids)).rejects.toMatchObject({ name: 'PeerLostError' })
  }
  expect(new Set([...ids, a.peerId]).size).toBe(3)
})

test('who joins may give up at any time', async () => {
  const a = await member()
  const { code, addresses } = await opened(a)
  const home = await meshes.home(null)
  await expect(
    pairForTicket(home, { addresses }, code, { ...LONG, signal: AbortSignal.abort(new Error('enough')) })
  ).rejects.toThrow('enough')
  expect(a.pairing.state).toMatchObject({ open: true, triesLeft: 3 })
})

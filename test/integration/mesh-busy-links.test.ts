import { generateKeyPair } from '@libp2p/crypto/keys'
import { afterEach, expect, test, vi } from 'vitest'
import { z } from 'zod'
import { splitAddress } from '../../node/mesh/contacts.ts'
import { Host } from '../../node/mesh/host.ts'
import { JsonStream } from '../../protocols/json-stream.ts'
import {
  GLANCE_PAUSE_MS,
  LINK_ECHOES,
  LINKS_PROTOCOL,
  MAX_GLANCE_BYTES,
  MIN_LINK_PIECE_BYTES
} from '../../protocols/links/constants.ts'
import { createLinkService, type LinkHandlers, type LinkService } from '../../protocols/links/index.ts'
import { sendBytes } from '../../protocols/stream.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { UNHEARD } from '../fixtures/unheard.ts'

const hosts: Host[] = []
afterEach(async () => {
  await Promise.all(hosts.splice(0).map(host => host.stop()))
})

/** @param serve what it is asked for, before it is reached */
async function startedHost(serve: (host: Host) => Promise<void> = async () => {}): Promise<Host> {
  const host = await Host.create({
    privateKey: await generateKeyPair('Ed25519'),
    prologue: new Uint8Array(32),
    serviceTag: undefined,
    port: 0,
    listen: '127.0.0.1',
    gate: { accepts: () => true, hasMet: () => true }
  })
  hosts.push(host)
  await serve(host)
  await host.start(UNHEARD)
  return host
}

/** Two hosts that measure, each of which says when tokens flow through it; a measurement gets `timeoutMs`. */
async function pair(
  busy: { here: () => boolean; there: () => boolean },
  timeoutMs = deadlineMs(20_000),
  handlers: Partial<LinkHandlers> = {}
) {
  const services: LinkService[] = []
  for (const isBusy of [busy.here, busy.there]) {
    await startedHost(async host => {
      services.push(await createLinkService(host, { isBusy, ...handlers }, { timeoutMs }))
    })
  }
  const [here, there] = hosts
  await here!.dial(there!.addresses.map(text => splitAddress(text).address))
  const measure = (signal?: AbortSignal) => services[0]!.measure(there!.peerId, { ...(signal && { signal }) })
  return { here: here!, there: there!, services, measure }
}

const idle = () => false

test('a link is measured with its round trip, both directions, spread and cost', async () => {
  const { measure } = await pair({ here: idle, there: idle })
  // On a machine with other work to do bursts cannot be timed now and then.
  const { outMbps, inMbps, rttMs, spread, cost } = await vi.waitFor(() => measure(), 20_000)
  expect(outMbps).toBeGreaterThan(1)
  expect(inMbps).toBeGreaterThan(1)
  expect(rttMs).toBeLessThan(1000)
  expect(spread).toBeLessThan(2)
  expect(cost).toBeGreaterThan(0)
})

test('while tokens flow at either end nothing is measured', async () => {
  const at = { here: true, there: false }
  const { measure } = await pair({ here: () => at.here, there: () => at.there })
  await expect(measure()).rejects.toMatchObject({ name: 'RemoteError', code: 'busy' })
  Object.assign(at, { here: false, there: true })
  await expect(measure()).rejects.toMatchObject({ name: 'RemoteError', code: 'busy' })
  at.there = false
  // A peer that was served waits for its next turn, and a busy machine times no bursts now and then.
  await vi.waitFor(() => expect(measure()).resolves.toMatchObject({ rttMs: expect.any(Number) }), 20_000)
})

test('tokens that begin to flow here end a measurement at its next burst', async () => {
  let asked = 0
  const { measure } = await pair({ here: () => ++asked > 2, there: idle })
  await expect(measure()).rejects.toMatchObject({ name: 'RemoteError', code: 'interrupted' })
})

test('tokens that begin to flow at the peer end it too, and the next measurement is free to begin', async () => {
  let asked = 0
  const { measure } = await pair({ here: idle, there: () => ++asked === 3 })
  await expect(measure()).rejects.toThrow()
  // A peer waits for its next turn as long as the last one took.
  await vi.waitFor(() => expect(measure()).resolves.toMatchObject({ rttMs: expect.any(Number) }), 20_000)
})

test('a look at a link is let in while tokens flow, at most once in a while, and no more comes of it', async () => {
  const { here, there, services } = await pair({ here: () => true, there: () => true })
  const { mbps, rttMs } = await services[0]!.glance(there.peerId)
  expect(mbps).toBeGreaterThan(0)
  expect(rttMs).toBeGreaterThan(0)
  await expect(services[0]!.glance(there.peerId)).rejects.toMatchObject({ code: 'busy' })
  await expect(services[0]!.measure(there.peerId)).rejects.toMatchObject({ code: 'busy' })
  const greedy = await raw(there, here)
  await greedy.send({ type: 'echo', glance: true })
  await greedy.read(anything)
  await greedy.send({ type: 'give', bytes: MAX_GLANCE_BYTES + 1 })
  await expect(greedy.read(anything)).rejects.toThrow()
})

test('a look both ways is let in while tokens flow', async () => {
  const { there, services } = await pair({ here: () => true, there: () => true })
  // On a machine with other work to do bursts cannot be timed now and then.
  const { mbps, out } = await vi.waitFor(() => services[0]!.glance(there.peerId, { isBothWays: true }), {
    timeout: deadlineMs(30_000),
    interval: 1.2 * GLANCE_PAUSE_MS
  })
  expect([mbps > 0, out!.mbps > 0]).toEqual([true, true])
})

test('a peer that says nothing when it is looked at holds up no other look, and is not looked at twice at once', async () => {
  const { here, there, services } = await pair({ here: () => true, there: () => true })
  const silent = await startedHost()
  const asked = vi.fn()
  await silent.handle([LINKS_PROTOCOL], asked, { maxInboundStreams: 2 })
  await here.dial(silent.addresses.map(text => splitAddress(text).address))
  const stalled = expect(services[0]!.glance(silent.peerId)).rejects.toThrow()
  await vi.waitFor(() => expect(asked).toHaveBeenCalled(), deadlineMs(10_000))
  // On a machine with other work to do bursts cannot be timed now and then.
  const looked = await services[0]!.glance(there.peerId).then(
    () => 'looked',
    error => error.code
  )
  expect(looked).not.toBe('busy')
  await expect(services[0]!.glance(silent.peerId)).rejects.toMatchObject({ code: 'busy' })
  await services[0]!.stop()
  await stalled
})

test('what a peer sends in a look is too little to count as measured here', async () => {
  const taken: string[] = []
  const onTaken = (peerId: string) => taken.push(peerId)
  const { here, there, services } = await pair({ here: idle, there: idle }, undefined, { onTaken })
  const looking = await raw(here, there)
  await looking.send({ type: 'echo', glance: true })
  await looking.read(anything)
  for (let i = 0; i < 2; i++) {
    await looking.send({ type: 'take', bytes: 4 * MIN_LINK_PIECE_BYTES })
    for (let piece = 0; piece < 4; piece++) {
      await sendBytes(looking.stream, new Uint8Array(MIN_LINK_PIECE_BYTES))
      await new Promise(resolve => setTimeout(resolve, 5))
    }
    await looking.read(anything)
  }
  await looking.close()
  // It may look back once it is done with that.
  await vi.waitFor(() => services[1]!.glance(here.peerId), { timeout: deadlineMs(30_000), interval: 500 })
  expect(taken).toEqual([])
})

test('a measurement says that an end was starved, and the other end learns what it took', async () => {
  const taken: [string, { mbps: number; isStarved: boolean }][] = []
  const { here, measure } = await pair({ here: idle, there: idle }, undefined, {
    watchStarvation: () => ({ isStarved: () => true, stop() {} }),
    onTaken: (peerId, rate) => taken.push([peerId, rate])
  })
  await vi.waitFor(() => expect(measure()).resolves.toMatchObject({ isStarved: true }), 20_000)
  await vi.waitFor(() => expect(taken.length).toBeGreaterThan(0), deadlineMs(5000))
  expect(taken[0]).toMatchObject([here.peerId, { isStarved: true }])
})

/** A stream on which the test itself speaks the protocol. */
async function raw(from: Host, to: Host): Promise<JsonStream> {
  return new JsonStream(await from.newStream(to.peerId, [LINKS_PROTOCOL]))
}

const anything = z.unknown()

test('a peer that drips is given up, here and there, and does not get its next turn at once', async () => {
  const { here, there, services } = await pair({ here: idle, there: idle }, 500)
  const measurer = services[1]!
  const dripping = await raw(here, there)
  await dripping.send({ type: 'echo' })
  await dripping.read(anything)
  await expect(measurer.measure(here.peerId)).rejects.toMatchObject({ code: 'busy' })
  await expect(dripping.read(anything)).rejects.toThrow()
  const again = await raw(here, there)
  await again.send({ type: 'echo' })
  expect(await again.read(anything)).toEqual({ type: 'busy' })
  // The other way: it takes the measurer's stream and never answers.
  await services[0]!.stop()
  await here.handle([LINKS_PROTOCOL], () => {}, { maxInboundStreams: 2 })
  await expect(measurer.measure(here.peerId)).rejects.toMatchObject({ name: 'DeadlineError' })
})

test('echoes are counted', async () => {
  const { here, there } = await pair({ here: idle, there: idle })
  const endless = await raw(here, there)
  let echoes = 0
  const flood = async () => {
    for (;;) {
      await endless.send({ type: 'echo' })
      await endless.read(anything)
      echoes++
    }
  }
  await expect(flood()).rejects.toThrow()
  expect(echoes).toBe(LINK_ECHOES)
})

test('a measurement ends when its signal aborts', async () => {
  const { there, services, measure } = await pair({ here: idle, there: idle })
  await services[1]!.stop()
  await there.handle([LINKS_PROTOCOL], () => {}, { maxInboundStreams: 2 })
  const cancel = new AbortController()
  const measuring = measure(cancel.signal)
  // The stream is not open yet, and a second one is refused already.
  await expect(measure()).rejects.toMatchObject({ code: 'busy' })
  setTimeout(() => cancel.abort(new Error('cancelled')), 50)
  await expect(measuring).rejects.toThrow('cancelled')
})

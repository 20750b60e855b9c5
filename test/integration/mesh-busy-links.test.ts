import { generateKeyPair } from '@libp2p/crypto/keys'
import { afterEach, expect, test } from 'vitest'
import { splitAddress } from '../../node/mesh/contacts.ts'
import { Host } from '../../node/mesh/host.ts'
import { createLinkService, type LinkService } from '../../protocols/links/index.ts'

const hosts: Host[] = []
afterEach(async () => {
  await Promise.all(hosts.splice(0).map(host => host.stop()))
})

/** Two hosts that measure, each of which says when tokens flow through it. */
async function pair(busy: { here: () => boolean; there: () => boolean }) {
  const services: LinkService[] = []
  for (const isBusy of [busy.here, busy.there]) {
    const host = await Host.create({
      privateKey: await generateKeyPair('Ed25519'),
      prologue: new Uint8Array(32),
      serviceTag: undefined,
      port: 0,
      listen: '127.0.0.1'
    })
    hosts.push(host)
    services.push(await createLinkService(host, { isBusy }))
    await host.start({
      onAnnounced() {},
      onConnected() {},
      onDisconnected() {},
      onListens() {},
      onTouched() {}
    })
  }
  const [here, there] = hosts
  await here!.dial(there!.addresses.map(text => splitAddress(text).address))
  return { measure: () => services[0]!.measure(there!.peerId) }
}

const idle = () => false

test('a link is measured with its round trip, both directions, spread and cost', async () => {
  const { measure } = await pair({ here: idle, there: idle })
  const { outMbps, inMbps, rttMs, spread, cost } = await measure()
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
  await expect(measure()).resolves.toMatchObject({ rttMs: expect.any(Number) })
})

test('tokens that begin to flow here end a measurement at its next burst', async () => {
  let asked = 0
  const { measure } = await pair({ here: () => ++asked > 2, there: idle })
  await expect(measure()).rejects.toMatchObject({ name: 'RemoteError', code: 'busy' })
})

test('tokens that begin to flow at the peer end it too, and the next measurement is free to begin', async () => {
  let asked = 0
  const { measure } = await pair({ here: idle, there: () => ++asked === 3 })
  await expect(measure()).rejects.toThrow()
  await expect(measure()).resolves.toMatchObject({ rttMs: expect.any(Number) })
})

import makeMdns from 'multicast-dns'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { InterfaceAnnouncer } from '../../../node/mesh/interface-announcer.ts'
import { localIpv4 } from '../../../node/mesh/interfaces.ts'
import { checkMulticast } from '../../../node/mesh/multicast.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { until } from './fixtures.ts'

const TAG = `_esi-test${process.pid}._udp.local`
const [OWN, PEER] = ['own', 'peer'].map(peerIdOf) as [string, string]
const works = (await checkMulticast()).some(({ error }) => error === null)

let heard: string[]
let answers: number
let announcer: InterfaceAnnouncer
let stranger: makeMdns.MulticastDNS
beforeEach(() => {
  heard = []
  answers = 0
  announcer = new InterfaceAnnouncer({
    peerId: OWN,
    serviceTag: TAG,
    intervalMs: 60_000,
    addresses: () => ['/ip4/10.0.0.1/tcp/1'],
    connected: () => [],
    sealedName: () => 'sealed',
    onOwnId: (addresses, name) => heard.push(`self at ${addresses.join(' ')} as ${name}`),
    onPeer: (peerId, addresses) => {
      heard.push(`${peerId} at ${addresses.join(' ')}`)
      if (addresses.length === 0) throw new Error('a listener that fails')
    }
  })
  stranger = makeMdns({ interface: localIpv4()[0]!, bind: '0.0.0.0' })
  stranger.on('response', ({ answers: list = [] }) => {
    if (list.some(({ name }) => name === `${OWN}.${TAG}`)) answers++
  })
  announcer.start()
})
afterEach(async () => {
  await announcer.stop()
  await new Promise<void>(resolve => stranger.destroy(resolve))
})

const says = (name: string, ...data: string[]) =>
  stranger.respond({ answers: [{ name: `${name}.${TAG}`, type: 'TXT', ttl: 120, data }] })

test.skipIf(!works)('odd packets end nothing, and the next good one is heard', async () => {
  for (const name of ['x', 'A'.repeat(44), `${PEER}1`]) says(name, 'a=/ip4/10.0.0.2/tcp/1')
  says(PEER, 'b=nothing')
  says(PEER, 'a=/ip4/10.0.0.2/tcp/1')
  await until(() => heard.includes(`${PEER} at /ip4/10.0.0.2/tcp/1`))
  const others = heard.filter(text => !text.startsWith('self'))
  expect(new Set(others)).toEqual(new Set([`${PEER} at `, `${PEER} at /ip4/10.0.0.2/tcp/1`]))
})

test.skipIf(!works)('the own id is heard with the addresses and the name that are said of it', async () => {
  says(OWN, 'a=/ip4/10.0.0.3/tcp/1', 'n=other')
  await until(() => heard.includes('self at /ip4/10.0.0.3/tcp/1 as other'))
  // Its own words come back to it on interfaces that loop multicast.
  for (const text of heard)
    expect(['self at /ip4/10.0.0.3/tcp/1 as other', 'self at /ip4/10.0.0.1/tcp/1 as sealed']).toContain(text)
})

test.skipIf(!works)('a flood of questions gets one answer a second', async () => {
  const startMs = performance.now()
  await until(() => answers > 0)
  for (let i = 0; i < 200; i++) {
    stranger.query({ questions: [{ name: TAG, type: 'PTR' }] })
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  expect(answers).toBeLessThanOrEqual(2 + (performance.now() - startMs) / 1000)
})

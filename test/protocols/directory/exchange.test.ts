import { expect, test } from 'vitest'
import { Exchange, type ExchangeMessage, type SignedRecord } from '../../../protocols/directory/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { SimulatedTime } from '../../node/mesh/simulated-relays.ts'

const [SUBJECT, LIAR, OTHER_LIAR, HONEST] = ['subject', 'liar', 'other liar', 'honest'].map(peerIdOf) as [
  string,
  string,
  string,
  string
]

function exchangeOf() {
  const time = new SimulatedTime()
  const known = new Map<string, SignedRecord>()
  const sent: { peerId: string; message: ExchangeMessage }[] = []
  const exchange = new Exchange({
    timers: time,
    send: (peerId, message) => void sent.push({ peerId, message }),
    get: device => known.get(device),
    lacks: (device, serial) => serial > (known.get(device)?.serial ?? -1),
    take: record => {
      known.set(record.device, record)
      return true
    }
  })
  const asked = () => sent.flatMap(({ peerId, message }) => (message.type === 'want' ? [peerId] : []))
  return { time, exchange, known, asked }
}

const have = (serial: number): ExchangeMessage => ({ type: 'have', records: [[SUBJECT, serial]] })
const signed = (serial: number): ExchangeMessage => ({
  type: 'signed',
  records: [{ device: SUBJECT, serial, text: '{}', signature: 'A'.repeat(86) }]
})

test('two that say again and again that they have the newest record, and never send it, keep it from nobody', () => {
  const { time, exchange, known, asked } = exchangeOf()
  // Those that lie are there first, so that they would be asked first.
  for (const peerId of [LIAR, OTHER_LIAR, HONEST]) exchange.joined(peerId, [])
  const isAsked = () => {
    for (const peerId of [LIAR, OTHER_LIAR]) exchange.heard(peerId, have(1_000_000))
    return asked().includes(HONEST)
  }
  isAsked()
  exchange.heard(HONEST, have(1))
  expect(time.pass(40_000, isAsked, 1000)).toBe(true)
  exchange.heard(HONEST, signed(1))
  expect(known.get(SUBJECT)?.serial).toBe(1)
  exchange.stop()
})

test('who was too slow once is asked again where no other one has the record', () => {
  const { time, exchange, known, asked } = exchangeOf()
  exchange.joined(HONEST, [])
  exchange.heard(HONEST, have(1))
  time.pass(15_000)
  expect(asked()).toEqual([HONEST])
  exchange.heard(HONEST, have(2))
  expect(time.pass(5000, () => asked().length === 2)).toBe(true)
  exchange.heard(HONEST, signed(2))
  expect(known.get(SUBJECT)?.serial).toBe(2)
  exchange.stop()
})

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeTicket, encodeTicket } from '../../../node/mesh/ticket.ts'

const NOW_MS = 1_800_000_000_000
const ticket = {
  secret: new Uint8Array(32).map((_, i) => i * 7),
  epoch: 3,
  addresses: [
    '/ip4/192.168.1.20/tcp/7446/p2p/12D3KooWDcYehMzndZcxD9qhj4ayzEX7zyJzsTRpQKcsXmTye2rg',
    '/ip6/fe80::1/tcp/7446/p2p/12D3KooWDcYehMzndZcxD9qhj4ayzEX7zyJzsTRpQKcsXmTye2rg'
  ],
  expiresAtMs: NOW_MS + 60_000
}

test('what was encoded is decoded, with white space around it too', () => {
  const word = encodeTicket(ticket)
  expect(word).toMatch(/^edgeshard1-[\w-]+$/)
  expect(decodeTicket(`\n ${word}\r\n`, NOW_MS)).toEqual(ticket)
})

test('an expired ticket and one from the far future say until when they are good', () => {
  expect(() => decodeTicket(encodeTicket(ticket), NOW_MS + 120_000)).toThrow(
    /only good until 2027-01-15T08:01/
  )
  expect(() => decodeTicket(encodeTicket(ticket), 0)).toThrow('only good until')
})

test('no change of a single character goes unnoticed', () => {
  const word = encodeTicket(ticket)
  fc.assert(
    fc.property(fc.nat(word.length - 1), fc.constantFrom(...'AZaz09-_ é/'), (at, character) => {
      const changed = word.slice(0, at) + character + word.slice(at + 1)
      // The last character carries two unused bits.
      fc.pre(changed !== word && at < word.length - 1)
      expect(() => decodeTicket(changed, NOW_MS)).toThrow(/ticket/)
    }),
    { numRuns: 2000 }
  )
})

test('whatever is piped in is either a ticket or a TicketError', () => {
  const hostile = fc.oneof(
    fc.string({ maxLength: 20_000 }),
    fc.uint8Array({ maxLength: 400 }).map(bytes => `edgeshard1-${Buffer.from(bytes).toString('base64url')}`)
  )
  fc.assert(
    fc.property(hostile, text => {
      expect(() => decodeTicket(text, NOW_MS)).toThrow(expect.objectContaining({ name: 'TicketError' }))
    }),
    { numRuns: 2000 }
  )
})

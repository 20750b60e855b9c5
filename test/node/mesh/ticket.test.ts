import fc from 'fast-check'
import { expect, test } from 'vitest'
import { decodeTicket, encodeTicket } from '../../../node/mesh/ticket.ts'
import { TicketBook } from '../../../node/mesh/tickets.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const NOW_MS = 1_800_000_000_000
const TTL_MS = 900_000
const [A, B] = [peerIdOf('a'), peerIdOf('b')]
const ticket = {
  secret: new Uint8Array(32).map((_, i) => i * 7),
  mesh: `${A}.${'0f'.repeat(16)}`,
  inviter: B,
  code: new Uint8Array(16).map((_, i) => i * 3),
  addresses: [
    '/ip4/192.168.1.20/tcp/7446/p2p/12D3KooWDcYehMzndZcxD9qhj4ayzEX7zyJzsTRpQKcsXmTye2rg',
    '/ip6/fe80::1/tcp/7446/p2p/12D3KooWDcYehMzndZcxD9qhj4ayzEX7zyJzsTRpQKcsXmTye2rg'
  ],
  expiresAtMs: NOW_MS + 60_000
}

test('what was encoded is decoded, with white space around it too', () => {
  const word = encodeTicket(ticket)
  expect(word).toMatch(/^edgeshard2-[\w-]+$/)
  expect(decodeTicket(`\n ${word}\r\n`)).toEqual(ticket)
  // As terminals, mails and chats break a long word.
  const broken = word.replace(/.{40}/g, '$&\r\n  ').replace(/.{7}/g, '$&\u00ad').replace('edge', 'edge\u200b')
  expect(broken).not.toBe(word)
  expect(decodeTicket(broken)).toEqual(ticket)
})

test('white space within a ticket is of the window that it was copied from', () => {
  const word = encodeTicket(ticket)
  for (const gap of ['\n', ' ', '\r\n    ', '\u00a0', '\t']) {
    expect(decodeTicket(word.replace(/.{40}/g, line => line + gap))).toEqual(ticket)
  }
})

test('no change of a single character goes unnoticed', () => {
  const word = encodeTicket(ticket)
  fc.assert(
    fc.property(fc.nat(word.length - 1), fc.constantFrom(...'AZaz09-_ é/'), (at, character) => {
      const changed = word.slice(0, at) + character + word.slice(at + 1)
      // The last character carries two unused bits.
      fc.pre(changed !== word && at < word.length - 1)
      expect(() => decodeTicket(changed)).toThrow(/ticket/)
    }),
    { numRuns: 2000 }
  )
})

test('whatever is piped in is either a ticket or a TicketError', () => {
  const hostile = fc.oneof(
    fc.string({ maxLength: 20_000 }),
    fc.uint8Array({ maxLength: 400 }).map(bytes => `edgeshard2-${Buffer.from(bytes).toString('base64url')}`)
  )
  fc.assert(
    fc.property(hostile, text => {
      expect(() => decodeTicket(text)).toThrow(expect.objectContaining({ name: 'TicketError' }))
    }),
    { numRuns: 2000 }
  )
})

test('a ticket of an earlier version says which device to update', () => {
  expect(() => decodeTicket('edgeshard1-AAAA')).toThrow(
    /of an earlier version: update the device that made it/
  )
})

test('a ticket is taken by one device, before it ends by the clock of the one that made it', () => {
  let nowMs = NOW_MS
  const book = new TicketBook([], () => nowMs)
  const [first, second] = [book.open(TTL_MS), book.open(TTL_MS)]
  expect(book.take(first.code, A)).toBeNull()
  expect(book.take(first.code, B)).toMatchObject({ code: 'ticket-used' })
  // The answer was lost, and the device asks again, but not for ever: it may have been put out since.
  expect(book.take(first.code, A)).toBeNull()
  nowMs += TTL_MS
  expect(book.take(first.code, A)).toMatchObject({ code: 'ticket-expired' })
  expect(book.take(second.code, B)).toEqual({
    code: 'ticket-expired',
    reason: expect.any(String),
    nowMs: NOW_MS + TTL_MS,
    expiresAtMs: NOW_MS + TTL_MS
  })
  expect(book.take(new Uint8Array(16), A)).toMatchObject({ code: 'ticket-unknown' })
  // It outlives a restart without being in the file.
  const file = JSON.stringify(book.tickets)
  expect(file).not.toContain(Buffer.from(first.code).toString('hex'))
  expect(new TicketBook(JSON.parse(file), () => nowMs).take(first.code, B)).toMatchObject({
    code: 'ticket-used'
  })
})

test('of very many tickets the newest are good', () => {
  const book = new TicketBook([], () => NOW_MS)
  const codes = Array.from({ length: 100 }, () => book.open(TTL_MS).code)
  expect(book.tickets.length).toBe(64)
  expect(book.take(codes[0]!, A)).toMatchObject({ code: 'ticket-unknown' })
  expect(book.take(codes.at(-1)!, A)).toBeNull()
})

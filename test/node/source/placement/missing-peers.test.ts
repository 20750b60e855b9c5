import { expect, test } from 'vitest'
import type { NodeRecord, PeerState } from '../../../../node/api.ts'
import { missingText } from '../../../../node/source/placement/missing-peers.ts'

/** Peers as the real ones are: their names hang on themselves. */
class Known {
  readonly names = new Map<string, string>()
  readonly known: Parameters<typeof missingText>[0]['known'] = []

  constructor(states: readonly [name: string, state: PeerState, lastSeenMs: number, direct?: boolean][]) {
    this.known = states.map(([name, state, lastSeenMs, direct = true], at) => {
      this.names.set(`${at}`, name)
      return {
        record: { peerId: `${at}` } as NodeRecord,
        ...{ state, lastSeenMs, direct, rttMs: null },
        ...{ connected: state === 'connected', suspect: state === 'suspect' }
      }
    })
  }

  nameOf(peerId: string): string {
    return this.names.get(peerId)!
  }
}

test('who is gone or silent is named, who went last first', () => {
  const peers = new Known([
    ['old', 'gone', 90_000],
    ['there', 'connected', 0],
    ['silent', 'suspect', 3100],
    ['far', 'suspect', 0, false],
    ['other version', 'incompatible', 0],
    ['new', 'gone', 2380]
  ])
  expect(missingText(peers)).toBe('new (gone 2.38 s ago), silent (silent for 3.10 s), old (gone 90.00 s ago)')
  expect(missingText(new Known([['there', 'connected', 0]]))).toBe('')
})

test('of very many only some are named', () => {
  const peers = new Known(Array.from({ length: 12 }, (_, at) => [`d${at}`, 'gone', 1000 * at]))
  expect(missingText(peers)).toMatch(/^d0 .*, d7 \(gone 7.00 s ago\), 4 more$/)
})

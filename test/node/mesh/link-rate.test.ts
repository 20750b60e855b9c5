import { expect, test } from 'vitest'
import { LinkRate, type Transfer } from '../../../node/mesh/link-rate.ts'
import { prng } from '../../fixtures/prng.ts'

/** Bytes of a prompt's chunk behind its first piece. */
const BYTES = 500_000

/** A table's part of the estimator: keeps what it says, and feeds it transfers over a link of a test's making. */
class Seen {
  mbps: number | undefined
  atMs = 0
  readonly #rate = new LinkRate()

  constructor(mbps: number | undefined) {
    this.mbps = mbps
  }

  /** A transfer over a link of `mbps` that is held up for `heldMs` besides. */
  transfer(mbps: number, { heldMs = 0, pauseMs = 100, ...options }: Held = {}): number | undefined {
    const ms = (8 * BYTES) / (1000 * mbps) + heldMs
    this.atMs += ms + pauseMs
    this.mbps = this.#rate.add({ bytes: BYTES, ms, ...options }, this.atMs, this.mbps)?.mbps ?? this.mbps
    return this.mbps
  }
}

interface Held extends Pick<Transfer, 'isLeast'> {
  heldMs?: number
  pauseMs?: number
}

test('a link that falls from 100 to 5 Mbps is known within 5 s of its traffic, and when it is back, too', () => {
  const seen = new Seen(100)
  for (let i = 0; i < 50; i++) seen.transfer(100)
  const fellAtMs = seen.atMs
  while (seen.transfer(5) !== 5) expect(seen.atMs - fellAtMs).toBeLessThan(5000)
  const roseAtMs = seen.atMs
  while (seen.mbps! < 90) {
    seen.transfer(100)
    expect(seen.atMs - roseAtMs).toBeLessThan(1000)
  }
})

test('transfers that are held up now and then are not a slow link', () => {
  const random = prng(7)
  const seen = new Seen(100)
  for (let i = 0; i < 300; i++) {
    seen.transfer(100, { heldMs: random() < 0.4 ? 300 * random() : 2 * random() })
    expect(seen.mbps).toBeGreaterThan(85)
    expect(seen.mbps).toBeLessThan(105)
  }
})

test('one that was as fast as ever says that the others were held up', () => {
  const seen = new Seen(100)
  for (let i = 0; i < 60; i++) seen.transfer(100, { heldMs: i % 6 === 0 ? 0 : 120 })
  expect(seen.mbps).toBe(100)
})

test('one transfer that was read late and all at once is not a fast link', () => {
  const seen = new Seen(20)
  for (let i = 0; i < 40; i++) seen.transfer(i % 10 === 9 ? 900 : 20)
  expect(seen.mbps).toBe(20)
})

test('with few transfers the last three say it', () => {
  const seen = new Seen(100)
  for (let i = 0; i < 3; i++) seen.transfer(100, { pauseMs: 8000 })
  for (let i = 0; i < 2; i++) expect(seen.transfer(5, { pauseMs: 8000 })).toBe(100)
  expect(seen.transfer(5, { pauseMs: 8000 })).toBe(5)
})

test('a sender that may have been slow itself says what the link is at least, and no more', () => {
  const seen = new Seen(100)
  for (let i = 0; i < 50; i++) seen.transfer(40, { isLeast: true })
  expect(seen.mbps).toBe(100)
  for (let i = 0; i < 3; i++) seen.transfer(400, { isLeast: true })
  expect(seen.mbps).toBeCloseTo(400)
  const unknown = new Seen(undefined)
  expect(unknown.transfer(40, { isLeast: true })).toBeUndefined()
  expect(unknown.transfer(40, { isLeast: true })).toBeCloseTo(40)
})

test('what took no time, or forever, or is no number, says nothing', () => {
  const rate = new LinkRate()
  for (const ms of [0, Number.NaN, Number.POSITIVE_INFINITY, -1])
    for (let i = 0; i < 3; i++) expect(rate.add({ bytes: 1e6, ms }, i, 100)).toBeUndefined()
})

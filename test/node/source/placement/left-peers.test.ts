import { expect, test } from 'vitest'
import { LATE_AVOID_MAX_MS, LATE_AVOID_MS, SLOW_AVOID_MS } from '../../../../node/constants.ts'
import { LeftPeers } from '../../../../node/source/placement/left-peers.ts'

function leftPeers() {
  const clock = { nowMs: 0 }
  const notices: string[] = []
  const left = new LeftPeers({ now: () => clock.nowMs, onNotice: message => void notices.push(message) })
  return { clock, notices, left }
}

test('a peer that was slow is left for a minute, however often, and in silence', () => {
  const { clock, notices, left } = leftPeers()
  for (let times = 0; times < 3; times++) {
    left.slow('b')
    expect(left.peerIds).toEqual(['b'])
    clock.nowMs += SLOW_AVOID_MS
    expect(left.peerIds).toEqual([])
  }
  expect(notices).toEqual([])
})

test('a peer that was late is left for longer each time, for a day at most, and named', () => {
  const { clock, notices, left } = leftPeers()
  const termsMs = Array.from({ length: 10 }, () => {
    left.late('b', 'b holds a load')
    const startMs = clock.nowMs
    while (left.peerIds.includes('b')) clock.nowMs += LATE_AVOID_MS
    return clock.nowMs - startMs
  })
  expect(termsMs.slice(0, 3)).toEqual([LATE_AVOID_MS, 2 * LATE_AVOID_MS, 4 * LATE_AVOID_MS])
  expect(Math.max(...termsMs)).toBe(LATE_AVOID_MAX_MS)
  expect(notices[0]).toBe('b holds a load; it is not taken for 10 minutes unless nothing fits without it')
})

test('a day without another time, and it begins anew', () => {
  const { clock, left } = leftPeers()
  left.late('b', 'b')
  clock.nowMs += LATE_AVOID_MS + LATE_AVOID_MAX_MS
  left.late('b', 'b')
  clock.nowMs += LATE_AVOID_MS
  expect(left.peerIds).toEqual([])
})

test('being slow does not shorten what being late costs', () => {
  const { clock, left } = leftPeers()
  left.late('b', 'b')
  left.slow('b')
  clock.nowMs += SLOW_AVOID_MS
  expect(left.peerIds).toEqual(['b'])
})

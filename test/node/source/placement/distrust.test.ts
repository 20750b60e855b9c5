import { expect, test } from 'vitest'
import {
  LATE_AVOID_MAX_MS,
  LATE_AVOID_MS,
  SLOW_AVOID_MS,
  WRONG_AVOID_MS
} from '../../../../node/constants.ts'
import { Distrust } from '../../../../node/source/placement/distrust.ts'

function distrusting() {
  const clock = { nowMs: 0 }
  const notices: string[] = []
  const distrust = new Distrust({ now: () => clock.nowMs, onNotice: message => void notices.push(message) })
  return { clock, notices, distrust }
}

test('a peer that was slow is left for a minute, however often, and in silence', () => {
  const { clock, notices, distrust } = distrusting()
  for (let times = 0; times < 3; times++) {
    distrust.slow('b')
    expect(distrust.leftPeerIds).toEqual(['b'])
    clock.nowMs += SLOW_AVOID_MS
    expect(distrust.leftPeerIds).toEqual([])
  }
  expect(notices).toEqual([])
})

test('a peer that was late is left for longer each time, for a day at most, and named', () => {
  const { clock, notices, distrust } = distrusting()
  const termsMs = Array.from({ length: 10 }, () => {
    distrust.late('b', 'b holds a load')
    const startMs = clock.nowMs
    while (distrust.leftPeerIds.includes('b')) clock.nowMs += LATE_AVOID_MS
    return clock.nowMs - startMs
  })
  expect(termsMs.slice(0, 3)).toEqual([LATE_AVOID_MS, 2 * LATE_AVOID_MS, 4 * LATE_AVOID_MS])
  expect(Math.max(...termsMs)).toBe(LATE_AVOID_MAX_MS)
  expect(notices[0]).toBe('b holds a load; it is not taken for 10 minutes unless nothing fits without it')
})

test('a day without another time, and it begins anew', () => {
  const { clock, distrust } = distrusting()
  distrust.late('b', 'b')
  clock.nowMs += LATE_AVOID_MS + LATE_AVOID_MAX_MS
  distrust.late('b', 'b')
  clock.nowMs += LATE_AVOID_MS
  expect(distrust.leftPeerIds).toEqual([])
})

test('whose answer is wrong is left for a day where it was alone with it, and named in any case', () => {
  const { clock, notices, distrust } = distrusting()
  distrust.wrong(['b', 'c'], 'one of b, c lied')
  expect(distrust.leftPeerIds).toEqual([])
  distrust.wrong(['b'], 'b lied')
  expect(distrust.leftPeerIds).toEqual(['b'])
  expect(notices).toEqual([
    'one of b, c lied',
    'b lied; it is not taken for 24 hours unless nothing fits without it'
  ])
  clock.nowMs += WRONG_AVOID_MS
  expect(distrust.leftPeerIds).toEqual([])
})

test('whose figures contradict what was measured is named once', () => {
  const { notices, distrust } = distrusting()
  for (const peerId of ['b', 'b', 'c']) distrust.contradicted(peerId, `${peerId} boasts`)
  expect(notices).toEqual(['b boasts', 'c boasts'])
  expect(distrust.leftPeerIds).toEqual([])
})

test('being slow does not shorten what being late costs', () => {
  const { clock, distrust } = distrusting()
  distrust.late('b', 'b')
  distrust.slow('b')
  clock.nowMs += SLOW_AVOID_MS
  expect(distrust.leftPeerIds).toEqual(['b'])
})

test('who was left last is taken again last, and after all others whose answer was wrong', () => {
  const { clock, distrust } = distrusting()
  distrust.wrong(['w'], 'w lied')
  for (const peerId of ['b', 'c', 'b']) {
    clock.nowMs += 1
    distrust.slow(peerId)
  }
  expect(distrust.leftPeerIds).toEqual(['c', 'b', 'w'])
})

test('a peer that was wrong long ago is merely slow when it is slow', () => {
  const { clock, distrust } = distrusting()
  distrust.wrong(['w'], 'w lied')
  clock.nowMs += WRONG_AVOID_MS
  expect(distrust.leftPeerIds).toEqual([])
  distrust.slow('w')
  expect(distrust.wrongSinceMs('w')).toBeUndefined()
})

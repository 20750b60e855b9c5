import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Meetings } from '../../../node/mesh/meetings.ts'
import type { Meeting } from '../../../protocols/membership/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'

const [A, B, SELF, Z] = ['a', 'b', 'm', 'z'].map(peerIdOf) as [string, string, string, string]

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Meetings of a node in the middle of the ids; `answer` is what becomes of one that it opens. */
function made(answer: (peerId: string) => Promise<Meeting> = async () => ({ type: 'met', epoch: 0 })) {
  const said: string[] = []
  const opened: string[] = []
  let digest = 'd1'
  const meetings = new Meetings({
    peerId: SELF,
    meet: peerId => {
      opened.push(peerId)
      return answer(peerId)
    },
    disconnect: (peerId, { message }) => void said.push(`cut ${peerId}: ${message}`),
    digest: () => digest,
    onMet: peerId => void said.push(`met ${peerId}`),
    onRefused: (peerId, by, { code }) => void said.push(`refused ${peerId} by ${by}: ${code}`)
  })
  return {
    meetings,
    said,
    opened,
    learn: (next: string, from?: string) => {
      digest = next
      meetings.changed(from)
    }
  }
}

test('only who was judged to be in is served, and only who has judged so is spoken with', () => {
  const { meetings, said } = made()
  meetings.connected(A)
  expect([meetings.accepts(A), meetings.hasMet(A)]).toEqual([false, false])
  meetings.met(A, 0)
  expect([meetings.accepts(A), meetings.hasMet(A), said]).toEqual([false, false, []])
  meetings.judged(A, null, 'd1')
  expect([meetings.accepts(A), meetings.hasMet(A)]).toEqual([true, false])
  meetings.met(A, 0)
  meetings.met(A, 0)
  expect([meetings.accepts(A), meetings.hasMet(A), said]).toEqual([true, true, [`met ${A}`]])
  meetings.disconnected(A)
  meetings.judged(A, null, 'd1')
  expect([meetings.accepts(A), meetings.hasMet(A)]).toEqual([false, false])
})

test('the smaller id opens the meeting, and again where it broke; the larger one when none has come', async () => {
  let broken = 2
  const { meetings, opened } = made(async () => {
    if (broken-- > 0) throw new Error('the stream ended')
    return { type: 'met', epoch: 0 }
  })
  meetings.connected(Z)
  await vi.advanceTimersByTimeAsync(5000)
  expect(opened).toEqual([Z, Z, Z])
  meetings.connected(A)
  meetings.connected(B)
  meetings.judged(B, null, 'd1')
  await vi.advanceTimersByTimeAsync(1900)
  expect(opened).toEqual([Z, Z, Z])
  await vi.advanceTimersByTimeAsync(200)
  expect(opened).toEqual([Z, Z, Z, A])
})

test('who proves nothing is cut off in time, and a crowd of such is cut off by its oldest', async () => {
  const { meetings, said } = made()
  meetings.connected(A)
  meetings.connected(B)
  meetings.judged(B, null, 'd1')
  meetings.met(B, 0)
  await vi.advanceTimersByTimeAsync(9000)
  expect(said).toEqual([`met ${B}`])
  await vi.advanceTimersByTimeAsync(2000)
  expect(said.slice(1)).toEqual([`cut ${A}: it has not proven that it was admitted`])
  for (let i = 0; i < 70; i++) meetings.connected(peerIdOf(`x${String(i).padStart(2, '0')}`))
  const crowd = said.slice(2)
  expect(crowd).toEqual(
    Array.from({ length: 6 }, (_, i) => `cut ${peerIdOf(`x0${i}`)}: others wait to prove themselves`)
  )
  expect(meetings.hasMet(B)).toBe(true)
  meetings.stop()
})

test('who is refused hears why before it is cut off, and is not served meanwhile', async () => {
  const { meetings, said } = made()
  meetings.connected(A)
  meetings.judged(A, null, 'd1')
  meetings.met(A, 0)
  meetings.judged(A, { code: 'banned', reason: 'it is banned' }, 'd1')
  expect([meetings.accepts(A), meetings.hasMet(A)]).toEqual([false, false])
  expect(said.slice(1)).toEqual([`refused ${A} by self: banned`])
  await vi.advanceTimersByTimeAsync(1000)
  expect(said.slice(2)).toEqual([`cut ${A}: it is banned`])
})

test('whoever does not know what has changed is met again, and nobody else', async () => {
  const { meetings, opened, learn } = made()
  for (const [peerId, digest] of [
    [A, 'd1'],
    [B, 'd2']
  ] as const) {
    meetings.connected(peerId)
    meetings.judged(peerId, null, digest)
    meetings.met(peerId, 0)
  }
  learn('d2')
  await vi.advanceTimersByTimeAsync(0)
  expect(opened).toEqual([A])
  meetings.agreed(A)
  // The next news come from the other one.
  learn('d3', B)
  meetings.agreed(B)
  await vi.advanceTimersByTimeAsync(0)
  expect(opened).toEqual([A, A])
  meetings.agreed(A)
  learn('d3')
  await vi.advanceTimersByTimeAsync(0)
  expect(opened).toEqual([A, A])
})

test('news that come during a meeting lead to another one', async () => {
  const ends: (() => void)[] = []
  const { meetings, opened, learn } = made(
    () => new Promise(resolve => ends.push(() => resolve({ type: 'met', epoch: 0 })))
  )
  meetings.connected(Z)
  meetings.judged(Z, null, 'd1')
  learn('d2')
  expect(opened).toEqual([Z])
  meetings.agreed(Z)
  meetings.met(Z, 0)
  ends.shift()!()
  await vi.advanceTimersByTimeAsync(0)
  expect(opened).toEqual([Z, Z])
})

import { expect, test } from 'vitest'
import { WAIT_FOR_PEERS_MS } from '../../../../node/constants.ts'
import type { Refusal } from '../../../../node/plan/index.ts'
import { Refusals, type RefusalsComponents } from '../../../../node/source/placement/refusals.ts'
import { meshOf, needsOf } from '../simulated-answer.ts'

const refusal = (over: Partial<Refusal> = {}) =>
  ({ feasible: false, reason: 'too large', ...over }) as Refusal

function refusalsOf({ ids = ['a', 'b'], draining = [] as string[], planner = {} }) {
  const clock = { nowMs: 0 }
  const source = meshOf(ids).get('a')
  const { planning } = source.source()
  const components: RefusalsComponents = {
    peers: {
      peerId: 'a',
      known: source.peers.known,
      nameOf: peerId => `${peerId}'s name`
    },
    devices: { candidates: needs => planning.candidates(needs), draining },
    planner: { solve: async () => refusal({ reason: 'explained' }), ...planner },
    now: () => clock.nowMs
  }
  return { clock, refusals: new Refusals(components) }
}

test('a refusal stands for the same request for a while', () => {
  const { clock, refusals } = refusalsOf({})
  const [key, other] = [needsOf(), { ...needsOf(), exact: true }].map(needs => refusals.keyOf(needs))
  refusals.keep(key!, 'fits nowhere')
  expect([refusals.standing(key!), refusals.standing(other!)]).toEqual(['fits nowhere', undefined])
  clock.nowMs = 2 * WAIT_FOR_PEERS_MS
  expect(refusals.standing(key!)).toBe('fits nowhere')
  clock.nowMs++
  expect(refusals.standing(key!)).toBeUndefined()
})

test('a request is another one where a device has come', () => {
  const [two, three] = [
    ['a', 'b'],
    ['a', 'b', 'c']
  ].map(ids => refusalsOf({ ids }).refusals.keyOf(needsOf()))
  expect(two).not.toBe(three)
})

test('what would help is said where it can be worked out, and who was not counted always', async () => {
  const scenario = {} as NonNullable<Parameters<Refusals['messageOf']>[2]>
  const { refusals } = refusalsOf({})
  expect(await refusals.messageOf(needsOf(), refusal())).toBe('model fits nowhere: too large')
  expect(await refusals.messageOf(needsOf(), refusal(), scenario)).toBe('model fits nowhere: explained')
  const planner = { solve: () => Promise.reject(new Error('the thread has stopped')) }
  const { refusals: failing } = refusalsOf({ planner, draining: ['b'] })
  const message = await failing.messageOf(needsOf(), refusal(), scenario)
  expect(message).toBe('model fits nowhere: too large')
  expect(failing.withMissing(message)).toBe(`${message}; being drained, and not counted: b's name`)
  const { refusals: alone } = refusalsOf({ ids: ['a'] })
  expect(alone.withMissing('too large')).toBe('too large; no peer was found, see edgeshard peers')
})

test('devices that are what is wrong are called by their names', () => {
  const { refusals } = refusalsOf({})
  expect(refusals.reasonOf(refusal({ reason: 'id1 | id2', apart: [['id1', 'id2']] }))).toBe(
    "id1's name | id2's name"
  )
  expect(refusals.reasonOf(refusal({ reason: 'id1 | id2' }))).toBe('id1 | id2')
})

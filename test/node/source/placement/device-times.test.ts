import { expect, test } from 'vitest'
import type { LayerProfile } from '../../../../node/api.ts'
import { UNTESTED_SPEEDUP } from '../../../../node/constants.ts'
import { assumedTimes } from '../../../../node/source/placement/assumed-times.ts'
import { DeviceTimes } from '../../../../node/source/placement/device-times.ts'
import { meshOf, needsOf } from '../simulated-answer.ts'

const { model } = needsOf()
const at = (decodeMs: number): LayerProfile => ({ decoder: { decodeMs, prefillMsPerToken: decodeMs / 4 } })

/** Two devices, a and b, that say so of the model, and what answers have measured of b. */
function timesOf({ own, claimed, measured }: { own?: number; claimed?: number; measured?: number }) {
  const record = (peerId: string, ms: number | undefined) => {
    const { self } = meshOf([peerId]).get(peerId).peers
    return { ...self, profiles: ms === undefined ? {} : { [model.id]: at(ms) } }
  }
  const [a, b] = [record('a', own), record('b', claimed)]
  const state = { state: 'connected' as const, connected: true, direct: true, suspect: false }
  const known = [{ ...state, record: b, rttMs: 1, lastSeenMs: 0 }]
  const corrections = {
    profileOf: () => (measured === undefined ? undefined : at(measured)),
    measuredFactor: () => (measured === undefined ? undefined : 1)
  }
  const times = new DeviceTimes({
    peers: { peerId: 'a', self: a, known },
    corrections,
    others: () => [{ record: b, memoryBytes: 0, rttMs: 1 }]
  })
  return { times, believed: times.believed([{ record: a }, { record: b }], model) }
}

test('this device goes by what it has timed, else by what another has, else by what the bytes say', () => {
  expect(timesOf({ own: 5, claimed: 3 }).times.own(model)).toEqual(at(5))
  const assumed = assumedTimes(model.manifest)
  const near = assumed.decoder!.decodeMs
  expect(timesOf({ claimed: near }).times.own(model)).toEqual(at(near))
  expect(timesOf({}).times.own(model)).toEqual(assumed)
})

test('of another device what answers have measured counts, else what it says as far as that can be true', () => {
  expect(timesOf({ own: 8, claimed: 4, measured: 3 }).believed).toEqual([at(8), at(3)])
  expect(timesOf({ own: 8, claimed: 6 }).believed).toEqual([at(8), at(6)])
  expect(timesOf({ own: 8, claimed: 1e-6 }).believed[1]).toEqual(at(8 / UNTESTED_SPEEDUP))
  expect(timesOf({ own: 8 }).believed).toEqual([at(8), undefined])
})

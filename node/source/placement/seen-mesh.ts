import { timesOn } from '../../record-processors.ts'
import { type Place, placesOf } from './candidate.ts'
import { placeKey } from './places.ts'
import type { Planning } from './planning.ts'

/** Rates within that factor of each other are alike: they vary without anything having happened. */
const ALIKE_FACTOR = 1.4
/** Shorter round trips make no other plan, and on busy devices they vary most. */
const LEAST_RTT_MS = 2

type SeenPlanning = Pick<Planning, 'candidates' | 'corrections' | 'links' | 'draining'>

/** What each of the other devices is to a plan, whatever its times and links: a device that joins or is drained is here or not. */
export function seenDevices(planning: Pick<Planning, 'candidates'>, modelId: string): Map<string, string> {
  return new Map(
    planning.candidates().peers.map(candidate => {
      const places = placesOf(candidate, modelId).map(place => isOf(place, modelId))
      return [candidate.record.peerId, JSON.stringify(places)]
    })
  )
}

/** Those of which two views differ. */
export function changedDevices(
  before: ReadonlyMap<string, string>,
  now: ReadonlyMap<string, string>
): string[] {
  const peerIds = new Set([...before.keys(), ...now.keys()])
  return [...peerIds].filter(peerId => before.get(peerId) !== now.get(peerId))
}

/** The devices and links of now, and what answers have taught of them, as far as they make another plan: the same text for the same. */
export function seenMesh(planning: SeenPlanning, modelId: string): string {
  const { peers } = planning.candidates()
  const places = peers.flatMap(candidate => placesOf(candidate, modelId))
  const step = (value: number) => Math.round(Math.log(value) / Math.log(ALIKE_FACTOR))
  const devices = places.map(each => {
    const { record, processor } = each
    const place = { peerId: record.peerId, processor }
    const [key, models, borrowed] = isOf(each, modelId)
    const { single, batched } = planning.corrections.computeFactors({ ...place, modelId, borrowed })
    return [key, models, borrowed, step(single), step(batched)]
  })
  // The first heartbeats of a device that has just started are late, and those behind them say how far it is.
  const trips = peers.map(({ record: { peerId }, rttMs }) => [
    peerId,
    rttMs === null ? null : step(Math.max(LEAST_RTT_MS, rttMs))
  ])
  // Texts are sorted much sooner than lists: a large mesh has thousands of links, and the directory changes often.
  const links = planning.links.map(({ from, to, mbps }) => `${from} ${to} ${step(mbps)}`)
  return JSON.stringify([devices.sort(), trips.sort(), links.sort(), planning.draining])
}

/** What a place is, the models that it has timed, and whether this one is none of them. */
function isOf({ record, processor }: Place, modelId: string): [string, string[], boolean] {
  const key = placeKey({ peerId: record.peerId, processor })
  return [key, Object.keys(record.profiles).sort(), timesOn(record, modelId, processor) === undefined]
}

import { timesOn } from '../../record-processors.ts'
import { placesOf } from './candidate.ts'
import { placeKey } from './places.ts'
import type { Planning } from './planning.ts'

/** Rates within that factor of each other are alike: they vary without anything having happened. */
const ALIKE_FACTOR = 1.4
/** Shorter round trips make no other plan, and on busy devices they vary most. */
const LEAST_RTT_MS = 2

/** The devices and links of now, and what answers have taught of them, as far as they make another plan: the same text for the same. */
export function seenMesh(
  planning: Pick<Planning, 'candidates' | 'corrections' | 'links' | 'draining'>,
  modelId: string
): string {
  const { peers } = planning.candidates()
  const places = peers.flatMap(candidate => placesOf(candidate, modelId))
  const step = (value: number) => Math.round(Math.log(value) / Math.log(ALIKE_FACTOR))
  const devices = places.map(({ record, processor }) => {
    const place = { peerId: record.peerId, processor }
    const borrowed = timesOn(record, modelId, processor) === undefined
    const { single, batched } = planning.corrections.computeFactors({ ...place, modelId, borrowed })
    return [placeKey(place), Object.keys(record.profiles).sort(), borrowed, step(single), step(batched)]
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

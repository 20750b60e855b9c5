import type { LayerProfile, NodeRecord } from '../../api.ts'
import { medianOf } from '../median.ts'

type Timed = Pick<NodeRecord, 'profiles'>

/** Layers that take no more than so many times as long are alike: small ones take microseconds, timed while nodes start. */
const ALIKE_FACTOR = 1.5

/** What is further from what its bytes say is no time of a device that this one is like, whoever claims it. */
const MOST_FACTOR = 16

/**
 * Times of a model on a device that has not timed it: those of one that has, as many times as long as another model's layers take
 * here of what they take there; a device that has timed nothing yet, having just started, is like the others. Of several the median.
 *
 * @param assumed what the model's bytes say
 * @returns undefined where nobody has timed it who has timed another model that this device has timed, too
 */
export function likenedTimes(
  own: Timed,
  others: readonly Timed[],
  { modelId, assumed }: { modelId: string; assumed: LayerProfile }
): LayerProfile | undefined {
  const isNew = Object.keys(own.profiles).length === 0
  const isLikely = ({ decoder }: LayerProfile) => {
    const factor = decoder!.decodeMs / assumed.decoder!.decodeMs
    return factor < MOST_FACTOR && factor > 1 / MOST_FACTOR
  }
  const likened = others.flatMap(({ profiles }) => {
    const times = profiles[modelId]
    const factor = isNew ? 1 : factorOf(own.profiles, profiles)
    return times?.decoder === undefined || factor === undefined ? [] : [scaled(times, factor)]
  })
  const byTime = likened.filter(isLikely).sort((a, b) => a.decoder!.decodeMs - b.decoder!.decodeMs)
  return byTime[byTime.length >> 1]
}

/** How many times as long layers take here as there, in the median of the models that both have timed. */
function factorOf(own: Timed['profiles'], other: Timed['profiles']): number | undefined {
  const factors = Object.entries(own).flatMap(([id, { decoder }]) => {
    const there = other[id]?.decoder
    return decoder === undefined || there === undefined || !(there.decodeMs > 0)
      ? []
      : [decoder.decodeMs / there.decodeMs]
  })
  const factor = medianOf(factors)
  return factor !== undefined && factor < ALIKE_FACTOR && factor > 1 / ALIKE_FACTOR ? 1 : factor
}

/** All times of a profile, however they are listed. */
function scaled(profile: LayerProfile, factor: number): LayerProfile {
  const times = (value: unknown): unknown =>
    typeof value === 'number'
      ? factor * value
      : Object.fromEntries(Object.entries(value as object).map(([at, ms]) => [at, times(ms)]))
  return times(profile) as LayerProfile
}

/** What sets of devices can hold at all, links and costs aside. */
import type { Chain } from './chain.ts'
import type { Scope } from './relax.ts'

/** Sets are worked out one by one: 2^16 of them at most. */
const MAX_DEVICES = 16
/** Memory seldom decides where there is room for more than this times the layers. */
const AMPLE = 2

/**
 * For every set of the candidates (a bit each) the first layer from which it can hold all the rest, in the
 * best order; undefined where there are too many sets, or so much room that it is not worth it.
 *
 * Exact, because a device that starts earlier never ends later: for the last device of a set only the
 * earliest start of the others matters.
 */
export function coverStarts(
  chain: Chain,
  scope: Scope,
  candidates: readonly number[]
): Int16Array | undefined {
  const { layers, capacity } = chain
  const room = candidates.reduce((sum, k) => sum + capacity[k]!, 0)
  if (candidates.length > MAX_DEVICES || room > AMPLE * layers) return undefined
  const firstFit = candidates.map(k => firstFits(chain, k))
  const tail = scope.tailOpen.indexOf(1)
  const starts = new Int16Array(2 ** candidates.length)
  starts[0] = tail < 0 ? layers : tail
  for (let set = 1; set < starts.length; set++) {
    let earliest = layers
    for (let c = 0; c < candidates.length; c++) {
      if (((set >> c) & 1) === 0) continue
      const start = firstFit[c]![starts[set ^ (1 << c)]!]!
      if (start < earliest) earliest = start
    }
    starts[set] = earliest
  }
  return starts
}

/** (layers + 1): the smallest start such that [start, end) fits the device by itself. */
function firstFits(chain: Chain, device: number): Int16Array {
  const { layers, lastFit } = chain
  const firsts = new Int16Array(layers + 1)
  let start = 0
  for (let end = 0; end <= layers; end++) {
    while (start < end && lastFit[device * (layers + 1) + start]! < end) start++
    firsts[end] = start
  }
  return firsts
}

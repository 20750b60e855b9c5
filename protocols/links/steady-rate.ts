/** Bytes of a burst up to and with a piece, and when that piece was read. */
export interface Arrival {
  bytes: number
  atMs: number
}

/** Arrivals below which there is no part of a burst to choose. */
const MIN_ARRIVALS = 12
/** Connections start slowly: that part of a burst says nothing of the link. */
const START = 1 / 3
/** The part, of what remains, over which the rate is taken. */
const FROM = 0.2
const TO = 0.8
/** Share that came at once above which the link was not what held it up. */
const MAX_LUMP = 0.4
const AT_ONCE_MS = 1

/**
 * Bytes per ms at which a burst arrived once it flowed; 0 where that cannot be told.
 *
 * A packet that was lost or a process that was busy holds pieces back and then delivers them together: on the graph of
 * bytes over time a piece is late, never early. So the pieces that were not held up are those on the upper hull of the
 * graph, and the rate is the hull's slope over the middle of the burst.
 */
export function steadyRate(arrivals: readonly Arrival[]): number {
  const [first, last] = [arrivals[0], arrivals.at(-1)]
  if (first === undefined || last === undefined) return 0
  if (arrivals.length < MIN_ARRIVALS) return slope(first, last)
  const startBytes = first.bytes + START * (last.bytes - first.bytes)
  const steady = arrivals.filter(({ bytes }) => bytes >= startBytes)
  const steadyBytes = last.bytes - steady[0]!.bytes
  if (largestLump(steady) > MAX_LUMP * steadyBytes) return 0
  const hull = upperHull(steady)
  return slope(
    onHull(hull, last.bytes - (1 - FROM) * steadyBytes),
    onHull(hull, last.bytes - (1 - TO) * steadyBytes)
  )
}

function slope(from: Arrival, to: Arrival): number {
  const ms = to.atMs - from.atMs
  return ms > 0 ? (to.bytes - from.bytes) / ms : 0
}

/** Most bytes that came within AT_ONCE_MS. */
function largestLump(arrivals: readonly Arrival[]): number {
  let most = 0
  let from = 0
  for (const { bytes, atMs } of arrivals) {
    while (atMs - arrivals[from]!.atMs > AT_ONCE_MS) from++
    most = Math.max(most, bytes - arrivals[from]!.bytes)
  }
  return most
}

function upperHull(arrivals: readonly Arrival[]): Arrival[] {
  const hull: Arrival[] = []
  for (const next of arrivals) {
    while (hull.length >= 2 && isUnder(hull.at(-2)!, hull.at(-1)!, next)) hull.pop()
    hull.push(next)
  }
  return hull
}

function isUnder(before: Arrival, { bytes, atMs }: Arrival, after: Arrival): boolean {
  return (
    (bytes - before.bytes) * (after.atMs - before.atMs) <= (after.bytes - before.bytes) * (atMs - before.atMs)
  )
}

/** The point of the hull that has so many bytes. */
function onHull(hull: readonly Arrival[], bytes: number): Arrival {
  const at = Math.max(
    1,
    hull.findIndex(point => point.bytes >= bytes)
  )
  const [from, to] = [hull[at - 1]!, hull[at]!]
  return { bytes, atMs: from.atMs + ((to.atMs - from.atMs) * (bytes - from.bytes)) / (to.bytes - from.bytes) }
}

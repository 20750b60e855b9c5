/**
 * A plan in no time: always the next device that takes its layers at the lowest cost a layer, then the best
 * cuts for that order. It is a first plan for large meshes, and a target for the searches on small ones.
 */
import { type Chain, edgeMs, rangeMs } from './chain.ts'
import type { Segment } from './problem.ts'
import type { Found } from './search.ts'

/** The cheaper of a few greedy plans; undefined where none of them completes. */
export function greedy(chain: Chain): Found | undefined {
  let best: Found | undefined
  const { frontMin, frontMax } = chain
  for (const front of new Set([frontMin, (frontMin + frontMax) >> 1, frontMax])) {
    if (front > frontMax || front < frontMin) continue
    for (const tail of tailsFor(chain, front)) {
      const order = chooseOrder(chain, front, tail)
      const found = order && bestCuts(chain, front, tail, order)
      if (found !== undefined && (best === undefined || found.costMs < best.costMs)) best = found
    }
  }
  return best
}

/** Without a tail, and with the longest and the shortest that fit beside the front. */
function tailsFor(chain: Chain, front: number): Set<number> {
  const { layers } = chain
  const tails = new Set<number>()
  if (chain.returnMs.some(ms => ms < Number.POSITIVE_INFINITY)) tails.add(layers)
  if (!chain.tailFits(front, layers - 1) || layers - 1 <= front) return tails
  tails.add(layers - 1)
  let longest = layers - 1
  while (longest - 1 > front && chain.tailFits(front, longest - 1)) longest--
  return tails.add(longest)
}

/** Devices for layers [front, end), one after the other; undefined when they run out. */
function chooseOrder(chain: Chain, front: number, end: number): number[] | undefined {
  const { devices, layers, source, lastFit } = chain
  const order: number[] = []
  const used = new Uint8Array(devices)
  used[source] = 1
  let at = front
  let last = source
  while (at < end) {
    let next = -1
    let lowest = Number.POSITIVE_INFINITY
    for (let k = 0; k < devices; k++) {
      if (used[k] === 1) continue
      const stop = Math.min(end, lastFit[k * (layers + 1) + at]!)
      if (stop <= at) continue
      const endMs = stop < end ? 0 : endingMs(chain, k, end)
      const ms = (edgeMs(chain, last, k, at) + rangeMs(chain, k, at, stop) + endMs) / (stop - at)
      if (ms < lowest) {
        lowest = ms
        next = k
      }
    }
    if (next < 0) return undefined
    used[next] = 1
    order.push(next)
    last = next
    at = Math.min(end, lastFit[next * (layers + 1) + at]!)
  }
  return order
}

/** Time of the way on from the last device: the token's return, or the rest of the layers on the source. */
function endingMs(chain: Chain, device: number, end: number): number {
  if (end === chain.layers) return chain.returnMs[device]!
  return edgeMs(chain, device, chain.source, end) + rangeMs(chain, chain.source, end, chain.layers)
}

/** The cheapest ranges over [front, end) for devices in a given order, any of which may be skipped. */
function bestCuts(chain: Chain, front: number, end: number, order: readonly number[]): Found | undefined {
  const { layers, source, lastFit } = chain
  const width = end + 1
  const costMs = new Float64Array(order.length * width).fill(Number.POSITIVE_INFINITY)
  const start = new Int16Array(order.length * width)
  const before = new Int16Array(order.length * width)
  const frontMs = rangeMs(chain, source, 0, front)
  for (let p = 0; p < order.length; p++) {
    const k = order[p]!
    for (let i = front; i < end; i++) {
      let entryMs = i === front ? frontMs + edgeMs(chain, source, k, i) : Number.POSITIVE_INFINITY
      let from = -1
      for (let q = 0; q < p; q++) {
        const ms = costMs[q * width + i]! + edgeMs(chain, order[q]!, k, i)
        if (ms >= entryMs) continue
        entryMs = ms
        from = q
      }
      if (entryMs === Number.POSITIVE_INFINITY) continue
      const fit = Math.min(end, lastFit[k * (layers + 1) + i]!)
      for (let stop = i + 1; stop <= fit; stop++) {
        const ms = entryMs + rangeMs(chain, k, i, stop)
        if (ms >= costMs[p * width + stop]!) continue
        costMs[p * width + stop] = ms
        start[p * width + stop] = i
        before[p * width + stop] = from
      }
    }
  }
  let last = -1
  let bestMs = Number.POSITIVE_INFINITY
  order.forEach((device, p) => {
    const ms = costMs[p * width + end]! + endingMs(chain, device, end)
    if (ms >= bestMs) return
    bestMs = ms
    last = p
  })
  if (last < 0) return undefined
  const segments: Segment[] = end < layers ? [{ device: source, start: end, end: layers }] : []
  for (let p = last, stop = end; p >= 0; ) {
    const from = start[p * width + stop]!
    segments.push({ device: order[p]!, start: from, end: stop })
    p = before[p * width + stop]!
    stop = from
  }
  segments.push({ device: source, start: 0, end: front })
  return { segments: segments.reverse(), costMs: bestMs }
}

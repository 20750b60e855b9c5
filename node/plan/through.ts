/** The relaxation read from the front: what it costs at least to pass a device. */
import { type Chain, rangeMs } from './chain.ts'
import { edgeTable, type Relaxation, type Scope } from './relax.ts'

/** Lower bound on every plan that passes a device, per device, from one pass forwards. */
export function throughMs(chain: Chain, scope: Scope, relaxation: Relaxation): Float64Array {
  const { devices, layers, source, computeMs, lastFit } = chain
  const { prices, priceSum, enterMs } = relaxation
  const width = layers + 1
  const through = new Float64Array(devices).fill(Number.POSITIVE_INFINITY)
  const arriveMs = new Float64Array(width * devices).fill(Number.POSITIVE_INFINITY)
  const doneMs = new Float64Array(width * devices).fill(Number.POSITIVE_INFINITY)
  for (let i = scope.frontLo; i < layers; i++) {
    if (i <= scope.frontHi) doneMs[i * devices + source] = rangeMs(chain, source, 0, i)
    const edges = edgeTable(chain, i)
    for (let j = 0; j < devices; j++) {
      const done = doneMs[i * devices + j]!
      if (done === Number.POSITIVE_INFINITY) continue
      for (let k = 0; k < devices; k++) {
        const ms = done + edges[j * devices + k]!
        if (ms < arriveMs[i * devices + k]!) arriveMs[i * devices + k] = ms
      }
    }
    for (let k = 0; k < devices; k++) {
      const arrive = arriveMs[i * devices + k]!
      if (arrive === Number.POSITIVE_INFINITY) continue
      const total = arrive + enterMs[i * devices + k]! - priceSum
      if (total < through[k]!) through[k] = total
      const offset = arrive + prices[k]! - computeMs[k * width + i]!
      const fit = lastFit[k * width + i]!
      for (let end = i + 1; end <= fit; end++) {
        const ms = offset + computeMs[k * width + end]!
        if (ms < doneMs[end * devices + k]!) doneMs[end * devices + k] = ms
      }
    }
  }
  return through
}

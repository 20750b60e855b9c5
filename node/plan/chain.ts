/**
 * A planning problem boiled down to numbers: a path of devices over the layers, additive in cost.
 *
 * Every latency metric and T(b) of throughput planning is linear in the same three things (layer times, bits
 * over a link, delays of a link), so one table and one exact search serve them all.
 */
import { besideMs, decodeMs, layerBytes, linkBetween, prefillMs, turnMs } from './cost.ts'
import { isAtSource, sourcePlaces } from './places.ts'
import { type Problem, pinnedPrefix, pinsHead } from './problem.ts'

const MS_PER_BYTE_AT_1_MBPS = 8 / 1000

/** Which cost is minimised, and for how many sequences memory is reserved. */
export type Pricing =
  | { readonly kind: 'tpot' | 'request'; readonly batch: number }
  | { readonly kind: 'step'; readonly batch: number; readonly microBatch: number }

export interface Chain {
  /** Places: devices, or their processors where they list some. */
  readonly devices: number
  readonly layers: number
  /** The place of the source that holds the first layers; others of it are devices like any other here. */
  readonly source: number
  /** (devices): 1 for every place of the source. */
  readonly atSource: Uint8Array
  /** Layers before this one are handed on within the source only. */
  readonly pinned: number
  /** (devices, layers + 1): ms of layers [0, i) on a device; on the source with what its first stage takes beside them. */
  readonly computeMs: Float64Array
  /** (devices, layers + 1): the largest end such that [i, end) fits the device by itself. */
  readonly lastFit: Int32Array
  /** (devices): the most layers in a row that fit a device, wherever they start. */
  readonly capacity: Int32Array
  /** (layers + 1): ms at 1 Mbps of a transfer of what layer i - 1 puts out; 0 at i = 0. */
  readonly bitsMs: Float64Array
  /** (devices, devices): 1 / mbps. */
  readonly slowness: Float64Array
  /** (devices, devices): delays of all passes, in ms, with what the stage that is entered takes beside its layers. */
  readonly delayMs: Float64Array
  /** (devices): what one of several stages takes beside its layers, in all passes, in ms. */
  readonly turnsMs: Float64Array
  /** All layers on the source, in ms; Infinity where they do not fit. */
  readonly wholeMs: number
  /** (devices): the token's return; Infinity where the head may not be. */
  readonly returnMs: Float64Array
  /** Smallest and largest end of the source's first stage, when others follow. */
  readonly frontMin: number
  readonly frontMax: number
  /** Whether the source may hold [0, front) and [tail, layers) together. Falls with front, rises with tail. */
  tailFits: (front: number, tail: number) => boolean
  /** (layers): 1 where a layer is the same in every figure as the one before it. */
  readonly repeats: Uint8Array
  /** Slowest time a device or transfer may be occupied, per micro-batch; Infinity for latency. */
  readonly limitMs: number
}

/** Time of layer `index` on a device under a pricing. */
function layerMs(problem: Problem, device: number, index: number, pricing: Pricing): number {
  const { kind } = problem.layers[index]!
  const times = problem.devices[device]!.times.get(kind)
  if (pricing.kind === 'step') return decodeMs(times, pricing.microBatch)
  if (pricing.kind === 'tpot') return decodeMs(times, 1)
  const { promptTokens, newTokens } = problem.workload
  return prefillMs(times, promptTokens) + (newTokens - 1) * decodeMs(times, 1)
}

/** How many tokens a transfer carries in all, how many return, and how often a delay is paid. */
function counts(problem: Problem, pricing: Pricing): { tokens: number; returned: number; passes: number } {
  if (pricing.kind === 'tpot') return { tokens: 1, returned: 1, passes: 1 }
  if (pricing.kind === 'step') return { tokens: pricing.microBatch, returned: pricing.microBatch, passes: 1 }
  const { promptTokens, newTokens } = problem.workload
  return { tokens: promptTokens + newTokens - 1, returned: newTokens, passes: newTokens }
}

/**
 * The tables of a problem under a pricing, with nothing busier than `limitMs`.
 *
 * @param source the place of the source that the first layers are on
 */
export function buildChain(
  problem: Problem,
  pricing: Pricing,
  limitMs = Number.POSITIVE_INFINITY,
  source = problem.source
): Chain {
  const devices = problem.devices.length
  const layers = problem.layers.length
  const pinned = pinnedPrefix(problem)
  const atSource = Uint8Array.from(problem.devices, (_, place) => (isAtSource(problem, place) ? 1 : 0))
  const isAlone = sourcePlaces(problem).length === 1
  const { tokens, returned, passes } = counts(problem, pricing)
  const width = layers + 1
  const needBytes = new Float64Array(width)
  const bitsMs = new Float64Array(width)
  for (let i = 0; i < layers; i++) {
    needBytes[i + 1] = needBytes[i]! + layerBytes(problem, i, pricing.batch)
    bitsMs[i + 1] = problem.layers[i]!.activationBytes * tokens * MS_PER_BYTE_AT_1_MBPS
  }
  const returnBitsMs = problem.layers[layers - 1]!.activationBytes * returned * MS_PER_BYTE_AT_1_MBPS
  const computeMs = computeTable(problem, pricing, source)
  const turnsMs = Float64Array.from(problem.devices, place => besideMs(place) * passes)
  const slowness = new Float64Array(devices * devices)
  const delayMs = new Float64Array(devices * devices)
  const returnMs = new Float64Array(devices).fill(Number.POSITIVE_INFINITY)
  for (let from = 0; from < devices; from++) {
    for (let to = 0; to < devices; to++) {
      if (from === to) continue
      const link = linkBetween(problem, from, to)
      slowness[from * devices + to] = 1 / link.mbps
      delayMs[from * devices + to] = link.delayMs * passes + turnsMs[to]!
    }
    if (from === source) continue
    if (atSource[from] === 1) {
      returnMs[from] = 0
      continue
    }
    if (pinsHead(problem)) continue
    const occupied = returnBitsMs * slowness[from * devices + source]!
    if (occupied <= limitMs) returnMs[from] = occupied + linkBetween(problem, from, source).delayMs * passes
  }
  const lastFit = new Int32Array(devices * width)
  const capacity = new Int32Array(devices)
  for (let device = 0; device < devices; device++) {
    const { memoryBytes } = problem.devices[device]!
    const row = device * width
    // The source's times have it already.
    const ownTurnMs = device === source ? 0 : turnsMs[device]!
    let end = 0
    for (let start = 0; start <= layers; start++) {
      if (end < start) end = start
      while (
        end < layers &&
        needBytes[end + 1]! - needBytes[start]! <= memoryBytes &&
        computeMs[row + end + 1]! - computeMs[row + start]! + ownTurnMs <= limitMs
      ) {
        end++
      }
      lastFit[row + start] = end
      capacity[device] = Math.max(capacity[device]!, end - start)
    }
  }
  const own = problem.devices[source]!.memoryBytes
  const whole = { device: source, start: 0, end: layers }
  const wholeMs = problem.layers.reduce(
    (ms, _, i) => ms + layerMs(problem, source, i, pricing),
    turnMs(problem, whole) * passes
  )
  const ownMs = (i: number): number => computeMs[source * width + i]!
  return {
    devices,
    layers,
    source,
    atSource,
    pinned,
    computeMs,
    lastFit,
    capacity,
    bitsMs,
    slowness,
    delayMs,
    turnsMs,
    wholeMs: needBytes[layers]! <= own && wholeMs <= limitMs ? wholeMs : Number.POSITIVE_INFINITY,
    returnMs,
    frontMin: isAlone ? pinned : 1,
    frontMax: Math.min(layers - 1, lastFit[source * width]!),
    tailFits: (front, tail) =>
      needBytes[front]! + (needBytes[layers]! - needBytes[tail]!) <= own &&
      ownMs(front) + (ownMs(layers) - ownMs(tail)) + turnsMs[source]! <= limitMs,
    repeats: findRepeats(problem),
    limitMs
  }
}

function findRepeats(problem: Problem): Uint8Array {
  const repeats = new Uint8Array(problem.layers.length)
  problem.layers.forEach((layer, i) => {
    const before = problem.layers[i - 1]
    const same =
      before !== undefined &&
      before.kind === layer.kind &&
      before.weightBytes === layer.weightBytes &&
      before.activationBytes === layer.activationBytes &&
      before.kvBytesPerToken === layer.kvBytesPerToken &&
      before.stateBytes === layer.stateBytes
    repeats[i] = same ? 1 : 0
  })
  return repeats
}

/** (devices, layers + 1): ms of layers [0, i) on a device; on the source with what its first stage takes beside them. */
export function computeTable(problem: Problem, pricing: Pricing, source = problem.source): Float64Array {
  const layers = problem.layers.length
  const { passes } = counts(problem, pricing)
  const computeMs = new Float64Array(problem.devices.length * (layers + 1))
  for (let device = 0; device < problem.devices.length; device++) {
    const row = device * (layers + 1)
    for (let i = 0; i < layers; i++) {
      const ownMs = i === 0 && device === source ? besideMs(problem.devices[device]!) * passes : 0
      computeMs[row + i + 1] = computeMs[row + i]! + layerMs(problem, device, i, pricing) + ownMs
    }
  }
  return computeMs
}

/**
 * Ms of moving what layer i - 1 puts out from one device to another, with what the stage that is entered takes beside its
 * layers; Infinity over the limit, or where it may not go.
 */
export function edgeMs(chain: Chain, from: number, to: number, i: number): number {
  if (i < chain.pinned && chain.atSource[to] === 0) return Number.POSITIVE_INFINITY
  return hopMs(chain, from, to, i)
}

/** The same wherever it may go. */
export function hopMs(chain: Chain, from: number, to: number, i: number): number {
  const at = from * chain.devices + to
  const occupied = chain.bitsMs[i]! * chain.slowness[at]!
  return occupied <= chain.limitMs ? occupied + chain.delayMs[at]! : Number.POSITIVE_INFINITY
}

/** Ms of [start, end) on a device. */
export function rangeMs(chain: Chain, device: number, start: number, end: number): number {
  const row = device * (chain.layers + 1)
  return chain.computeMs[row + end]! - chain.computeMs[row + start]!
}

/**
 * The one evaluator: what a placement costs. The planner, the baselines, the simulator and the running mesh
 * all price with these functions (the formulas are the paper's Eq. 1-2 and 9, with batch, prefill, per-hop
 * delay and the token's return added).
 */

import { placeName } from '../place-name.ts'
import { interpolateMs } from './context.ts'
import { isAtSource } from './places.ts'
import type { Device, KindTimes, Link, Metric, Predicted, Problem, Segment, StepParts } from './problem.ts'

const BITS_PER_BYTE = 8
const BITS_PER_MS_AT_1_MBPS = 1000

/** One decode step of one layer with `batch` sequences. */
export function decodeMs(times: KindTimes | undefined, batch: number): number {
  if (times === undefined) return 0
  if (times.decodeMsByBatch !== undefined) return interpolateMs(times.decodeMsByBatch, batch)
  return times.decodeMs + (batch - 1) * times.decodeMsPerExtraSequence
}

/** One layer over a prompt of `tokens` tokens of one sequence. */
export function prefillMs(times: KindTimes | undefined, tokens: number): number {
  if (times === undefined) return 0
  if (times.prefillMsByTokens !== undefined) return interpolateMs(times.prefillMsByTokens, tokens)
  return times.prefillMsPerToken * tokens
}

/** Time a link is busy with `bytes`; the link's delay comes once on top. */
export function occupiedMs(link: Link, bytes: number): number {
  return (BITS_PER_BYTE * bytes) / (link.mbps * BITS_PER_MS_AT_1_MBPS)
}

export function linkBetween(problem: Problem, from: number, to: number): Link {
  return problem.links[from]?.[to] as Link
}

/** Decode step of the layers of one segment with `batch` sequences. */
export function segmentDecodeMs(problem: Problem, segment: Segment, batch: number): number {
  const { times } = problem.devices[segment.device] as Problem['devices'][number]
  let ms = 0
  for (const layer of problem.layers.slice(segment.start, segment.end)) {
    ms += decodeMs(times.get(layer.kind), batch)
  }
  return ms
}

/** What a step takes one of several stages on a device beside its layers: hand-overs between threads, its turn, frames in and out. */
export function besideMs({ turnMs = 0, frameMs = 0 }: Device): number {
  return turnMs + frameMs
}

/** The same of any stage: one that has all layers sends no frames. */
export function turnMs(problem: Problem, { device, start, end }: Segment): number {
  const place = problem.devices[device]!
  return start === 0 && end === problem.layers.length ? (place.turnMs ?? 0) : besideMs(place)
}

/** How long a stage keeps its device with one decode step of `batch` sequences. */
export function stageMs(problem: Problem, segment: Segment, batch: number): number {
  return segmentDecodeMs(problem, segment, batch) + turnMs(problem, segment)
}

/** Prefill of one sequence's whole prompt through the layers of one segment. */
export function segmentPrefillMs(problem: Problem, segment: Segment): number {
  const { times } = problem.devices[segment.device] as Problem['devices'][number]
  let ms = 0
  for (const layer of problem.layers.slice(segment.start, segment.end)) {
    ms += prefillMs(times.get(layer.kind), problem.workload.promptTokens)
  }
  return ms
}

/** Weights, KV cache and states of `batch` sequences for layer `index`. */
export function layerBytes(problem: Problem, index: number, batch: number): number {
  const layer = problem.layers[index] as Problem['layers'][number]
  const ofSequence = layer.kvBytesPerToken * problem.workload.contextTokens + layer.stateBytes
  return layer.weightBytes + ofSequence * batch
}

export function segmentBytes(problem: Problem, segment: Segment, batch: number): number {
  let bytes = 0
  for (let index = segment.start; index < segment.end; index++) bytes += layerBytes(problem, index, batch)
  return bytes
}

/** A transfer between neighbouring stages, or the token's return when `to` is the source after the last. */
export interface Transfer {
  readonly from: number
  readonly to: number
  /** The layer whose output travels. */
  readonly layer: number
  readonly returns: boolean
}

/** Every transfer of one token's way through the plan, in order, the return last. */
export function transfersOf(problem: Problem, segments: readonly Segment[]): Transfer[] {
  const transfers: Transfer[] = []
  segments.forEach((segment, index) => {
    const next = segments[index + 1]
    const to = next?.device ?? problem.source
    if (to === segment.device || (next === undefined && isAtSource(problem, segment.device))) return
    transfers.push({ from: segment.device, to, layer: segment.end - 1, returns: next === undefined })
  })
  return transfers
}

/** Bytes of one transfer of `tokens` tokens (tokens of all its sequences together). */
export function transferBytes(problem: Problem, transfer: Transfer, tokens: number): number {
  return (problem.layers[transfer.layer] as Problem['layers'][number]).activationBytes * tokens
}

/** A transfer's link as people read it. */
export function transferName({ devices }: Problem, { from, to }: Transfer): string {
  return `${placeName(devices[from]!)} -> ${placeName(devices[to]!)}`
}

export interface Price extends Predicted {
  /** T(b): one decode step with b sequences in every transfer. */
  readonly stepMs: number
  /** max(b): the busiest device or link. */
  readonly busiestMs: number
  readonly busiest: string
  /** max(T(b), m * max(b)): time in which the whole batch advances by one token. */
  readonly cycleMs: number
}

/** T(b) and the busiest resource of a placement with `b` sequences in each micro-batch. */
export function priceStep(problem: Problem, segments: readonly Segment[], b: number) {
  const deviceMs = new Map<number, number>()
  let stepMs = 0
  for (const segment of segments) {
    const ms = stageMs(problem, segment, b)
    stepMs += ms
    deviceMs.set(segment.device, (deviceMs.get(segment.device) ?? 0) + ms)
  }
  let busiestMs = 0
  let busiest = ''
  for (const [device, ms] of deviceMs) {
    if (ms < busiestMs || (ms === busiestMs && busiest !== '')) continue
    busiestMs = ms
    busiest = `compute of ${placeName(problem.devices[device]!)}`
  }
  for (const transfer of transfersOf(problem, segments)) {
    const link = linkBetween(problem, transfer.from, transfer.to)
    const ms = occupiedMs(link, transferBytes(problem, transfer, b))
    stepMs += ms + link.delayMs
    if (ms <= busiestMs) continue
    busiestMs = ms
    busiest = `link ${transferName(problem, transfer)}`
  }
  return { stepMs, busiestMs, busiest }
}

/** ttft of one sequence: prefill compute, transfers of the prompt, return of one token. */
export function priceTtft(problem: Problem, segments: readonly Segment[]): number {
  let ms = 0
  for (const segment of segments) ms += segmentPrefillMs(problem, segment) + turnMs(problem, segment)
  for (const transfer of transfersOf(problem, segments)) {
    const link = linkBetween(problem, transfer.from, transfer.to)
    const tokens = transfer.returns ? 1 : problem.workload.promptTokens
    ms += occupiedMs(link, transferBytes(problem, transfer, tokens)) + link.delayMs
  }
  return ms
}

/** The parts whose sum is a step of `batch` tokens, `tpotMs` for one: what a running mesh measures one by one. */
export function priceParts(problem: Problem, segments: readonly Segment[], batch: number): StepParts {
  const transfers = transfersOf(problem, segments)
  const stages = segments.map(segment => {
    const waitMs = turnMs(problem, segment)
    return { computeMs: segmentDecodeMs(problem, segment, batch), ...(waitMs > 0 && { waitMs }) }
  })
  if (segments.length < 2) return { stages, linksMs: [] }
  const linksMs = segments.map(({ end }) => {
    const transfer = transfers.find(({ layer }) => layer === end - 1)
    if (transfer === undefined) return 0
    const link = linkBetween(problem, transfer.from, transfer.to)
    return occupiedMs(link, transferBytes(problem, transfer, batch)) + link.delayMs
  })
  return { stages, linksMs }
}

/**
 * Everything the evaluator knows of a placement. The segments must cover the layers in order; memory and
 * privacy are `violation`'s business.
 */
export function price(
  problem: Problem,
  segments: readonly Segment[],
  batch: number,
  microBatches: number
): Price {
  const { stepMs: tpotMs } = priceStep(problem, segments, 1)
  const ttftMs = priceTtft(problem, segments)
  const { stepMs, busiestMs, busiest } = priceStep(problem, segments, Math.ceil(batch / microBatches))
  const cycleMs = Math.max(stepMs, microBatches * busiestMs)
  return {
    tpotMs,
    ttftMs,
    requestMs: ttftMs + (problem.workload.newTokens - 1) * tpotMs,
    tokensPerSecond: (1000 * batch) / cycleMs,
    bubbleTokensPerSecond: (1000 * batch) / (stepMs + (microBatches - 1) * busiestMs),
    stepMs,
    busiestMs,
    busiest,
    cycleMs
  }
}

/** The figure that is minimised: the metric in ms, or for throughput the ms per token of the whole batch. */
export function valueMs(problem: Problem, priced: Price, batch: number): number {
  if (problem.objective === 'throughput') return priced.cycleMs / batch
  return metricMs(priced, problem.metric)
}

function metricMs(priced: Predicted, metric: Metric): number {
  return metric === 'tpot' ? priced.tpotMs : priced.requestMs
}

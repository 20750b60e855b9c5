/** What makes a list of segments a placement: coverage, order, privacy, memory and links. */

import { placeName } from '../place-name.ts'
import { formatBytes, formatBytesApart } from '../units.ts'
import { layerBytes, linkBetween, segmentBytes, transfersOf } from './cost.ts'
import { isAtSource, sourcePlaces } from './places.ts'
import { type Problem, pinnedPrefix, pinsHead, type Segment } from './problem.ts'
import { withRoom } from './room-words.ts'

/** `shape`, `privacy`, `memory`, `link` or `repeat`, and one sentence. */
export interface Violation {
  readonly rule: 'shape' | 'privacy' | 'memory' | 'link' | 'repeat'
  readonly reason: string
}

/**
 * The first rule that `segments` break with `batch` sequences in the KV cache, or undefined.
 *
 * `repeat` comes last: a place that occurs twice (other than that of the first layers holding the tail) is the one
 * rule the paper's own algorithm does not keep.
 */
export function violation(
  problem: Problem,
  segments: readonly Segment[],
  batch: number
): Violation | undefined {
  return (
    shapeViolation(problem, segments) ??
    privacyViolation(problem, segments) ??
    memoryViolation(problem, segments, batch) ??
    linkViolation(problem, segments) ??
    repeatViolation(problem, segments)
  )
}

function shapeViolation(problem: Problem, segments: readonly Segment[]): Violation | undefined {
  let covered = 0
  let previous = -1
  for (const segment of segments) {
    const fits = segment.start === covered && segment.end > segment.start && segment.device !== previous
    if (!fits || problem.devices[segment.device] === undefined) {
      return { rule: 'shape', reason: `stages must cover the layers in order; broken at layer ${covered}` }
    }
    covered = segment.end
    previous = segment.device
  }
  if (covered === problem.layers.length) return undefined
  return { rule: 'shape', reason: `stages cover ${covered} of ${problem.layers.length} layers` }
}

function privacyViolation(problem: Problem, segments: readonly Segment[]): Violation | undefined {
  const source = problem.devices[problem.source]?.id
  const last = segments[segments.length - 1]
  const pinned = pinnedPrefix(problem)
  const away = segments.find(({ device }) => !isAtSource(problem, device))
  if (segments[0] === undefined || (away !== undefined && away.start < pinned)) {
    const what = pinned === 1 ? 'the embedding' : `layers 0 to ${pinned - 1}`
    return { rule: 'privacy', reason: `${whoKeeps(problem)} keeps ${what} on ${source}` }
  }
  if (pinsHead(problem) && !isAtSource(problem, last!.device)) {
    return { rule: 'privacy', reason: `privacy '${problem.privacy}' keeps the head on ${source}` }
  }
  return undefined
}

/** What layers are kept on the source for, in words. */
function whoKeeps({ privacy, keptLayers }: Problem): string {
  const more = keptLayers === undefined ? '' : ` with layers [0, ${keptLayers}) there`
  return `privacy '${privacy}'${more}`
}

function memoryViolation(
  problem: Problem,
  segments: readonly Segment[],
  batch: number
): Violation | undefined {
  const needed = new Map<number, number>()
  for (const segment of segments) {
    const bytes = (needed.get(segment.device) ?? 0) + segmentBytes(problem, segment, batch)
    needed.set(segment.device, bytes)
  }
  for (const [index, bytes] of needed) {
    const device = problem.devices[index] as Problem['devices'][number]
    if (bytes <= device.memoryBytes) continue
    const [needs, has] = formatBytesApart(bytes, device.memoryBytes)
    return { rule: 'memory', reason: `out of memory: ${placeName(device)} needs ${needs}, has ${has}` }
  }
  return undefined
}

function linkViolation(problem: Problem, segments: readonly Segment[]): Violation | undefined {
  const [pair] = apartPairs(problem, segments)
  return pair && { rule: 'link', reason: `${pair[0]} and ${pair[1]} cannot reach each other` }
}

/** Neighbours of a placement, the source after the last stage included, that have no link, by id. */
export function apartPairs(problem: Problem, segments: readonly Segment[]): [string, string][] {
  return transfersOf(problem, segments)
    .filter(({ from, to }) => linkBetween(problem, from, to).mbps === 0)
    .map(({ from, to }) => [problem.devices[from]!.id, problem.devices[to]!.id])
}

function repeatViolation(problem: Problem, segments: readonly Segment[]): Violation | undefined {
  const seen = new Set<number>()
  for (const [index, segment] of segments.entries()) {
    const isTail =
      segment.device === segments[0]!.device &&
      isAtSource(problem, segment.device) &&
      index === segments.length - 1
    if (seen.has(segment.device) && !isTail) {
      const name = placeName(problem.devices[segment.device]!)
      return { rule: 'repeat', reason: `${name} occurs more than once` }
    }
    seen.add(segment.device)
  }
  return undefined
}

/** Why no plan can exist, with what is missing, for a batch of `batch` sequences. */
export function whyInfeasible(problem: Problem, batch: number): string {
  const count = problem.layers.length
  const needs = segmentBytes(problem, { device: 0, start: 0, end: count }, batch)
  const offers = problem.devices.reduce((sum, device) => sum + device.memoryBytes, 0)
  const source = problem.devices[problem.source] as Problem['devices'][number]
  const pinned = pinnedPrefix(problem)
  let own = segmentBytes(problem, { device: problem.source, start: 0, end: pinned }, batch)
  if (pinsHead(problem) && count > pinned) own += layerBytes(problem, count - 1, batch)
  const ownBytes = sourcePlaces(problem).reduce((sum, place) => sum + problem.devices[place]!.memoryBytes, 0)
  if (own > ownBytes) {
    const [needed, has] = formatBytesApart(own, ownBytes)
    return (
      `${whoKeeps(problem)} keeps ${needed} on the source ${source.id}, ` +
      `which offers ${has}; the whole model needs ${formatBytes(needs)}${withRoom(problem, batch)}`
    )
  }
  let largest = 0
  for (let index = 0; index < count; index++) largest = Math.max(largest, layerBytes(problem, index, batch))
  const [needed, offered] = formatBytesApart(needs, offers)
  const sizes =
    `it needs ${needed}${withRoom(problem, batch)}, the mesh offers ${offered}; ` +
    `the largest layer needs ${formatBytes(largest)}`
  return needs > offers ? sizes : `${sizes}; whole layers do not fit into what the devices offer one by one`
}

/** Why the other devices are not used, what binds a plan, and what would help: each by planning again. */

import { placeName } from '../place-name.ts'
import { formatBytes, formatMbps, formatMs } from '../units.ts'
import { layerBytes, transfersOf } from './cost.ts'
import { plansForGuesses } from './guessing.ts'
import type { Placement } from './latency.ts'
import { leftOut } from './left-out.ts'
import { sameDevice } from './places.ts'
import type { LeftOut, Link, Problem } from './problem.ts'

/** Gains below this share are noise to a reader: predictions are not that good. */
const WORTH_SAYING = 1e-2
const FASTER_COMPUTE = 0.9

export interface Explanation {
  readonly left: readonly LeftOut[]
  /** What the plan would gain from more of: memory, a link, compute; the largest gain first. */
  readonly binds: readonly string[]
  readonly advice?: string
}

interface Change {
  readonly resource: string
  readonly what: string
  readonly changed: Problem
  /** Something that its owner can buy or move: memory or a link. */
  readonly advisable: boolean
}

/** `place` plans a changed problem, for guesses where there are some; changes are tried until `expired`. */
export function explain(
  problem: Problem,
  placement: Placement,
  optimal: boolean,
  place: (problem: Problem) => Placement | undefined,
  expired: () => boolean
): Explanation {
  const gains: { change: Change; valueMs: number }[] = []
  for (const change of changesOf(problem, placement)) {
    if (expired()) break
    const best = place(change.changed)
    if (best !== undefined && best.valueMs < placement.valueMs * (1 - WORTH_SAYING)) {
      gains.push({ change, valueMs: best.valueMs })
    }
  }
  gains.sort((a, b) => a.valueMs - b.valueMs)
  const say = (valueMs: number): string =>
    `${valueText(problem, valueMs)} instead of ${valueText(problem, placement.valueMs)}`
  const advice = gains.find(({ change }) => change.advisable)
  return {
    left: leftOut(problem, placement, optimal, expired),
    binds: gains.map(({ change, valueMs }) => `${change.resource}: with ${change.what} ${say(valueMs)}`),
    ...(advice && { advice: `${advice.change.what}: ${say(advice.valueMs)}` })
  }
}

/** The value of a placement, which is that with guesses where plans are made for some. */
export function valueText(problem: Problem, valueMs: number): string {
  return `${figure(problem, valueMs)}${plansForGuesses(problem) ? ' with guesses' : ''}`
}

/** A value as it is talked about. */
export function figure(problem: Problem, valueMs: number): string {
  if (problem.objective === 'throughput') return `${(1000 / valueMs).toFixed(1)} tokens/s`
  return `${formatMs(valueMs)} a ${problem.metric === 'tpot' ? 'token' : 'request'}`
}

function* changesOf(problem: Problem, { segments, batch }: Placement): Generator<Change> {
  let layer = 0
  for (let i = 0; i < problem.layers.length; i++) layer = Math.max(layer, layerBytes(problem, i, batch))
  const used = [...new Set(segments.map(({ device }) => device))]
  const idOf = (index: number): string => problem.devices[index]!.id
  for (const index of used) {
    const device = problem.devices[index]!
    yield {
      resource: `memory of ${placeName(device)}`,
      what: `${formatBytes(layer)} more on ${placeName(device)}`,
      changed: withDevice(problem, index, { ...device, memoryBytes: device.memoryBytes + layer }),
      advisable: true
    }
  }
  const pairs = new Set<string>()
  const ends = transfersOf(problem, segments).map(({ from, to }) => [from, to] as const)
  const direct = segments.slice(1).map(({ device }) => [problem.source, device] as const)
  for (const [from, to] of [...ends, ...direct]) {
    const key = JSON.stringify([idOf(from), idOf(to)].sort())
    // Nobody moves a link within a device.
    if (sameDevice(problem, from, to) || pairs.has(key) || problem.links[from]![to]!.mbps === 0) continue
    pairs.add(key)
    const mbps = 2 * problem.links[from]![to]!.mbps
    yield {
      resource: `link ${idOf(from)} - ${idOf(to)}`,
      what: `${formatMbps(mbps)} Mbps on ${idOf(from)} - ${idOf(to)}`,
      changed: withLink(problem, from, to),
      advisable: true
    }
  }
  for (const index of used) {
    const device = problem.devices[index]!
    const times = new Map(
      [...device.times].map(([kind, kindTimes]) => [
        kind,
        {
          decodeMs: kindTimes.decodeMs * FASTER_COMPUTE,
          decodeMsPerExtraSequence: kindTimes.decodeMsPerExtraSequence * FASTER_COMPUTE,
          prefillMsPerToken: kindTimes.prefillMsPerToken * FASTER_COMPUTE,
          ...(kindTimes.decodeMsByBatch && { decodeMsByBatch: kindTimes.decodeMsByBatch.map(scale) }),
          ...(kindTimes.prefillMsByTokens && { prefillMsByTokens: kindTimes.prefillMsByTokens.map(scale) })
        }
      ])
    )
    yield {
      resource: `compute of ${placeName(device)}`,
      what: `${placeName(device)} 10 % faster`,
      changed: withDevice(problem, index, { ...device, times }),
      advisable: false
    }
  }
}

function scale([at, ms]: readonly [number, number]): readonly [number, number] {
  return [at, ms * FASTER_COMPUTE]
}

function withDevice(problem: Problem, index: number, device: Problem['devices'][number]): Problem {
  return { ...problem, devices: problem.devices.map((other, at) => (at === index ? device : other)) }
}

/** Twice the bandwidth in both directions, of whatever processors of the two devices. */
function withLink(problem: Problem, a: number, b: number): Problem {
  const doubled = (link: Link): Link => ({ ...link, mbps: 2 * link.mbps })
  const links = problem.links.map((row, from) => {
    const other = sameDevice(problem, from, a) ? b : sameDevice(problem, from, b) ? a : undefined
    if (other === undefined) return row
    return row.map((link, to) => (sameDevice(problem, to, other) ? doubled(link) : link))
  })
  return { ...problem, links }
}

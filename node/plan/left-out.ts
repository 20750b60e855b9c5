/** One line for every device a plan does not use, with the figures behind it. */

import { placeName } from '../place-name.ts'
import { formatBytesApart, formatMs } from '../units.ts'
import { buildChain, type Chain, hopMs, type Pricing, rangeMs } from './chain.ts'
import { layerBytes, price, valueMs as pricedMs } from './cost.ts'
import { valueText } from './explain.ts'
import { plansForGuesses } from './guessing.ts'
import { latencyPricing, type Placement } from './latency.ts'
import { isAtSource, placeOf, sameDevice, sourcePlaces } from './places.ts'
import { type LeftOut, type Problem, pinnedPrefix } from './problem.ts'
import { tighten } from './relax.ts'
import { scopeOf } from './solve.ts'
import { interchangeable } from './symmetry.ts'
import { throughMs } from './through.ts'

const ROUNDS = 60
/** A device costs something once its plans are provably worse by this share. */
const WORSE = 1e-6

export function leftOut(
  problem: Problem,
  placement: Placement,
  optimal: boolean,
  expired: () => boolean
): LeftOut[] {
  const used = new Set(placement.segments.map(({ device }) => device))
  const { batch, microBatches } = placement
  const throughput = problem.objective === 'throughput'
  const pricing = throughput
    ? ({ kind: 'step', batch, microBatch: Math.ceil(batch / microBatches) } as const)
    : latencyPricing(problem)
  const guessed = plansForGuesses(problem)
  // Bounds are of steps without guesses, so what they are held against is, too.
  const plainMs = guessed
    ? pricedMs(problem, price(problem, placement.segments, batch, microBatches), batch)
    : placement.valueMs
  const valueMs = throughput ? plainMs * batch : plainMs
  const front = placement.segments[0]!.device
  const chain = buildChain(problem, pricing, Number.POSITIVE_INFINITY, front)
  const through = throughAnywhere(problem, pricing, valueMs, expired)
  const value = valueText(problem, placement.valueMs)
  const left: LeftOut[] = []
  for (const [index, place] of problem.devices.entries()) {
    if (used.has(index)) continue
    const reason =
      tooSmall(problem, index, batch) ??
      (throughput ? busyLink(problem, chain, index, valueMs / microBatches) : undefined) ??
      tooCostly(problem, chain, index, through[index]!, placement, valueMs) ??
      (guessed ? undefined : twinOf(problem, chain, index, used)) ??
      (optimal && !guessed
        ? `already at the optimum without it (${value})`
        : `no better plan with it was found (${value})`)
    left.push({ ...placeOf(place), reason })
  }
  return left
}

/** Lower bound on every plan that passes a place, per place, with the first layers on any place of the source. */
function throughAnywhere(
  problem: Problem,
  pricing: Pricing,
  valueMs: number,
  expired: () => boolean
): Float64Array {
  const least = new Float64Array(problem.devices.length).fill(Number.POSITIVE_INFINITY)
  for (const source of sourcePlaces(problem)) {
    const chain = buildChain(problem, pricing, Number.POSITIVE_INFINITY, source)
    const scope = scopeOf(chain, { frontLo: chain.frontMin, frontHi: chain.frontMax })
    const relaxation = tighten(chain, scope, new Float64Array(chain.devices), valueMs, ROUNDS, expired)
    const through = throughMs(chain, scope, relaxation)
    through[source] = Math.min(relaxation.bound, chain.wholeMs)
    for (const [place, ms] of through.entries()) least[place] = Math.min(least[place]!, ms)
  }
  return least
}

function twinOf(
  problem: Problem,
  chain: Chain,
  index: number,
  used: ReadonlySet<number>
): string | undefined {
  for (const other of used) {
    if (other === chain.source || !interchangeable(chain, index, other)) continue
    return `the same in every figure as ${placeName(problem.devices[other]!)}, which is used; one more stage gains nothing`
  }
  return undefined
}

function tooSmall(problem: Problem, index: number, batch: number): string | undefined {
  let smallest = Number.POSITIVE_INFINITY
  const first = isAtSource(problem, index) ? 0 : pinnedPrefix(problem)
  for (let i = first; i < problem.layers.length; i++) {
    smallest = Math.min(smallest, layerBytes(problem, i, batch))
  }
  const { memoryBytes } = problem.devices[index]!
  if (memoryBytes >= smallest || smallest === Number.POSITIVE_INFINITY) return undefined
  const [has, needs] = formatBytesApart(memoryBytes, smallest)
  return `too little memory for one layer: has ${has}, the smallest needs ${needs}`
}

/** Cheapest way in and out of a device: the smallest output of a layer over its best links. */
function cheapestLinks(chain: Chain, index: number): { inMs: number; outMs: number } {
  const i = smallestOutput(chain, index)
  const linkMs = (from: number, to: number) => hopMs(chain, from, to, i) - chain.turnsMs[to]!
  let inMs = Number.POSITIVE_INFINITY
  let outMs = chain.returnMs[index]!
  for (let other = 0; other < chain.devices; other++) {
    if (other === index) continue
    inMs = Math.min(inMs, linkMs(other, index))
    outMs = Math.min(outMs, linkMs(index, other))
  }
  return { inMs, outMs }
}

/** The cut where least has to travel to a place: those of the source are handed pinned layers, too. */
function smallestOutput(chain: Chain, index: number): number {
  let smallest = chain.atSource[index] === 1 ? chain.frontMin : Math.max(chain.frontMin, chain.pinned)
  for (let i = smallest; i < chain.layers; i++) {
    if (chain.bitsMs[i]! < chain.bitsMs[smallest]!) smallest = i
  }
  return smallest
}

function busyLink(problem: Problem, chain: Chain, index: number, allowedMs: number): string | undefined {
  const bitsMs = chain.bitsMs[smallestOutput(chain, index)]!
  let fastest = Number.POSITIVE_INFINITY
  for (let other = 0; other < chain.devices; other++) {
    if (other !== index) fastest = Math.min(fastest, bitsMs * chain.slowness[other * chain.devices + index]!)
  }
  if (fastest <= allowedMs || fastest === Number.POSITIVE_INFINITY || problem.layers.length < 2)
    return undefined
  return (
    `its fastest link is busy ${formatMs(fastest)} with a micro-batch, ` +
    `more than the ${formatMs(allowedMs)} the plan takes`
  )
}

function tooCostly(
  problem: Problem,
  chain: Chain,
  index: number,
  throughMs: number,
  placement: Placement,
  valueMs: number
): string | undefined {
  if (!(throughMs > valueMs * (1 + WORSE))) return undefined
  if (throughMs === Number.POSITIVE_INFINITY) return noWay(problem, index) ?? 'no plan can pass it'
  const { inMs, outMs } = cheapestLinks(chain, index)
  const unit =
    problem.objective === 'throughput' ? 'a step' : problem.metric === 'tpot' ? 'a token' : 'a request'
  const slowest = Math.max(...placement.segments.map(({ device }) => layerMsOf(chain, device)))
  const own = layerMsOf(chain, index)
  const compute = own > slowest ? `, its layers ${formatMs(own)} each` : ''
  const { batch, microBatches } = placement
  const how = problem.objective === 'throughput' ? `with batch ${batch} in ${microBatches}, ` : ''
  const turnMs = chain.turnsMs[index]!
  const beside = turnMs > 0 ? `, a stage on it ${formatMs(turnMs)} beside its layers` : ''
  const without = plansForGuesses(problem) ? ' without guesses' : ''
  return (
    `${how}every plan with it takes at least ${formatMs(throughMs)} ${unit}${without}, ${formatMs(throughMs - valueMs)} more: ` +
    `its links add ${formatMs(inMs + outMs)} or more${beside}${compute}`
  )
}

/** Why hidden states get to a place or away from it at no other device, where that is so. */
function noWay(problem: Problem, index: number): string | undefined {
  const { devices, links } = problem
  if (isAtSource(problem, index)) return undefined
  const others = [...devices.keys()].filter(other => !sameDevice(problem, other, index))
  const reached = others.some(other => links[other]![index]!.mbps > 0)
  const reaches = others.some(other => links[index]![other]!.mbps > 0)
  return reached && reaches ? undefined : 'no other device is connected to it'
}

/** Mean time of a layer on a device. */
function layerMsOf(chain: Chain, device: number): number {
  // Those of the source have its first stage's turn among them.
  const turnMs = device === chain.source ? chain.turnsMs[device]! : 0
  return (rangeMs(chain, device, 0, chain.layers) - turnMs) / chain.layers
}

/**
 * Plays a plan event by event: every device and every direction of a link works on one thing at a time, first
 * come first served, transfers run beside compute.
 *
 * A micro-batch does its prefill, then its decode steps. Without bubbles its next step begins when its own
 * tokens are back at the source; with bubbles when the tokens of all micro-batches are. The cost of one step
 * comes from the evaluator (cost.ts), the timing does not: it is observed.
 */

import { placeName } from '../place-name.ts'
import {
  linkBetween,
  occupiedMs,
  segmentPrefillMs,
  stageMs,
  transferBytes,
  transferName,
  transfersOf,
  turnMs
} from './cost.ts'
import { ScenarioError } from './errors.ts'
import { EventQueue } from './event-queue.ts'
import type { Problem, Segment } from './problem.ts'

export type Strategy = 'noBubble' | 'bubble'

export interface Observed {
  /** Mean over the sequences, from the start to their first token back at the source. */
  readonly ttftMs: number
  /** Mean over the sequences of the time between their tokens. */
  readonly tpotMs: number
  /** Mean over the sequences, from the start to their last token. */
  readonly requestMs: number
  /** All tokens over all time: prefill, filling and draining included. */
  readonly tokensPerSecond: number
  /** While every micro-batch is decoding: without prefill, filling and draining. */
  readonly steadyTokensPerSecond: number
  /** Decode steps in the mean, stage by stage: of the layers, and of all else until the stage has handed on. */
  readonly stages: readonly { readonly computeMs: number; readonly waitMs: number }[]
  /** Time from the start of a decode step to its tokens, in the mean. */
  readonly stepMs: number
  /** Share of the whole time each resource worked. */
  readonly busy: readonly { readonly resource: string; readonly share: number }[]
}

/** One thing a resource does for a micro-batch, in the order of the way through the plan. */
interface Visit {
  readonly resource: number
  readonly occupiedMs: number
  /** Which stage computes, and for how long of that; undefined for a link. */
  readonly stage: { readonly at: number; readonly computeMs: number } | undefined
  /** After the resource is free again, before the next visit begins. */
  readonly delayMs: number
}

interface MicroBatch {
  readonly sequences: number
  readonly prefill: readonly Visit[]
  readonly decode: readonly Visit[]
  /** When each of its tokens was back. */
  readonly tokenMs: number[]
  /** How far it is on its way, and since when it stands there. */
  at: number
  sinceMs: number
  /** When its step began. */
  beganMs: number
}

interface Sums {
  visits: number
  computeMs: number
  allMs: number
}

interface Resource {
  readonly name: string
  busyMs: number
  working: boolean
  readonly waiting: MicroBatch[]
}

/** A few seconds of playing. */
const MAX_VISITS = 2e6

export interface Run {
  readonly batch: number
  readonly microBatches: number
  readonly strategy: Strategy
  /** How many times its time each visit takes, one draw a visit. @default 1, always */
  readonly noise?: () => number
}

/** The sizes of the micro-batches: as equal as they can be, the larger first. */
export function microBatchSizes(batch: number, microBatches: number): number[] {
  return Array.from(
    { length: microBatches },
    (_, n) => Math.floor(batch / microBatches) + (n < batch % microBatches ? 1 : 0)
  )
}

/**
 * @throws ScenarioError when playing it would take more than `MAX_VISITS` steps.
 */
export function simulate(problem: Problem, segments: readonly Segment[], run: Run): Observed {
  const visits = 2 * segments.length * run.microBatches * problem.workload.newTokens
  if (visits > MAX_VISITS) {
    const asked = `${problem.workload.newTokens} tokens in ${run.microBatches} micro-batches`
    throw new ScenarioError('workload.newTokens', `${asked} are too many to play event by event`)
  }
  return new Simulation(problem, segments, run).play()
}

class Simulation {
  readonly #problem: Problem
  readonly #segments: readonly Segment[]
  readonly #run: Run
  readonly #resources: Resource[] = []
  readonly #indexOf = new Map<string, number>()
  readonly #events = new EventQueue()
  readonly #microBatches: readonly MicroBatch[]
  readonly #stages: readonly Sums[]
  readonly #steps = { visits: 0, allMs: 0 }
  /** Bubbles: micro-batches whose tokens of this round are back. */
  #returned = 0

  constructor(problem: Problem, segments: readonly Segment[], run: Run) {
    this.#problem = problem
    this.#segments = segments
    this.#run = run
    this.#microBatches = microBatchSizes(run.batch, run.microBatches).map(sequences => ({
      sequences,
      prefill: this.#way(sequences, true),
      decode: this.#way(sequences, false),
      tokenMs: [],
      at: 0,
      sinceMs: 0,
      beganMs: 0
    }))
    this.#stages = segments.map(() => ({ visits: 0, computeMs: 0, allMs: 0 }))
  }

  play(): Observed {
    for (const microBatch of this.#microBatches) this.#arrive(microBatch, 0)
    const endMs = this.#events.run()
    return this.#observe(endMs)
  }

  /** Every device and link one step passes, with the times the evaluator gives. */
  #way(sequences: number, prefill: boolean): Visit[] {
    const problem = this.#problem
    const transfers = transfersOf(problem, this.#segments)
    const tokens = prefill ? sequences * problem.workload.promptTokens : sequences
    return this.#segments.flatMap((segment, n): Visit[] => {
      const computeMs = prefill
        ? segmentPrefillMs(problem, segment) * sequences + turnMs(problem, segment)
        : stageMs(problem, segment, sequences)
      const name = placeName(problem.devices[segment.device]!)
      const stage = { at: n, computeMs: computeMs - turnMs(problem, segment) }
      const visits: Visit[] = [
        {
          resource: this.#resource(`${segment.device}`, name),
          occupiedMs: computeMs,
          delayMs: 0,
          stage: prefill ? undefined : stage
        }
      ]
      const transfer = transfers[n]
      if (transfer === undefined) return visits
      const link = linkBetween(problem, transfer.from, transfer.to)
      const bytes = transferBytes(problem, transfer, transfer.returns ? sequences : tokens)
      const between = transferName(problem, transfer)
      visits.push({
        resource: this.#resource(`${transfer.from} ${transfer.to}`, between),
        occupiedMs: occupiedMs(link, bytes),
        delayMs: link.delayMs,
        stage: undefined
      })
      return visits
    })
  }

  /** @param key of the places that it is, which may have names alike: `desk (gpu)` */
  #resource(key: string, name: string): number {
    const known = this.#indexOf.get(key)
    if (known !== undefined) return known
    this.#indexOf.set(key, this.#resources.length)
    return this.#resources.push({ name, busyMs: 0, working: false, waiting: [] }) - 1
  }

  #wayOf(microBatch: MicroBatch): readonly Visit[] {
    return microBatch.tokenMs.length === 0 ? microBatch.prefill : microBatch.decode
  }

  /** A micro-batch stands before its next resource. */
  #arrive(microBatch: MicroBatch, nowMs: number): void {
    const visit = this.#wayOf(microBatch)[microBatch.at]
    if (visit === undefined) {
      this.#back(microBatch, nowMs)
      return
    }
    const resource = this.#resources[visit.resource]!
    microBatch.sinceMs = nowMs
    if (microBatch.at === 0) microBatch.beganMs = nowMs
    resource.waiting.push(microBatch)
    this.#work(resource, nowMs)
  }

  #work(resource: Resource, nowMs: number): void {
    if (resource.working) return
    const microBatch = resource.waiting.shift()
    if (microBatch === undefined) return
    const visit = this.#wayOf(microBatch)[microBatch.at]!
    resource.working = true
    const factor = this.#run.noise?.() ?? 1
    const occupiedMs = factor * visit.occupiedMs
    resource.busyMs += occupiedMs
    const freeMs = nowMs + occupiedMs
    if (visit.stage !== undefined) {
      const sums = this.#stages[visit.stage.at]!
      sums.visits++
      sums.computeMs += factor * visit.stage.computeMs
      sums.allMs += freeMs - microBatch.sinceMs
    }
    microBatch.at++
    this.#events.at(freeMs, () => {
      resource.working = false
      this.#work(resource, freeMs)
    })
    this.#events.at(freeMs + visit.delayMs, () => this.#arrive(microBatch, freeMs + visit.delayMs))
  }

  /** A token of every sequence of the micro-batch is back at the source. */
  #back(microBatch: MicroBatch, nowMs: number): void {
    if (microBatch.tokenMs.push(nowMs) > 1) {
      this.#steps.visits++
      this.#steps.allMs += nowMs - microBatch.beganMs
    }
    microBatch.at = 0
    const more = microBatch.tokenMs.length < this.#problem.workload.newTokens
    if (this.#run.strategy === 'noBubble') {
      if (more) this.#arrive(microBatch, nowMs)
      return
    }
    this.#returned++
    if (this.#returned < this.#microBatches.length) return
    this.#returned = 0
    if (more) for (const each of this.#microBatches) this.#arrive(each, nowMs)
  }

  #observe(endMs: number): Observed {
    const { batch } = this.#run
    const { newTokens } = this.#problem.workload
    let firstSum = 0
    let lastSum = 0
    let fromMs = 0
    let toMs = Number.POSITIVE_INFINITY
    for (const { tokenMs, sequences } of this.#microBatches) {
      const first = tokenMs[0]!
      const last = tokenMs[newTokens - 1]!
      firstSum += sequences * first
      lastSum += sequences * last
      fromMs = Math.max(fromMs, first)
      toMs = Math.min(toMs, last)
    }
    let steadyTokens = 0
    for (const { tokenMs, sequences } of this.#microBatches) {
      steadyTokens += sequences * tokenMs.filter(ms => ms > fromMs && ms <= toMs).length
    }
    const tokensPerSecond = (1000 * batch * newTokens) / endMs
    const ttftMs = firstSum / batch
    const requestMs = lastSum / batch
    return {
      ttftMs,
      tpotMs: newTokens > 1 ? (requestMs - ttftMs) / (newTokens - 1) : 0,
      requestMs,
      tokensPerSecond,
      steadyTokensPerSecond: toMs > fromMs ? (1000 * steadyTokens) / (toMs - fromMs) : tokensPerSecond,
      stages: this.#stages.map(({ visits, computeMs, allMs }) => ({
        computeMs: computeMs / Math.max(1, visits),
        waitMs: (allMs - computeMs) / Math.max(1, visits)
      })),
      stepMs: this.#steps.allMs / Math.max(1, this.#steps.visits),
      busy: this.#resources.map(({ name, busyMs }) => ({ resource: name, share: busyMs / endMs }))
    }
  }
}

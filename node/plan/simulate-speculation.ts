/**
 * Plays one sequence with speculation event by event: guesses that are right or wrong by lot, frames that wait before devices
 * and links, and stages that drop what is stale when the first frame of the new run arrives.
 */
import { linkBetween, occupiedMs, stageMs, transferBytes, transfersOf } from './cost.ts'
import { EventQueue } from './event-queue.ts'
import type { Problem, Segment, Speculation } from './problem.ts'
import { wayOf, windowOf } from './speculation.ts'

export interface ObservedSpeculation {
  /** Mean time between tokens. */
  readonly tpotMs: number
  /** Share of the frames that were sent in vain. */
  readonly wastedShare: number
}

interface Frame {
  /** The run that it belongs to. */
  readonly run: number
  /** Its place in the run; 0 carries the known token. */
  readonly index: number
  at: number
}

interface Resource {
  working: boolean
  waiting: Frame[]
}

interface Visit {
  readonly resource: Resource
  readonly occupiedMs: number
  readonly delayMs: number
}

/** Enough for a mean to a percent or two. */
const TOKENS = 10_000

/** @param tokens how many are played */
export function simulateSpeculation(
  problem: Problem,
  segments: readonly Segment[],
  speculation: Speculation,
  tokens = TOKENS
): ObservedSpeculation {
  return new Play(problem, segments, speculation).play(tokens)
}

class Play {
  readonly #way: readonly Visit[]
  readonly #speculation: Speculation
  readonly #window: number
  readonly #events = new EventQueue()
  readonly #random = lots(1)
  #run = 0
  /** Right guesses of the run, and frames of it that are sent and back. */
  #right = 0
  #sent = 0
  #back = 0
  #tokens = 0
  #frames = 0
  #useful = 0
  #wanted = 0
  #endMs = 0

  constructor(problem: Problem, segments: readonly Segment[], speculation: Speculation) {
    this.#speculation = speculation
    const {
      acceptance,
      draftMs,
      window = windowOf(wayOf(problem, segments, draftMs), acceptance)
    } = speculation
    this.#window = window
    const resources = new Map<string, Resource>()
    const resource = (name: string): Resource => {
      const known = resources.get(name) ?? { working: false, waiting: [] }
      resources.set(name, known)
      return known
    }
    const transfers = transfersOf(problem, segments)
    this.#way = segments.flatMap(({ device, start, end }, n): Visit[] => {
      const guessMs = n === 0 ? speculation.draftMs : 0
      const computeMs = stageMs(problem, { device, start, end }, 1)
      const visits = [{ resource: resource(`${device}`), occupiedMs: guessMs + computeMs, delayMs: 0 }]
      const transfer = transfers.find(({ layer }) => layer === end - 1)
      if (transfer === undefined) return visits
      const link = linkBetween(problem, transfer.from, transfer.to)
      const bytes = transferBytes(problem, transfer, 1)
      const between = resource(`${transfer.from} ${transfer.to}`)
      return [...visits, { resource: between, occupiedMs: occupiedMs(link, bytes), delayMs: link.delayMs }]
    })
  }

  play(tokens: number): ObservedSpeculation {
    this.#wanted = tokens
    this.#begin(0)
    this.#events.run()
    return { tpotMs: this.#endMs / this.#tokens, wastedShare: 1 - this.#useful / this.#frames }
  }

  /** A run from a token that is known on. */
  #begin(nowMs: number): void {
    this.#run++
    this.#right = 0
    while (this.#random() < this.#speculation.acceptance && this.#right < this.#wanted) this.#right++
    this.#sent = 0
    this.#back = 0
    this.#send(nowMs)
  }

  /** As many frames as the window has room for; they wait before the first device. */
  #send(nowMs: number): void {
    while (this.#sent - this.#back < this.#window) {
      this.#arrive({ run: this.#run, index: this.#sent++, at: 0 }, nowMs)
    }
  }

  #arrive(frame: Frame, nowMs: number): void {
    const visit = this.#way[frame.at]
    if (visit === undefined) {
      this.#returned(frame, nowMs)
      return
    }
    const { resource } = visit
    resource.waiting = resource.waiting.filter(({ run }) => run >= frame.run)
    resource.waiting.push(frame)
    this.#work(resource, nowMs)
  }

  #work(resource: Resource, nowMs: number): void {
    if (resource.working) return
    const frame = resource.waiting.shift()
    if (frame === undefined) return
    const { occupiedMs, delayMs } = this.#way[frame.at]!
    if (frame.at === 0) this.#frames++
    frame.at++
    resource.working = true
    const freeMs = nowMs + occupiedMs
    // First: where the last stage is the source, what it has just drawn is known before it goes on.
    this.#events.at(freeMs + delayMs, () => this.#arrive(frame, freeMs + delayMs))
    this.#events.at(freeMs, () => {
      resource.working = false
      this.#work(resource, freeMs)
    })
  }

  #returned({ run, index }: Frame, nowMs: number): void {
    if (run !== this.#run || this.#tokens >= this.#wanted) return
    this.#tokens++
    this.#useful++
    this.#back++
    this.#endMs = nowMs
    if (this.#tokens >= this.#wanted) return
    if (index === this.#right) this.#begin(nowMs)
    else this.#send(nowMs)
  }
}

/** Numbers in [0, 1), the same each time (mulberry32). */
function lots(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

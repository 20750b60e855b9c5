import { EventEmitter, once } from 'node:events'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import { deadlineFor } from './expected-times.ts'
import type { PrefillStep } from './prefill-steps.ts'

/** A milestone ends so many tokens, or a chunk's that should take so long. */
export const MILESTONE_TOKENS = 256
const MILESTONE_MS = 1000
/**
 * Tokens of one prompt that may be on their way. Every stage has enough to do, and none is sent more than it may keep
 * waiting: one that stopped to read for a while would count as stalled.
 */
export const WINDOW_TOKENS = 1024
/**
 * The same of what catches up with a running answer: no more of it may lie before that one's steps on a link.
 */
export const CATCH_UP_MILESTONE_TOKENS = PREFILL_CHUNK_TOKENS
export const CATCH_UP_WINDOW_TOKENS = 2 * PREFILL_CHUNK_TOKENS
/** A milestone may take so many times what the one before took: the context has at most doubled. */
const OBSERVED_FACTOR = 4

interface Milestone {
  /** Tokens `[start, end)` come through with it. */
  start: number
  end: number
  /** The position where its step starts: it comes back with the token. */
  position: number
  /** What these tokens should take, in how many steps. */
  expectedMs: number
  steps: number
  sent: boolean
}

/** The tokens that the last stage let through too late. */
export interface LatePart {
  start: number
  end: number
  deadlineMs: number
}

export interface PromptProgressInit {
  /** The first token that goes in. */
  fromToken: number
  /** Tokens that the last stage has already: no step before them reaches it. */
  keepTokens: number
  /** Whether it catches up with an answer that runs. @default false */
  catchesUp?: boolean
  /** What other answers add to one step of this prompt, in ms. */
  othersMs: () => number
  onLate: (late: LatePart) => void
}

/**
 * A prompt on its way through stages of other peers. Some of its steps, the milestones, draw a token for nobody, so that
 * the source sees how far the prompt is: each that comes through renews the deadline, and only so many tokens follow it.
 */
export class PromptProgress {
  readonly #init: PromptProgressInit
  readonly #events = new EventEmitter<{ moved: [] }>()
  /** Those that are not through, in order. */
  readonly #milestones: Milestone[] = []
  /** What the next milestone ends. */
  #next: Milestone | undefined
  #through: number
  #deadline: NodeJS.Timeout | undefined
  #waitingSinceMs = 0
  #observedMsPerToken = 0
  #ended = false

  constructor(init: PromptProgressInit) {
    this.#init = init
    this.#through = init.fromToken
  }

  /** Tokens that are known to be through. */
  get throughTokens(): number {
    return this.#through
  }

  /** True of a step that a token is to be drawn behind: the last one, and milestones before it. */
  enter({ position, tokens }: PrefillStep, expectedMs: number, last: boolean): boolean {
    const next = this.#next ?? { start: position, end: 0, position, expectedMs: 0, steps: 0, sent: false }
    next.position = position
    next.end = position + tokens.length
    next.expectedMs += expectedMs
    next.steps++
    this.#next = next
    const length = next.end - next.start
    const slow = length >= PREFILL_CHUNK_TOKENS && next.expectedMs >= MILESTONE_MS
    const most = this.#init.catchesUp ? CATCH_UP_MILESTONE_TOKENS : MILESTONE_TOKENS
    const due = length >= most || slow
    if (!last && !(due && position >= this.#init.keepTokens)) return false
    this.#next = undefined
    this.#milestones.push(next)
    return true
  }

  /**
   * True while a step has to wait for what is before it. What stages make of single tokens that one is drawn behind is
   * overwritten by the step after the next one (`HiddenStates`), so none of them follows another before that is through.
   */
  crowded({ position, tokens }: PrefillStep): boolean {
    if (this.#ended || this.#milestones.length === 0) return false
    const end = position + tokens.length
    const most = this.#init.catchesUp ? CATCH_UP_WINDOW_TOKENS : WINDOW_TOKENS
    return end > this.#through + most || (tokens.length === 1 && this.#milestones.some(isSingle))
  }

  /** Resolves when a milestone has come through, or nothing is waited for any more. */
  async moved(): Promise<void> {
    await once(this.#events, 'moved')
  }

  /** A step has left this node. */
  sent(position: number): void {
    const milestone = this.#milestones.find(each => each.position === position)
    if (milestone === undefined || this.#ended) return
    milestone.sent = true
    if (this.#deadline === undefined) this.#await()
  }

  /** True of a milestone's step. */
  expects(position: number): boolean {
    return this.#milestones.some(each => each.position === position)
  }

  /** A token came back from a milestone: all before it is through. */
  passed(position: number): void {
    const at = this.#milestones.findIndex(each => each.position === position)
    const passed = this.#milestones.splice(0, at + 1)
    const tookMs = performance.now() - this.#waitingSinceMs
    const tokens = passed.reduce((sum, { start, end }) => sum + end - start, 0)
    if (this.#deadline !== undefined) this.#observedMsPerToken = tookMs / tokens
    this.#through = passed.at(-1)!.end
    this.#await()
    this.#events.emit('moved')
  }

  /** Nothing is waited for any more. */
  end(): void {
    this.#ended = true
    clearTimeout(this.#deadline)
    this.#events.emit('moved')
  }

  /** The deadline of the first milestone that is under way. */
  #await(): void {
    clearTimeout(this.#deadline)
    this.#deadline = undefined
    const [first] = this.#milestones
    if (first === undefined || !first.sent) return
    const { start, end, expectedMs, steps } = first
    const predictedMs = expectedMs + steps * this.#init.othersMs()
    const observedMs = this.#observedMsPerToken * (end - start)
    // What came before says more than no prediction.
    const deadlineMs = Math.max(deadlineFor(predictedMs || observedMs), OBSERVED_FACTOR * observedMs)
    this.#waitingSinceMs = performance.now()
    this.#deadline = setTimeout(() => this.#init.onLate({ start, end, deadlineMs }), deadlineMs)
  }
}

function isSingle({ position, end }: Milestone): boolean {
  return end === position + 1
}

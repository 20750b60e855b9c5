import type { Strategy } from '../../api.ts'
import type { SourceSession } from './source-session.ts'

/** Tokens of a prompt that running answers wait for: what takes longer would be missed by whoever reads one. */
const SHORT_PROMPT_TOKENS = 256

export interface MicroBatchesInit {
  /** Sessions that the stages' KV caches have room for, in how many micro-batches, and how these follow each other. */
  slots: number
  microBatches: number
  strategy: Strategy
  /** Many answers matter, and none by itself: running ones wait for short prompts that join. @default false */
  promptsFirst?: boolean
}

/** What is asked of a session that may take part in a step. */
type Stepping = Pick<SourceSession, 'slot' | 'ready' | 'busy' | 'prefilling' | 'promptTokens' | 'led'>

/** Which sessions of a pipeline make a step together, and when. Those that follow others are in no micro-batch. */
export class MicroBatches<Session extends Stepping> {
  /** Neighbouring slots whose sessions decode together. */
  readonly slotsEach: number
  readonly #init: MicroBatchesInit
  /** Answers that have begun while one waited that could make a step, since the last step. */
  #joined = 0

  constructor(init: MicroBatchesInit) {
    this.#init = init
    this.slotsEach = Math.ceil(init.slots / init.microBatches)
  }

  /** One more session is about to be opened beside these. */
  joins(sessions: readonly Session[]): void {
    if (sessions.some(({ ready, led }) => ready && !led)) this.#joined++
  }

  /**
   * The micro-batches that start a step now: those with a session that is ready and without one whose step is on its
   * way; where the strategy is `bubble`, none while any step is. A session that is prefilled is in no micro-batch yet.
   */
  start(sessions: readonly Session[]): Session[][] {
    if (this.#waitsForPrompts(sessions)) return []
    const microBatches = new Map<number, Session[]>()
    const stepping = new Set<number>()
    for (const session of sessions) {
      const index = this.#indexOf(session)
      if (session.led) continue
      if (session.busy && !session.prefilling) stepping.add(index)
      else if (session.ready) {
        const ready = microBatches.get(index)
        if (ready === undefined) microBatches.set(index, [session])
        else ready.push(session)
      }
    }
    if (this.#init.strategy === 'bubble' && stepping.size > 0) return []
    for (const index of stepping) microBatches.delete(index)
    if (microBatches.size > 0) this.#joined = 0
    return [...microBatches.values()]
  }

  /** True while steps of an answer that has begun are made. */
  isRunning(sessions: readonly Session[]): boolean {
    const waits = this.#waitsForPrompts(sessions)
    return sessions.some(({ ready, busy, prefilling }) => (ready && !waits) || (busy && !prefilling))
  }

  /** Micro-batches that have a step under way, 1 at least. */
  underWay(sessions: readonly Session[]): number {
    const busy = sessions.filter(each => each.busy && !each.prefilling && !each.led)
    return Math.max(1, new Set(busy.map(session => this.#indexOf(session))).size)
  }

  /**
   * Whether prompts on their way are to be through before a next token is drawn anywhere: where many answers matter and none by
   * itself, those that begin together draw together, as steps of several sequences take less than as many of one. Answers that have
   * begun wait for no more prompts than there are slots, as prompts may take each other's places without end.
   */
  #waitsForPrompts(sessions: readonly Session[]): boolean {
    const { promptsFirst = false, slots } = this.#init
    if (!promptsFirst || this.#joined > slots) return false
    const prompts = sessions.filter(({ prefilling, led }) => prefilling && !led)
    return prompts.length > 0 && prompts.every(({ promptTokens }) => promptTokens <= SHORT_PROMPT_TOKENS)
  }

  #indexOf({ slot }: Session): number {
    return Math.floor(slot / this.slotsEach)
  }
}

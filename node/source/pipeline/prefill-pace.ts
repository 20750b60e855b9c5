import { EventEmitter, once } from 'node:events'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'

/** A running answer's step waits behind prompts for at most so long on a link, or for one chunk where that takes longer. */
export const MAX_PREFILL_STALL_MS = 250

/** Whether a step that went in behind pieces of prompts is not back. */
type UnderWay = () => boolean

/**
 * Lets only so much of prompts into the pipeline while answers run: links carry frames in the order in which they came,
 * and what is in their buffers lies ahead of every step. When a step that went in behind it is back, it has passed.
 */
export class PrefillPace {
  readonly #windowTokens: number
  readonly #events = new EventEmitter<{ passed: [] }>()
  /** Tokens of prompts that may still be on their way. */
  #ahead = 0
  #follower: UnderWay | undefined

  /** @param linksMs what one token takes on each link between stages, as predicted */
  constructor(linksMs: readonly number[]) {
    const chunkMs = PREFILL_CHUNK_TOKENS * Math.max(0, ...linksMs)
    this.#windowTokens = PREFILL_CHUNK_TOKENS * Math.max(1, MAX_PREFILL_STALL_MS / chunkMs)
    this.#events.setMaxListeners(0)
  }

  /** Waits until so many tokens of a prompt may go in: at once while no answer runs. */
  async enter(tokens: number, running: () => boolean): Promise<void> {
    while (running() && this.#ahead + tokens > this.#windowTokens) {
      await once(this.#events, 'passed')
    }
    this.#ahead += tokens
    this.#follower = undefined
  }

  /** They have left the first stage, perhaps behind steps that overtook them there. */
  entered(): void {
    this.#follower = undefined
  }

  /** A step goes in that a token comes back from: of running answers, or the last one of a prompt. */
  follow(underWay: UnderWay): void {
    if (this.#ahead > 0) this.#follower ??= underWay
  }

  /** Looks whether what was ahead has passed; to be called when a step is back or a session has ended. */
  settle(running: boolean): void {
    const passed = this.#follower?.() === false
    if (passed) {
      this.#ahead = 0
      this.#follower = undefined
    }
    if (passed || !running) this.#events.emit('passed')
  }
}

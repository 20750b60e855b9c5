import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import type { Predicted } from '../../api.ts'
import { STEP_DEADLINE_FACTOR, STEP_DEADLINE_FLOOR_MS, UNPREDICTED_DEADLINE_MS } from '../../constants.ts'

export interface ExpectedTimesInit {
  /** For the whole prompt, and for a step at the mean context of the whole answer. */
  predicted: Pick<Predicted, 'ttftMs' | 'tpotMs'>
  promptTokens: number
  /** Tokens of the answer at most. */
  newTokens: number
}

/**
 * What parts of one answer should take at most by its prediction. A token costs what it costs alone and what attention to
 * the tokens before it costs, which grows with their number. How much of a prediction is which, nobody need know: a mix
 * of the two never exceeds the larger one.
 */
export class ExpectedTimes {
  readonly #init: ExpectedTimesInit

  constructor(init: ExpectedTimesInit) {
    this.#init = init
  }

  /** Tokens `[start, end)` of the prompt, through all stages, in ms. */
  promptMs(start: number, end: number): number {
    const { predicted, promptTokens } = this.#init
    const alike = (end - start) / promptTokens
    const growing = (end ** 2 - start ** 2) / promptTokens ** 2
    return predicted.ttftMs * Math.max(alike, growing)
  }

  /** The dearest chunk of the prompt, in ms. */
  get chunkMs(): number {
    const { promptTokens } = this.#init
    return this.promptMs(Math.max(0, promptTokens - PREFILL_CHUNK_TOKENS), promptTokens)
  }

  /** A decode step with so many tokens before it, in ms. */
  stepMs(contextTokens: number): number {
    const { predicted, promptTokens, newTokens } = this.#init
    return predicted.tpotMs * Math.max(1, contextTokens / (promptTokens + newTokens / 2))
  }
}

/** How long other peers may take for what should take so long, in ms. */
export function deadlineFor(expectedMs: number): number {
  if (expectedMs === 0) return UNPREDICTED_DEADLINE_MS
  return Math.max(STEP_DEADLINE_FLOOR_MS, STEP_DEADLINE_FACTOR * expectedMs)
}

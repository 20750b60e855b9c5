import { LEAST_PIECE_TOKENS } from './chunk.ts'

/** A step of running answers may take so much longer for the tokens of a prompt that it takes along. */
const BESIDE = 0.4
/** A piece of a prompt that is computed between two steps of running answers may take so much of one of them. */
const BETWEEN = 0.5
/** Tokens of a piece before there is anything to go by. */
const FIRST_TOKENS = 4
/** Weight of the newest time. */
const NEWEST = 1 / 4

/**
 * How many tokens of a joining prompt a stage computes at once while answers run, so that these hardly wait for it: by
 * what steps with and without a prompt took here. Where rows cost nearly nothing, as on a GPU, that is a whole chunk.
 */
export class PromptShare {
  /** A step of running answers, by its rows. */
  readonly #stepMs = new Map<number, number>()
  #lastRows = 1
  /** A token that such a step took along. */
  #besideMs: number | undefined
  /** A token of a piece that was computed alone. */
  #betweenMs: number | undefined

  /** A step of running answers alone. */
  answered(rows: number, ms: number): void {
    this.#lastRows = rows
    this.#stepMs.set(rows, mean(this.#stepMs.get(rows), ms))
  }

  /** One that took so many tokens of a prompt along. */
  joined(rows: number, tokens: number, ms: number): void {
    this.#lastRows = rows
    const stepMs = this.stepMs(rows)
    if (stepMs !== undefined) this.#besideMs = mean(this.#besideMs, Math.max(0, ms - stepMs) / tokens)
  }

  /** A piece of a prompt alone, between steps of running answers. */
  computed(tokens: number, ms: number): void {
    this.#betweenMs = mean(this.#betweenMs, ms / tokens)
  }

  /** Tokens that a step of so many rows may take along. */
  beside(rows: number): number {
    return tokensIn(BESIDE, this.stepMs(rows), this.#besideMs)
  }

  /** Tokens that may be computed between two steps of running answers. */
  get between(): number {
    return tokensIn(BETWEEN, this.stepMs(this.#lastRows), this.#betweenMs)
  }

  /** What a step of so many rows takes alone; of the next fewer rows where there was none; undefined where there were none either. */
  stepMs(rows: number): number | undefined {
    const known = [...this.#stepMs.keys()].filter(count => count <= rows)
    return this.#stepMs.get(Math.max(...known))
  }
}

function tokensIn(share: number, stepMs: number | undefined, tokenMs: number | undefined): number {
  if (stepMs === undefined || tokenMs === undefined) return FIRST_TOKENS
  return Math.max(LEAST_PIECE_TOKENS, tokenMs === 0 ? Infinity : Math.floor((share * stepMs) / tokenMs))
}

function mean(before: number | undefined, newest: number): number {
  return before === undefined ? newest : before + NEWEST * (newest - before)
}

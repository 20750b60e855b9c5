import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'

/** Tokens [start, end) of a sequence that were computed in steps of so many; the last step may have fewer. */
interface ComputedRun {
  start: number
  end: number
  stepTokens: number
}

/**
 * The steps in which the tokens of a KV cache were computed, from the first on. A step of one row rounds otherwise than one of
 * several, so what goes on from the middle of a step is not what it was when the whole was computed; what goes on from
 * between two is.
 */
export class ComputedRuns {
  readonly #runs: readonly ComputedRun[]

  constructor(runs: readonly ComputedRun[] = []) {
    this.#runs = runs
  }

  /** The last place between two steps that is not behind `tokens`. */
  stepBefore(tokens: number): number {
    const run = this.#runs.findLast(({ start }) => start <= tokens)
    if (run === undefined) return 0
    const { start, end, stepTokens } = run
    return tokens >= end ? end : tokens - ((tokens - start) % stepTokens)
  }

  /** The steps, as half-open ranges of tokens. */
  get steps(): [number, number][] {
    return this.#runs.flatMap(({ start, end, stepTokens }) =>
      Array.from({ length: Math.ceil((end - start) / stepTokens) }, (_, i): [number, number] => {
        const from = start + i * stepTokens
        return [from, Math.min(from + stepTokens, end)]
      })
    )
  }

  /** Those of the first `tokens` tokens. */
  until(tokens: number): ComputedRuns {
    const kept = this.#runs.filter(({ start }) => start < tokens)
    return new ComputedRuns(kept.map(run => ({ ...run, end: Math.min(run.end, tokens) })))
  }

  /** These with what a session computed behind them: the rest of its prompt in chunks, then single tokens. */
  followedBy({ promptTokens, cachedTokens }: { promptTokens: number; cachedTokens: number }): ComputedRuns {
    const kept = this.until(cachedTokens)
    const from = kept.#runs.at(-1)?.end ?? 0
    const chunksEnd = Math.min(Math.max(from, promptTokens), cachedTokens)
    const added = [
      { start: from, end: chunksEnd, stepTokens: PREFILL_CHUNK_TOKENS },
      { start: chunksEnd, end: cachedTokens, stepTokens: 1 }
    ]
    return new ComputedRuns([...kept.#runs, ...added.filter(({ start, end }) => start < end)])
  }
}

import { medianOf } from '../median.ts'

/** Requests that a correction is drawn from. */
const SAMPLES = 5
/** What is beyond waited for somebody else's answer. */
const MOST_MS = 1000

/**
 * How much later than its prompt takes a request's first token comes, of a model whose stages are loaded: its session on every
 * stage, and the first text's way to the client. The median of the last requests; 0 while there were none.
 */
export class FirstTokens {
  readonly #beyondMs = new Map<string, number[]>()

  beyondMs(modelId: string): number {
    return medianOf(this.#beyondMs.get(modelId) ?? []) ?? 0
  }

  /** @param measuredMs from its start, of a request that waited for nobody else's and for no load, without what it waited for a plan */
  note(modelId: string, expectedMs: number, measuredMs: number): void {
    const beyondMs = Math.min(MOST_MS, Math.max(0, measuredMs - expectedMs))
    if (!Number.isFinite(beyondMs)) return
    this.#beyondMs.set(modelId, [...(this.#beyondMs.get(modelId) ?? []), beyondMs].slice(-SAMPLES))
  }
}

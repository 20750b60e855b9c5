import { NOTHING_SETTLED, type SettledTimes } from './settled-times.ts'

/** Placements that a correction is drawn from. */
const SAMPLES = 5
/** What is beyond waited for somebody else's memory, or for a device that was started just then. */
const FACTORS = [0.2, 10] as const

/** How many times what is expected it takes until a model's stages are fetched and loaded: the median of the last placements. */
export class LoadTimes {
  readonly #factors = new Map<string, number[]>()
  /** What a process's first placement says of a model of which nothing else is known. */
  readonly #firsts = new Map<string, number>()
  readonly #settled: Pick<SettledTimes, 'loadFactorOf' | 'settleLoad'>

  /** @param settled what those of earlier runs took, and where this is told to */
  constructor(settled: Pick<SettledTimes, 'loadFactorOf' | 'settleLoad'> = NOTHING_SETTLED) {
    this.#settled = settled
  }

  /** What the last placements took of what was expected; 1 while there were none. */
  factorOf(modelId: string): number {
    const factors = this.#factors.get(modelId)
    if (factors === undefined) return this.#settled.loadFactorOf(modelId) ?? this.#firsts.get(modelId) ?? 1
    const sorted = [...factors].sort((a, b) => a - b)
    const middle = sorted.length >> 1
    return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
  }

  /**
   * @param expectedMs without what was learned; nothing is learned of a placement of which all is loaded already
   * @param measuredMs without what was done beside it
   * @param isFirst by this process, which takes longer by a time that is only roughly known
   */
  note(modelId: string, expectedMs: number, measuredMs: number, { isFirst = false } = {}): void {
    if (!(expectedMs > 0 && measuredMs >= 0)) return
    const factor = Math.min(FACTORS[1], Math.max(FACTORS[0], measuredMs / expectedMs))
    if (isFirst) {
      this.#firsts.set(modelId, factor)
      return
    }
    this.#factors.set(modelId, [...(this.#factors.get(modelId) ?? []), factor].slice(-SAMPLES))
    this.#settled.settleLoad(modelId, this.factorOf(modelId))
  }
}

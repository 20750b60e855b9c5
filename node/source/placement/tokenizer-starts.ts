/** Processor time that starting a tokenizer's process takes, and reading each byte of its vocabulary: measured of Llama-2's 1.8 MB. */
const START_CPU_MS = 120
const CPU_MS_PER_BYTE = 0.14e-3
/** What is beyond is no tokenizer's start: it would have been ended. */
const MOST_CPU_MS = 30_000
/** Share of the processors that a start has while its model is placed beside it. */
const OWN_SHARE = 0.5

/**
 * What this device's tokenizers take of its processors while they start: the weights of their model are loaded at the same time,
 * and come later where there is no processor for each. How fast the device is at it, the last start says.
 */
export class TokenizerStarts {
  readonly #begun = new Map<string, { atMs: number; cpuMs: number }>()
  readonly #processors: () => number
  readonly #now: () => number
  /** Times what is assumed. */
  #factor = 1

  /** @param processors that this node has in the mean */
  constructor(processors: () => number, now: () => number) {
    this.#processors = processors
    this.#now = now
  }

  /** @param bytes of the vocabulary's file */
  begin(modelId: string, bytes: number): void {
    const cpuMs = Math.min(MOST_CPU_MS, START_CPU_MS + CPU_MS_PER_BYTE * bytes)
    this.#begun.set(modelId, { atMs: this.#now(), cpuMs })
  }

  /** @param cpuMs processor time that it took; undefined where it has failed */
  end(modelId: string, cpuMs: number | undefined): void {
    const start = this.#begun.get(modelId)
    this.#begun.delete(modelId)
    if (start !== undefined && cpuMs !== undefined) this.#factor = Math.min(MOST_CPU_MS, cpuMs) / start.cpuMs
  }

  /**
   * What a load on this device takes beside the start of its model's tokenizer, where one is under way.
   *
   * @param loadMs what it takes alone, on one processor or the part of one that there is
   */
  besideMs(modelId: string, loadMs: number): number {
    const start = this.#begun.get(modelId)
    if (start === undefined) return loadMs
    const processors = this.#processors()
    const one = Math.min(1, processors)
    const hadMs = OWN_SHARE * one * (this.#now() - start.atMs)
    const leftMs = Math.max(0, this.#factor * start.cpuMs - hadMs)
    return Math.max(loadMs, (one * loadMs + leftMs) / processors)
  }
}

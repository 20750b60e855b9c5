/** Processor time that starting a tokenizer's process takes, and reading each byte of its vocabulary: measured of Llama-2's 1.8 MB. */
const TOKENIZER_CPU_MS = 150
const TOKENIZER_CPU_MS_PER_BYTE = 0.14e-3
/** What is beyond is no tokenizer's start: it would have been ended. */
const MOST_CPU_MS = 30_000
/** Share of the processors that the tokenizer has while its model is placed beside it. */
const OWN_SHARE = 0.5
/** What a process's first placement takes besides, of code that has not run yet: measured on devices of half a processor and more. */
const FIRST_CPU_MS = 120

/**
 * What a load on this device takes beside what begins with it: the model's tokenizer starts at the same time, and the weights come
 * later where there is no processor for each; and what a process does for the first time takes longer. How fast the device is at
 * starting tokenizers, the last start says.
 */
export class OwnLoads {
  readonly #starting = new Map<string, { atMs: number; cpuMs: number }>()
  readonly #processors: () => number
  readonly #now: () => number
  /** Times what is assumed of a tokenizer. */
  #factor = 1
  #isFirst = true

  /** @param processors that this node has in the mean */
  constructor(processors: () => number, now: () => number) {
    this.#processors = processors
    this.#now = now
  }

  /** @param bytes of the vocabulary's file */
  tokenizerBegins(modelId: string, bytes: number): void {
    const cpuMs = Math.min(MOST_CPU_MS, TOKENIZER_CPU_MS + TOKENIZER_CPU_MS_PER_BYTE * bytes)
    this.#starting.set(modelId, { atMs: this.#now(), cpuMs })
  }

  /** @param cpuMs processor time that its start took; undefined where it has failed */
  tokenizerEnds(modelId: string, cpuMs: number | undefined): void {
    const start = this.#starting.get(modelId)
    this.#starting.delete(modelId)
    if (start !== undefined && cpuMs !== undefined) this.#factor = Math.min(MOST_CPU_MS, cpuMs) / start.cpuMs
  }

  /** True until this process has placed a model. */
  get isFirst(): boolean {
    return this.#isFirst
  }

  /** A model has been placed: the next time is not the first one. */
  placed(): void {
    this.#isFirst = false
  }

  /** @param loadMs what a load takes alone, on one processor or the part of one that there is */
  msOf(modelId: string, loadMs: number): number {
    const processors = this.#processors()
    const one = Math.min(1, processors)
    const alone = loadMs + (this.#isFirst ? FIRST_CPU_MS / one : 0)
    return Math.max(alone, (one * alone + this.#leftCpuMs(modelId, one)) / processors)
  }

  /** What the start of a model's tokenizer still takes of a processor; 0 where none is under way. */
  #leftCpuMs(modelId: string, one: number): number {
    const start = this.#starting.get(modelId)
    if (start === undefined) return 0
    const hadMs = OWN_SHARE * one * (this.#now() - start.atMs)
    return Math.max(0, this.#factor * start.cpuMs - hadMs)
  }
}

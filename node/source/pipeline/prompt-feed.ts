/** So many more tokens are told of, or fewer where so much time has passed. */
const TOLD_TOKENS = 256
const TOLD_MS = 1000

/**
 * How many tokens of a prompt are through all stages, for whoever waits for the first token behind it. Only the newest
 * number is kept, so that nobody has to read them. It ends with the first token, or with the session.
 */
export class PromptFeed implements AsyncIterable<number> {
  #tokens: number
  #told: number
  #toldAtMs = performance.now()
  #isOver = false
  #wake: (() => void) | undefined

  /** @param fromToken tokens that need not be computed */
  constructor(fromToken: number) {
    this.#tokens = fromToken
    this.#told = fromToken
  }

  moved(tokens: number): void {
    this.#tokens = Math.max(this.#tokens, tokens)
    if (this.#isDue) this.#wake?.()
  }

  end(): void {
    this.#isOver = true
    this.#wake?.()
  }

  /** One reader at a time. */
  async *[Symbol.asyncIterator](): AsyncGenerator<number> {
    while (!this.#isOver) {
      if (this.#isDue) {
        this.#told = this.#tokens
        this.#toldAtMs = performance.now()
        yield this.#told
        continue
      }
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  get #isDue(): boolean {
    const more = this.#tokens - this.#told
    return more >= TOLD_TOKENS || (more > 0 && performance.now() - this.#toldAtMs >= TOLD_MS)
  }
}

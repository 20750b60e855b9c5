/** What comes of an answer: how many of its tokens count, and whether what was fed behind them is another token. */
export interface Judged {
  /** The first so many tokens of the answer were drawn behind tokens that hold. */
  valid: number
  /** Guesses that turned out right with it. */
  held: number
  /** Guesses that are void: a wrong one, and all behind it. A new epoch has begun where there are any. */
  dropped: number
}

/**
 * The tokens of one session that are on their way through the stages: the last one drawn, and guesses at what follows,
 * fed before anything has come back. Frames follow each other without a gap and come back in that order, whatever
 * number of tokens each has; behind every token the last stage draws one, which says whether the guess at its place holds.
 * A wrong one ends the epoch: what comes back of it later is stale, and the stages forget it.
 */
export class SpeculationWindow {
  #epoch: number
  /** Position of the first of `#fed`. */
  #start = 0
  /** Tokens that no answer has come for, in the order of their positions. */
  #fed: number[] = []

  /** @param epoch of the first frame; 0: of a session that never feeds a guess */
  constructor(epoch: number) {
    this.#epoch = epoch
  }

  get epoch(): number {
    return this.#epoch
  }

  /** Tokens under way, the certain one among them. */
  get size(): number {
    return this.#fed.length
  }

  /** Position of the token that is answered next; undefined while none is under way. */
  get oldest(): number | undefined {
    return this.#fed.length === 0 ? undefined : this.#start
  }

  /** The guesses under way: what is fed behind the token that is certain. */
  get guesses(): readonly number[] {
    return this.#fed.slice(1)
  }

  /** Feeds a token that is certain, where none is under way. */
  feed(position: number, token: number): void {
    if (this.#fed.length > 0) throw new Error('a certain token waits for the answers to those before it')
    this.#start = position
    this.#fed.push(token)
  }

  /** Feeds a guess at what follows. @returns its position */
  guess(token: number): number {
    if (this.#fed.length === 0) throw new Error('a guess follows a token that is under way')
    return this.#start + this.#fed.push(token) - 1
  }

  /** True while an answer to this token is awaited. */
  awaits(position: number, epoch: number): boolean {
    return epoch === this.#epoch && position >= this.#start && position < this.#start + this.#fed.length
  }

  /**
   * What an answer is to the frame that starts at `position`: the `next` one, `stale` where its epoch is over, or `unasked`:
   * no honest stage sends it.
   */
  kindOf(position: number, epoch: number): 'next' | 'stale' | 'unasked' {
    if (epoch < this.#epoch) return 'stale'
    return epoch === this.#epoch && position === this.oldest ? 'next' : 'unasked'
  }

  /** Takes in the `next` answer: what was drawn behind each token of the frame. */
  answer(drawn: readonly number[]): Judged {
    let held = 0
    for (const [i, token] of drawn.entries()) {
      this.#fed.shift()
      this.#start++
      const [follows] = this.#fed
      if (follows === undefined) return { valid: i + 1, held, dropped: 0 }
      if (follows === token) held++
      else return { valid: i + 1, held, dropped: this.clear() }
    }
    return { valid: drawn.length, held, dropped: 0 }
  }

  /** Nothing that is under way counts any more. @returns how many tokens that were */
  clear(): number {
    const { length } = this.#fed
    this.#fed = []
    if (length > 0) this.#epoch++
    return length
  }
}

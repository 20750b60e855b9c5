/** Stands between two sequences: no id of a token, and what lies on both sides of it is no n-gram. */
export const BREAK = -1

/** Lengths of what is looked up, the longest first: what more tokens agree on is right more often. */
const LENGTHS = [8, 4, 3, 2, 1]
/** Occurrences of a hash that are compared, the last ones: others of the same hash may be among them. */
const MAX_COMPARED = 16
const LEAST_TOKENS = 256

/** A place where tokens occurred before. */
export interface Occurrence {
  /** Index of the token that followed them. */
  position: number
  /** So many of the last tokens agree. */
  length: number
}

/**
 * Sequences of tokens in one row, and where an n-gram of them occurred last. A token costs a constant time to add and to take
 * away, and so does a look-up: occurrences with one hash are chained, and some of them are compared token by token, so
 * that what is found is never another n-gram. Memory is bounded: 44 bytes for each of `capacityTokens`.
 */
export class NGramIndex {
  readonly #capacityTokens: number
  #tokens = new Int32Array(LEAST_TOKENS)
  /** (length, hash): the last position behind an n-gram; 0 is none. */
  #heads = new Int32Array(LENGTHS.length * LEAST_TOKENS)
  /** (token, length): of the n-gram before a token the position with the same hash before it, or 0. */
  #earlier = new Int32Array(LENGTHS.length * LEAST_TOKENS)
  #length = 0

  /** @param capacityTokens further ones are not taken */
  constructor(capacityTokens: number) {
    this.#capacityTokens = capacityTokens
  }

  get length(): number {
    return this.#length
  }

  /** The token at an index below `length`. */
  at(index: number): number {
    return this.#tokens[index]!
  }

  push(token: number): void {
    if (this.#length >= this.#capacityTokens) return
    if (this.#length === this.#tokens.length) this.#grow()
    this.#tokens[this.#length] = token
    this.#insert(this.#length)
    this.#length++
  }

  /** Forgets what is behind the first `length` tokens, as if it had never been there. */
  truncate(length: number): void {
    while (this.#length > length) {
      this.#length--
      this.#eachNGram(this.#length, (place, entry) => {
        this.#heads[place] = this.#earlier[entry]!
      })
    }
  }

  /** Tokens that this row and `tokens` have in common at their beginning. */
  commonLength(tokens: readonly number[]): number {
    const own = this.#tokens
    const most = Math.min(this.#length, tokens.length)
    let length = 0
    while (length < most && own[length] === tokens[length]) length++
    return length
  }

  /** The last known occurrence of the most of the last tokens of `context`; undefined where there is none. */
  find(context: readonly number[]): Occurrence | undefined {
    for (let at = 0; at < LENGTHS.length; at++) {
      const length = LENGTHS[at]!
      if (length > context.length) continue
      const start = context.length - length
      let hash = length
      for (let i = start; i < context.length; i++) hash = mixed(hash, context[i]!)
      let position = this.#heads[this.#placeOf(hash, at)]!
      for (let compared = 0; position > 0 && compared < MAX_COMPARED; compared++) {
        if (this.#follows(position, context, length)) return { position, length }
        position = this.#earlier[position * LENGTHS.length + at]!
      }
    }
    return undefined
  }

  #follows(position: number, context: readonly number[], length: number): boolean {
    for (let back = 1; back <= length; back++) {
      if (this.#tokens[position - back] !== context[context.length - back]) return false
    }
    return true
  }

  /** The n-grams before `position` are followed by its token from now on. */
  #insert(position: number): void {
    this.#eachNGram(position, (place, entry) => {
      this.#earlier[entry] = this.#heads[place]!
      this.#heads[place] = position
    })
  }

  /** The places of the n-grams before `position` among heads, and what is before them among earlier ones; of a break none. */
  #eachNGram(position: number, visit: (place: number, entry: number) => void): void {
    if (this.#tokens[position] === BREAK) return
    for (let at = 0; at < LENGTHS.length; at++) {
      const length = LENGTHS[at]!
      if (length > position) continue
      let hash = length
      for (let i = position - length; i < position; i++) hash = mixed(hash, this.#tokens[i]!)
      visit(this.#placeOf(hash, at), position * LENGTHS.length + at)
    }
  }

  #placeOf(hash: number, at: number): number {
    const rows = this.#tokens.length
    return at * rows + ((hash ^ (hash >>> 15)) & (rows - 1))
  }

  #grow(): void {
    const tokens = new Int32Array(2 * this.#tokens.length)
    tokens.set(this.#tokens)
    this.#tokens = tokens
    this.#heads = new Int32Array(LENGTHS.length * tokens.length)
    this.#earlier = new Int32Array(LENGTHS.length * tokens.length)
    for (let position = 1; position < this.#length; position++) this.#insert(position)
  }
}

function mixed(hash: number, token: number): number {
  const product = Math.imul(hash ^ token, 0x9e3779b1)
  return product ^ (product >>> 13)
}

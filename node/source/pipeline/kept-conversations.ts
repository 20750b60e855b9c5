import { MAX_KEPT_PREFIXES } from '../../../protocols/lease/constants.ts'

/** A conversation that lost its slot. */
interface Kept {
  scope: string
  tokens: readonly number[]
  cachedTokens: number
}

/**
 * Conversations that lost their slots and that every stage keeps beside, by the number under which it does. A stage may
 * have given one up; whoever asks for it hears so then.
 */
export class KeptConversations<T extends Kept> {
  /** In the order of their last use. */
  readonly #kept = new Map<number, T>()
  /** Numbers of those that stages are asked to keep just now. */
  readonly #begun = new Set<number>()

  get entries(): [key: number, conversation: T][] {
    return [...this.#kept]
  }

  get(key: number): T | undefined {
    return this.#kept.get(key)
  }

  /** It is gone on from. */
  touch(key: number): void {
    const conversation = this.#kept.get(key)
    this.#kept.delete(key)
    if (conversation !== undefined) this.#kept.set(key, conversation)
  }

  /**
   * A number for a conversation that is to be kept: that of one which it goes on from, one that is free, or that of the one which was
   * not used for the longest time. What had the number is forgotten. Undefined where all are being given out.
   */
  begin(conversation: T): number | undefined {
    const key = this.#beginningOf(conversation) ?? this.#free() ?? this.#kept.keys().next().value
    if (key === undefined) return undefined
    this.#kept.delete(key)
    this.#begun.add(key)
    return key
  }

  /** @param conversation undefined: not every stage keeps it */
  end(key: number, conversation: T | undefined): void {
    this.#begun.delete(key)
    if (conversation !== undefined) this.#kept.set(key, conversation)
  }

  forget(key: number): void {
    this.#kept.delete(key)
  }

  clear(): void {
    this.#kept.clear()
  }

  #beginningOf({ scope, tokens, cachedTokens }: T): number | undefined {
    const begins = (kept: T) =>
      kept.scope === scope &&
      kept.cachedTokens <= cachedTokens &&
      kept.tokens.slice(0, kept.cachedTokens).every((token, i) => token === tokens[i])
    return this.entries.find(([, kept]) => begins(kept))?.[0]
  }

  #free(): number | undefined {
    for (let key = 0; key < MAX_KEPT_PREFIXES; key++) {
      if (!this.#kept.has(key) && !this.#begun.has(key)) return key
    }
    return undefined
  }
}

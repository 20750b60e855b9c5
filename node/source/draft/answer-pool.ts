import { BREAK, NGramIndex, type Occurrence } from './ngram-index.ts'

/** Clients whose answers are kept, and tokens of each: 704 KiB a client. */
const MAX_SCOPES = 32
const MAX_SCOPE_TOKENS = 2 ** 14

interface Kept {
  index: NGramIndex
  /** Where the last conversation begins. */
  lastStart: number
}

/**
 * Conversations that this source has answered, by the scope that their client named as its own, for drafts to find in
 * them what may come again.
 *
 * A guess that is right makes an answer faster, and a client that measures that learns what another has asked. So nothing
 * of one scope is ever found in another, as with KV caches (`KvSlots`). Without a scope these are hit by who
 * repeats a whole conversation; here a few tokens do, so what came without one, of whoever it was, is not kept at all.
 */
export class AnswerPool {
  /** In the order of their last use: the first entry is the one to give up first. */
  readonly #scopes = new Map<string, Kept>()

  /** @param tokens of prompt and answer, which has ended */
  remember(scope: string, tokens: readonly number[]): void {
    if (scope === '' || tokens.length === 0) return
    const kept = this.#used(scope) ?? { index: new NGramIndex(MAX_SCOPE_TOKENS), lastStart: 0 }
    this.#scopes.delete(scope)
    this.#scopes.set(scope, added(kept, tokens))
    if (this.#scopes.size > MAX_SCOPES) {
      const [oldest] = this.#scopes.keys()
      this.#scopes.delete(oldest!)
    }
  }

  /** The place where the last tokens of `context` occurred in an earlier conversation of the scope, and what to read there. */
  find(scope: string, context: readonly number[]): { occurrence: Occurrence; index: NGramIndex } | undefined {
    const index = this.#used(scope)?.index
    const occurrence = index?.find(context)
    return index === undefined || occurrence === undefined ? undefined : { occurrence, index }
  }

  #used(scope: string): Kept | undefined {
    const kept = this.#scopes.get(scope)
    if (kept === undefined) return undefined
    this.#scopes.delete(scope)
    this.#scopes.set(scope, kept)
    return kept
  }
}

/** With one more conversation, or with more of the last one; without the older half where that does not fit. */
function added({ index, lastStart }: Kept, tokens: readonly number[]): Kept {
  const lastLength = index.length - lastStart
  const isNextTurn =
    lastLength > 0 &&
    lastLength <= tokens.length &&
    tokens.slice(0, lastLength).every((token, i) => token === index.at(lastStart + i))
  const room = MAX_SCOPE_TOKENS - index.length
  if (isNextTurn && tokens.length - lastLength <= room) {
    pushAll(index, tokens.slice(lastLength))
    return { index, lastStart }
  }
  if (isNextTurn) index.truncate(lastStart)
  if (tokens.length + 1 > MAX_SCOPE_TOKENS - index.length)
    return added(newerHalf(index), tokens.slice(-MAX_SCOPE_TOKENS / 2))
  if (index.length > 0) index.push(BREAK)
  const start = index.length
  pushAll(index, tokens)
  return { index, lastStart: start }
}

/** Half of what is kept at most, from the beginning of a conversation on where one begins in it. */
function newerHalf(index: NGramIndex): Kept {
  const newer = new NGramIndex(MAX_SCOPE_TOKENS)
  const half = Math.max(0, index.length - MAX_SCOPE_TOKENS / 2 + 1)
  for (let i = half; i < index.length; i++) newer.push(index.at(i))
  // The last conversation is whole, or what is left of it: nothing goes on from it.
  return { index: newer, lastStart: newer.length }
}

function pushAll(index: NGramIndex, tokens: readonly number[]): void {
  for (const token of tokens) index.push(token)
}

import { logger } from '../../../models/log.ts'
import { prefillChunks } from '../../../models/runtime/hidden.ts'
import type { ShardSession } from '../../../models/runtime/runtime.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { Draft } from './draft.ts'
import { MAX_PROPOSED_TOKENS } from './ngram-draft.ts'

const log = logger('edgeshard:source')

/** What has to be fed before something can be proposed is waited for up to so many tokens: a few chunks. */
const SOON_TOKENS = 128

const NOTHING: Promise<readonly number[]> = Promise.resolve([])

export interface ModelDraftInit {
  /** A session on all layers of the draft's model. */
  session: Pick<ShardSession, 'forward' | 'trim'>
  /** Tokens that it has room for. */
  maxTokens: number
  /** Ids that both models know: a vocabulary may be padded. */
  vocabSize: number
  requestId?: string | undefined
}

/**
 * Proposes what a small model of the same vocabulary says.
 *
 * Its KV cache follows the conversation: what is new is fed to it in chunks, and what turned out otherwise is trimmed. While
 * a long prompt is fed nothing is proposed, and nobody waits. A call that comes while one is under way cuts that one short,
 * for what it proposes is known to be late. What fails ends the
 * drafting and nothing else.
 */
export class ModelDraft implements Draft {
  readonly #init: ModelDraftInit
  /** Tokens in the KV cache. */
  #fed: number[] = []
  #last: Promise<readonly number[]> = Promise.resolve([])
  #calls = 0
  /** A long prompt is being fed until this settles. */
  #behind: Promise<void> | undefined
  #ended = false

  constructor(init: ModelDraftInit) {
    this.#init = init
  }

  /** Does as `Draft` says; with a count of 0 the KV cache is brought up to the conversation, and nothing is proposed. */
  propose(tokens: readonly number[], count: number): Promise<readonly number[]> {
    if (this.#behind !== undefined) return NOTHING
    const call = ++this.#calls
    this.#last = this.#last.then(async () => {
      if (this.#ended || this.#behind !== undefined) return []
      try {
        return await this.#propose(tokens, Math.min(count, MAX_PROPOSED_TOKENS), () => call !== this.#calls)
      } catch (error) {
        this.#fail(error)
        return []
      }
    })
    return this.#last
  }

  /** Nothing is proposed any more; resolves when the step under way has ended. */
  async end(): Promise<void> {
    this.#ended = true
    this.#calls++
    await this.#last
    await this.#behind
  }

  async #propose(tokens: readonly number[], count: number, isLate: () => boolean): Promise<number[]> {
    const { maxTokens, vocabSize } = this.#init
    if (tokens.length === 0 || tokens.length > maxTokens) return []
    await this.#forget(tokens)
    const rest = tokens.slice(this.#fed.length)
    if (rest.some(id => id >= vocabSize)) return []
    if (rest.length > SOON_TOKENS) {
      this.#behind = this.#catchUp(rest.slice(0, -1))
      return []
    }
    if (count <= 0) rest.pop()
    const proposed: number[] = []
    for (const [start, end] of prefillChunks(rest.length)) {
      const isLast = count > 0 && end === rest.length
      const drawn = await this.#feed(rest.slice(start, end), isLast)
      if (drawn !== undefined) proposed.push(drawn)
      if (isLate()) return []
    }
    while (proposed.length < count && !isLate() && this.#fed.length < maxTokens) {
      const last = proposed.at(-1)!
      if (last >= vocabSize) break
      proposed.push((await this.#feed([last], true))!)
    }
    return proposed.at(-1)! >= vocabSize ? proposed.slice(0, -1) : proposed
  }

  async #catchUp(tokens: readonly number[]): Promise<void> {
    try {
      for (const [start, end] of prefillChunks(tokens.length)) {
        if (this.#ended) break
        await this.#feed(tokens.slice(start, end), false)
      }
    } catch (error) {
      this.#fail(error)
    } finally {
      this.#behind = undefined
    }
  }

  /** Trims what the conversation has otherwise; its last token is fed again, for the next one is drawn behind it. */
  async #forget(tokens: readonly number[]): Promise<void> {
    const fed = this.#fed
    let common = 0
    while (common < fed.length && common < tokens.length - 1 && fed[common] === tokens[common]) common++
    if (common === fed.length) return
    await this.#init.session.trim(common)
    this.#fed = fed.slice(0, common)
  }

  async #feed(tokens: readonly number[], sample: boolean): Promise<number | undefined> {
    const position = this.#fed.length
    const output = await this.#init.session.forward({ position, input: Int32Array.from(tokens), sample })
    this.#fed.push(...tokens)
    return output.kind === 'token' ? output.token.id : undefined
  }

  #fail(error: unknown): void {
    if (this.#ended) return
    this.#ended = true
    log.of(this.#init.requestId).warn('drafting ended; the answer goes on without it', {
      error: messageOf(error)
    })
  }
}

import { createHash, timingSafeEqual } from 'node:crypto'
import type { Priority } from '../api.ts'
import { Admission } from './admission.ts'

/** A key of the API, and who has it. */
export interface ApiKey {
  /** What its holder is called; each one's conversations are its own. */
  name: string
  key: string
  /** Answers that its holder may have under way. @default as many as the node has places */
  atOnce?: number
  /** Before and behind whom its holder's requests take their turn on this node. @default 'normal' */
  priority?: Priority
}

/** The holder of a key that a request came with. */
export interface KeyHolder {
  readonly name: string
  /** Places for its answers; undefined: it has no limit of its own. */
  readonly places: Admission | undefined
  /** As many for loads, which keep none from its answers. */
  readonly loads: Admission | undefined
  readonly priority: Priority
}

/** Where a request has the holder of its key while it is answered. */
export const KEY_HOLDER_VARIABLE = 'keyHolder'

/** The keys of a server. */
export class ApiKeys {
  readonly #holders: (KeyHolder & { digest: Buffer })[]

  constructor(keys: readonly ApiKey[]) {
    this.#holders = keys.map(({ name, key, atOnce, priority = 'normal' }) => ({
      name,
      priority,
      places: placesFor(atOnce, `answers under way for the key "${name}"`),
      loads: placesFor(atOnce, `loads under way for the key "${name}"`),
      digest: digestOf(key)
    }))
  }

  /** Whether a key is asked for at all. */
  get isAsked(): boolean {
    return this.#holders.length > 0
  }

  /** Whose key it is; every key is compared, whichever fits, so that the time says nothing. */
  holderOf(given: string): KeyHolder | undefined {
    const digest = digestOf(given)
    let found: KeyHolder | undefined
    for (const holder of this.#holders) if (timingSafeEqual(digest, holder.digest)) found = holder
    return found
  }

  /**
   * The scope of what a holder asks: its own name for the conversation, or all that it does not name. Nobody else's requests
   * meet its KV caches. Its own name is the first line.
   */
  scopeOf(holder: KeyHolder, conversation = ''): string {
    return `${holder.name}\n${conversation}`
  }
}

function placesFor(atOnce: number | undefined, what: string): Admission | undefined {
  return atOnce === undefined ? undefined : new Admission(atOnce, what)
}

/** Digests have the same length whatever was given, so comparing them takes the same time. */
function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}

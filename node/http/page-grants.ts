import { createHash, randomBytes, randomInt, timingSafeEqual } from 'node:crypto'

/** How long a code is taken: a person opens a link, or types. */
export const CODE_MS = 5 * 60_000
/** How long a page may pair afterwards, whatever it does. */
export const GRANT_MS = 30 * 60_000
/** Pages that may pair at once; the newest. */
const MAX_GRANTS = 8
const CODE_CHARS = 10
/** Crockford's: without letters that look like digits. 50 bits, so that nobody guesses one within its time. */
const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz'

interface Held {
  digest: Buffer
  untilMs: number
}

/**
 * Pages of this node that a person has given the power to pair. Whoever may read the home has a code made, which shows one
 * page to be that person's, once; what the page gets for it is good for pairing alone, and never the token of the home.
 */
export class PageGrants {
  readonly #nowMs: () => number
  #code: Held | undefined
  #grants: Held[] = []

  /** @param nowMs - a clock of any beginning, ms. @default performance.now */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  /** A new code, `xxxxx-xxxxx`; the one before it is taken no more. */
  newCode(): { code: string; leftMs: number } {
    const code = Array.from({ length: CODE_CHARS }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
    this.#code = { digest: digestOf(code), untilMs: this.#nowMs() + CODE_MS }
    return { code: `${code.slice(0, CODE_CHARS / 2)}-${code.slice(CODE_CHARS / 2)}`, leftMs: CODE_MS }
  }

  /** What a page that shows the code may pair with from now on; undefined where it is another code, or used, or too old. */
  take(code: string): { grant: string; leftMs: number } | undefined {
    const held = this.#code
    if (held === undefined || !this.#is(held, readable(code))) return undefined
    this.#code = undefined
    const grant = randomBytes(32).toString('hex')
    const added = { digest: digestOf(grant), untilMs: this.#nowMs() + GRANT_MS }
    this.#grants = [...this.#grants, added].slice(-MAX_GRANTS)
    return { grant, leftMs: GRANT_MS }
  }

  allows(grant: string): boolean {
    return this.#grants.some(held => this.#is(held, grant))
  }

  #is({ digest, untilMs }: Held, given: string): boolean {
    return timingSafeEqual(digest, digestOf(given)) && this.#nowMs() < untilMs
  }
}

/** What a person typed, as it was meant. */
function readable(code: string): string {
  return code.toLowerCase().replace(/[\s-]/g, '').replace(/o/g, '0').replace(/[il]/g, '1')
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}

/** A claim is forgotten where its source has not asked again for so long: longer than it waits for all devices of a model. */
const CLAIM_MS = 150_000
/** None gets older: it would be a place before all others that is kept for later. */
const OLDEST_MS = 3_600_000
/** A source that is the first for so long and does not come is the last from then on: others wait for it. */
const FIRST_MS = 900_000
/** Claims of one source, one for each model that it places, and of all. */
const MAX_CLAIMS_PER_SOURCE = 8
const MAX_CLAIMS = 256

interface Claim {
  source: string
  sinceMs: number
  untilMs: number
  /** Since when it has been the first; undefined before that. */
  firstMs: number | undefined
}

/**
 * Since when sources want memory here for a model and have not got it, as this node has seen it itself: what a source says of how
 * long it has waited counts for nothing. Whoever is refused and asks again is where it was.
 */
export class Claims {
  readonly #claims = new Map<string, Claim>()
  readonly #now: () => number

  /** @param now - milliseconds from any fixed moment */
  constructor(now: () => number) {
    this.#now = now
  }

  /**
   * A source wants memory for a model.
   *
   * @returns since when, in ms; now where it is new, or has as many claims as it may
   */
  note(source: string, modelId: string): number {
    const nowMs = this.#now()
    for (const [key, claim] of this.#claims) if (isOver(claim, nowMs)) this.#claims.delete(key)
    const known = this.#claims.get(keyOf(source, modelId))
    if (known !== undefined) {
      known.untilMs = nowMs + CLAIM_MS
      return known.sinceMs
    }
    const ofSource = [...this.#claims.values()].filter(claim => claim.source === source).length
    if (ofSource < MAX_CLAIMS_PER_SOURCE && this.#claims.size < MAX_CLAIMS)
      this.#claims.set(keyOf(source, modelId), {
        ...{ source, sinceMs: nowMs, untilMs: nowMs + CLAIM_MS, firstMs: undefined }
      })
    return nowMs
  }

  /** It was told that nobody is before it. */
  isFirst(source: string, modelId: string): void {
    const claim = this.#claims.get(keyOf(source, modelId))
    if (claim !== undefined) claim.firstMs ??= this.#now()
  }

  /** It has got what it wanted. */
  settle(source: string, modelId: string): void {
    this.#claims.delete(keyOf(source, modelId))
  }
}

function isOver({ sinceMs, untilMs, firstMs = Number.POSITIVE_INFINITY }: Claim, nowMs: number): boolean {
  return untilMs <= nowMs || nowMs - sinceMs > OLDEST_MS || nowMs - firstMs > FIRST_MS
}

function keyOf(source: string, modelId: string): string {
  return `${source} ${modelId}`
}

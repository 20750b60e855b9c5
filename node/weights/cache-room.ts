/** A model of the cache as eviction sees it. */
export interface CacheEntry {
  id: string
  /** Bytes of its files that are here. */
  bytes: number
  /** Peer ids of the sources that use it, and when each did so last. */
  claims: Readonly<Record<string, number>>
  /** `busy`: a lease on it is recruited for or used, so it stays; `idle`: leases on it wait for the next session. */
  leased: 'busy' | 'idle' | 'no'
}

/** What is to come into the cache: a model, or more of one that is there. */
export interface CacheNeed {
  id: string
  source: string
  /** Bytes that come besides what is there. */
  bytes: number
  /** Nothing goes for it: it is kept for a case that may never come. @default false */
  isSpare?: boolean
}

/** How much the cache holds of all sources, and of one. */
export interface CacheLimits {
  models: number
  sourceModels: number
  bytes: number
  sourceBytes: number
}

/** What makes room: models that go, and models that go on for other sources alone. */
export interface CacheRoom {
  drop: string[]
  unclaim: string[]
}

/**
 * What goes so that `need` fits, least recently used first; undefined where too much is in use, or nothing is to go. A source that has its
 * share gives up its own before anybody else's; where the whole cache is full, models of those who hold most go first. So
 * a source that fills it takes from itself.
 */
export function roomFor(
  entries: readonly CacheEntry[],
  need: CacheNeed,
  limits: CacheLimits
): CacheRoom | undefined {
  const unclaim: string[] = []
  const drop: string[] = []
  const there = entries.find(({ id }) => id === need.id)
  const needBytes = need.bytes + (there?.bytes ?? 0)
  let others = entries.filter(({ id }) => id !== need.id)

  const isMine = ({ claims }: CacheEntry) => need.source in claims
  const exceeds = (kept: readonly CacheEntry[], models: number, bytes: number) =>
    kept.length + 1 > models || bytesOf(kept) + needBytes > bytes
  while (exceeds(others.filter(isMine), limits.sourceModels, limits.sourceBytes)) {
    const mine = others.filter(entry => isMine(entry) && entry.leased !== 'busy')
    const oldest = least(mine, entry => [entry.leased === 'no' ? 0 : 1, entry.claims[need.source]!])
    if (oldest === undefined) return undefined
    const { [need.source]: _, ...claims } = oldest.claims
    const shared = Object.keys(claims).length > 0
    if (shared) unclaim.push(oldest.id)
    else drop.push(oldest.id)
    others = others.flatMap(entry => (entry !== oldest ? [entry] : shared ? [{ ...entry, claims }] : []))
  }
  while (exceeds(others, limits.models, limits.bytes)) {
    const tooMany = others.length + 1 > limits.models
    const held = heldBy(others, ({ bytes }) => (tooMany ? 1 : bytes))
    const free = others.filter(({ leased }) => leased !== 'busy')
    const victim = least(free, entry => [
      -weightOf(entry, held),
      entry.leased === 'no' ? 0 : 1,
      Math.max(0, ...Object.values(entry.claims))
    ])
    if (victim === undefined) return undefined
    drop.push(victim.id)
    others = others.filter(entry => entry !== victim)
  }
  if (need.isSpare && drop.length + unclaim.length > 0) return undefined
  return { drop, unclaim: unclaim.filter(id => !drop.includes(id)) }
}

/** What every source holds, by that measure. */
function heldBy(entries: readonly CacheEntry[], measure: (entry: CacheEntry) => number): Map<string, number> {
  const held = new Map<string, number>()
  for (const entry of entries) {
    for (const source of Object.keys(entry.claims)) {
      held.set(source, (held.get(source) ?? 0) + measure(entry))
    }
  }
  return held
}

/** What the source holds that holds least of those who use the model; who uses none holds most. */
function weightOf({ claims }: CacheEntry, held: ReadonlyMap<string, number>): number {
  return Math.min(...Object.keys(claims).map(source => held.get(source)!))
}

function bytesOf(entries: readonly CacheEntry[]): number {
  return entries.reduce((sum, { bytes }) => sum + bytes, 0)
}

function least<T>(items: readonly T[], keyOf: (item: T) => number[]): T | undefined {
  return items.length === 0
    ? undefined
    : items.reduce((a, b) => {
        const [first, second] = [keyOf(a), keyOf(b)]
        const at = first.findIndex((value, i) => value !== second[i])
        return at >= 0 && second[at]! < first[at]! ? b : a
      })
}

import { MAX_CONTACTS, MAX_NAME_CHARS } from '../../protocols/directory/constants.ts'
import { plainText } from '../../protocols/text.ts'
import type { UnreachedPeer } from '../api.ts'

/** What one member says of another that it is connected to. */
export interface Introduced {
  peerId: string
  name: string
  addresses: string[]
}

/** Two members that have just come need as long to find each other. */
const MEET_MS = 5000

/**
 * Members that others say they are connected to. Hints: their addresses are worth a dial, their names are worth showing
 * while that fails, and whom nobody names has no link to plan with. Nothing else of them is known or believed.
 */
export class Introductions {
  readonly #bySender = new Map<string, Introduced[]>()
  /** When each connected member came. */
  readonly #cameAtMs = new Map<string, number>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** A member is connected. */
  came(peerId: string): void {
    this.#cameAtMs.set(peerId, this.#now())
  }

  /** Replaces what the same member said before. */
  told(sender: string, introduced: readonly Introduced[]): void {
    this.#bySender.set(sender, [...introduced])
  }

  /** A member that left no longer knows any peer. */
  left(sender: string): void {
    this.#bySender.delete(sender)
    this.#cameAtMs.delete(sender)
  }

  /**
   * Pairs of connected members that have had the time to meet, and neither of which says that it is connected to the
   * other one.
   */
  get apart(): [string, string][] {
    const sinceMs = this.#now() - MEET_MS
    const settled = [...this.#cameAtMs].flatMap(([peerId, atMs]) => (atMs <= sinceMs ? [peerId] : []))
    const names = new Map(settled.map(peerId => [peerId, this.#namedBy(peerId)]))
    return settled.flatMap((a, i) =>
      settled.slice(i + 1).flatMap(b => {
        const connected = (names.get(a)?.has(b) ?? true) || (names.get(b)?.has(a) ?? true)
        return connected ? [] : [[a, b] as [string, string]]
      })
    )
  }

  /** The peers that `isUnreached` holds for, each once, with all that know them; by name. */
  unreached(isUnreached: (peerId: string) => boolean): UnreachedPeer[] {
    const found = new Map<string, UnreachedPeer>()
    for (const [sender, introduced] of this.#bySender) {
      for (const { peerId, name, addresses } of introduced) {
        if (!isUnreached(peerId)) continue
        const known = found.get(peerId)
        if (known) known.knownFrom.push(sender)
        else
          found.set(peerId, { peerId, name: plainText(name, MAX_NAME_CHARS), addresses, knownFrom: [sender] })
      }
    }
    return [...found.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  /** Undefined where a list has no room for more: who is not in it may be connected all the same. */
  #namedBy(sender: string): Set<string> | undefined {
    const introduced = this.#bySender.get(sender) ?? []
    return introduced.length < MAX_CONTACTS ? new Set(introduced.map(({ peerId }) => peerId)) : undefined
  }
}

import { MAX_NAME_CHARS } from '../../protocols/directory/constants.ts'
import { plainText } from '../../protocols/text.ts'
import type { UnreachedPeer } from '../api.ts'

/** What one member says of another that it is connected to. */
export interface Introduced {
  peerId: string
  name: string
  addresses: string[]
}

/**
 * Members that others say they are connected to. Hints: their addresses are worth a dial, their names are worth showing
 * while that fails, and nothing else of them is known or believed.
 */
export class Introductions {
  readonly #bySender = new Map<string, Introduced[]>()

  /** Replaces what the same member said before. */
  told(sender: string, introduced: readonly Introduced[]): void {
    this.#bySender.set(sender, [...introduced])
  }

  /** A member that left no longer knows any peer. */
  left(sender: string): void {
    this.#bySender.delete(sender)
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
}

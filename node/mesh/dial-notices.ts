import { plainText } from '../../protocols/text.ts'
import type { DialFailure } from './discovery.ts'

/** Which failed dials people should hear of, each once: where another secret answers, or of a peer that they named. */
export class DialNotices {
  readonly #named: readonly string[]
  readonly #said = new Set<string>()

  constructor(named: readonly string[]) {
    this.#named = named
  }

  noticeOf(
    { target, reason, refused, met, isSelf }: DialFailure,
    nameOf: (peerId: string) => string
  ): string | null {
    const isAddress = target.startsWith('/')
    const named = isAddress || this.#named.some(address => address.endsWith(target))
    if (this.#said.has(target) || !(refused || named)) return null
    this.#said.add(target)
    const who = isAddress ? target : nameOf(target)
    if (isSelf) return `${who} has this node's own identity: it is this node itself, or a copy of its home`
    if (!refused) return `${who} is not reached, trying on: ${plainText(reason)}`
    // It was of this mesh: whoever answers now may be anybody, and nothing is advised that would leave the mesh for it.
    if (met)
      return (
        `${who} is not reached: where it was, somebody with another secret answers. If the mesh's secret was changed ` +
        "while this device was away, 'edgeshard join' with a new ticket of this mesh"
      )
    return `${who} belongs to another mesh: on one of the two, 'edgeshard join' with a ticket of the other's`
  }
}

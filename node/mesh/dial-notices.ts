import { plainText } from '../../protocols/text.ts'
import type { DialFailure } from './discovery.ts'

/** Which failed dials people should hear of, each once: at another mesh's door, or of a peer that they named. */
export class DialNotices {
  readonly #named: readonly string[]
  readonly #said = new Set<string>()

  constructor(named: readonly string[]) {
    this.#named = named
  }

  noticeOf(
    { target, reason, refused, isSelf }: DialFailure,
    nameOf: (peerId: string) => string
  ): string | null {
    const isAddress = target.startsWith('/')
    const named = isAddress || this.#named.some(address => address.endsWith(target))
    if (this.#said.has(target) || !(refused || named)) return null
    this.#said.add(target)
    const who = isAddress ? target : nameOf(target)
    if (isSelf) return `${who} has this node's own identity: it is this node itself, or a copy of its home`
    return refused
      ? `${who} belongs to another mesh: on one of the two, 'edgeshard join' with a ticket of the other's`
      : `${who} is not reached, trying on: ${plainText(reason)}`
  }
}

/** One process that speaks under a peer id: what it drew when it started, and its name. */
export interface Voice {
  start: string
  name: string
}

/** Processes of one peer id that are remembered: a device that was started so often since it was heard first. */
const MAX_VOICES = 8
/** Peer ids that are remembered; a member may come under ever new ones. */
const MAX_PEERS = 512

/**
 * Peers under whose id two processes run, because one's home is a copy of the other's. A process that has ended never
 * speaks again: one that speaks after another has taken its place still runs, and so does the other.
 */
export class Twins {
  /** The one that spoke last is the last. */
  readonly #voices = new Map<string, Voice[]>()

  /** @returns the other one, where the peer has shown just now that two run under its id */
  heard(peerId: string, voice: Voice): Voice | undefined {
    const voices = this.#voices.get(peerId) ?? []
    const before = voices.findIndex(({ start }) => start === voice.start)
    const last = voices.at(-1)
    const others = voices.filter(({ start }) => start !== voice.start)
    this.#voices.delete(peerId)
    this.#voices.set(peerId, [...others, voice].slice(-MAX_VOICES))
    const [longest] = this.#voices.keys()
    if (this.#voices.size > MAX_PEERS && longest !== undefined) this.#voices.delete(longest)
    return before >= 0 && before < voices.length - 1 ? last : undefined
  }
}

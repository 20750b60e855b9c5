/**
 * Bytes of manifests that one peer may make this node read: they are read on the thread that serves everybody, at a third of
 * a second a MiB on a busy device. An honest source sends one of up to a few hundred KiB a model, and has up to 64 models.
 */
const BURST_BYTES = 8 << 20
const BYTES_PER_SECOND = 64 << 10
/** One that is no good costs so many times its bytes: nobody honest sends another. */
const FAILED_COSTS = 4
/** The least that one costs, however small it is. */
const LEAST_BYTES = 16 << 10
/** Peers that are remembered; one that has not been heard of for longest is forgotten, and so is what it owes. */
const MAX_PEERS = 512

/** What each peer may still make this node read, and one manifest of it at a time. */
export class ManifestBudget {
  readonly #now: () => number
  readonly #peers = new Map<string, { bytes: number; atMs: number }>()
  readonly #lines = new Map<string, Promise<unknown>>()

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Seconds until the peer may send another one; 0: now. */
  waitS(peerId: string): number {
    const { bytes } = this.#of(peerId)
    return bytes > 0 ? 0 : Math.ceil((1 - bytes) / BYTES_PER_SECOND)
  }

  /** Counts one that was read. */
  spend(peerId: string, bytes: number, { failed }: { failed: boolean }): void {
    const account = this.#of(peerId)
    account.bytes -= Math.max(LEAST_BYTES, bytes) * (failed ? FAILED_COSTS : 1)
    this.#peers.delete(peerId)
    this.#peers.set(peerId, account)
    const [oldest] = this.#peers.keys()
    if (this.#peers.size > MAX_PEERS && oldest !== undefined) this.#peers.delete(oldest)
  }

  /** Runs `read` when what the same peer sent before has been read. */
  async inTurn<T>(peerId: string, read: () => Promise<T>): Promise<T> {
    const before = this.#lines.get(peerId) ?? Promise.resolve()
    const turn = before.then(read, read)
    this.#lines.set(peerId, turn)
    try {
      return await turn
    } finally {
      if (this.#lines.get(peerId) === turn) this.#lines.delete(peerId)
    }
  }

  #of(peerId: string): { bytes: number; atMs: number } {
    const now = this.#now()
    const { bytes, atMs } = this.#peers.get(peerId) ?? { bytes: BURST_BYTES, atMs: now }
    const earned = ((now - atMs) / 1000) * BYTES_PER_SECOND
    return { bytes: Math.min(BURST_BYTES, bytes + earned), atMs: now }
  }
}

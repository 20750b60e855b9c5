import { LATE_AVOID_MAX_MS, LATE_AVOID_MS, SLOW_AVOID_MS, WRONG_AVOID_MS } from '../../constants.ts'

export interface DistrustInit {
  /** Milliseconds from any fixed moment. */
  now: () => number
  /** One line for people. */
  onNotice: (message: string) => void
}

interface Left {
  untilMs: number
  /** How long it was left for. */
  termMs: number
}

/**
 * What a source has against its peers. Those that it has left of its own accord are not taken again for a while, unless
 * nothing fits without them: one that turned slow is as good as before a minute later, one that holds up placements is
 * left for longer each time. Those whose figures contradict what was measured are named.
 */
export class Distrust {
  readonly #init: DistrustInit
  readonly #left = new Map<string, Left>()
  /** How long each was left that kept a placement waiting, and until when that is remembered. */
  readonly #late = new Map<string, Left>()
  /** When each was left whose answers are wrong. */
  readonly #wrongSinceMs = new Map<string, number>()
  readonly #named = new Set<string>()

  constructor(init: DistrustInit) {
    this.#init = init
  }

  /** In the order in which they are taken again where nothing fits without: the one left last comes last, wrong ones behind all. */
  get leftPeerIds(): string[] {
    this.#forget(this.#left)
    for (const peerId of this.#wrongSinceMs.keys()) {
      if (!this.#left.has(peerId)) this.#wrongSinceMs.delete(peerId)
    }
    const isWrong = (peerId: string) => Number(this.#wrongSinceMs.has(peerId))
    return [...this.#left.keys()].sort((a, b) => isWrong(a) - isWrong(b))
  }

  /** When a peer was left because its answers are wrong, on the clock of `now`; undefined where it is not left for that. */
  wrongSinceMs(peerId: string): number | undefined {
    return this.leftPeerIds.includes(peerId) ? this.#wrongSinceMs.get(peerId) : undefined
  }

  /** It computes, but others finish sooner. */
  slow(peerId: string): void {
    this.#leave(peerId, SLOW_AVOID_MS)
  }

  /** It said itself that it cannot do what it had agreed to: its disk is full, say. */
  unable(peerId: string): void {
    this.#leave(peerId, SLOW_AVOID_MS)
  }

  /** It did not do in time what it had agreed to, as `reason` says. */
  late(peerId: string, reason: string): void {
    this.#forget(this.#late)
    const before = this.#late.get(peerId)
    const termMs = before === undefined ? LATE_AVOID_MS : Math.min(LATE_AVOID_MAX_MS, 2 * before.termMs)
    this.#late.set(peerId, { untilMs: this.#init.now() + termMs + LATE_AVOID_MAX_MS, termMs })
    this.#leave(peerId, termMs)
    const minutes = Math.round(termMs / 60_000)
    this.#init.onNotice(`${reason}; it is not taken for ${minutes} minutes unless nothing fits without it`)
  }

  /** An answer is wrong that these helped to compute. One that did so alone is left; of several it may be any. */
  wrong(peerIds: readonly string[], reason: string): void {
    const [only, ...others] = peerIds
    const left = only !== undefined && others.length === 0
    if (left) {
      this.#wrongSinceMs.set(only, this.#init.now())
      this.#leave(only, WRONG_AVOID_MS)
    }
    const what = left
      ? `; it is not taken for ${WRONG_AVOID_MS / 3_600_000} hours unless nothing fits without it`
      : ''
    this.#init.onNotice(`${reason}${what}`)
  }

  /** What it says of itself cannot be true, as `reason` says; of each peer people hear it once. */
  contradicted(peerId: string, reason: string): void {
    if (this.#named.has(peerId)) return
    this.#named.add(peerId)
    this.#init.onNotice(reason)
  }

  #leave(peerId: string, termMs: number): void {
    const untilMs = Math.max(this.#left.get(peerId)?.untilMs ?? 0, this.#init.now() + termMs)
    this.#left.delete(peerId)
    this.#left.set(peerId, { untilMs, termMs })
  }

  #forget(left: Map<string, Left>): void {
    const nowMs = this.#init.now()
    for (const [peerId, { untilMs }] of left) if (untilMs <= nowMs) left.delete(peerId)
  }
}

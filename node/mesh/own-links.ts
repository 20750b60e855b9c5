import type { StageFrame } from '../../protocols/stage/index.ts'
import type { LinkEstimate, LinkState } from '../api.ts'
import { FRAME_BYTES } from '../constants.ts'
import type { SeenRate, Transfer } from './link-rate.ts'
import { LinkScheduler, type LinkSchedulerInit } from './link-scheduler.ts'
import { LinkTable } from './link-table.ts'
import { Spaced } from './spaced.ts'
import { LoopLateness } from './starvation.ts'

/** What is seen of links goes out to the peers at most once in so long. */
const NEWS_PAUSE_MS = 1000
/** Round trips go out as seldom: a busy device finds another one every few seconds, and each record is told to all neighbours. */
const DETAILS_PAUSE_MS = 30_000

/** Links of this node: what is known of them, measured or seen in what flows over them, and when others are to hear of it. */
export class OwnLinks {
  readonly #onNews: () => void
  readonly #table: LinkTable
  readonly #news: Spaced
  readonly #details: Spaced
  readonly #lateness = new LoopLateness()
  #scheduler: LinkScheduler | undefined
  #stopped = false

  /** @param onNews others should hear of what is known by now */
  constructor(onNews: () => void) {
    this.#onNews = onNews
    this.#news = new Spaced(NEWS_PAUSE_MS, onNews)
    this.#details = new Spaced(DETAILS_PAUSE_MS, onNews)
    this.#table = new LinkTable({
      onChange: (_, when) => {
        if (!this.#stopped) (when === 'soon' ? this.#news : this.#details).ask()
      },
      onDoubt: peerId => this.#scheduler?.doubt(peerId)
    })
  }

  /** What others are told, by peer. */
  get row(): Record<string, LinkEstimate> {
    return this.#table.row
  }

  /** Both directions of each link, as `self` knows them. */
  statesOf(self: string): LinkState[] {
    return this.#table.statesOf(self)
  }

  /** Others have been told all that is known. */
  told(): void {
    this.#news.isDone()
    this.#details.isDone()
  }

  /** Says by what links are measured, from `start` on. */
  measureBy(init: Omit<LinkSchedulerInit, 'table' | 'onMeasured'>): void {
    this.#scheduler = new LinkScheduler({ ...init, table: this.#table, onMeasured: this.#onNews })
  }

  start(): void {
    this.#measuring.start()
  }

  connected(peerId: string): void {
    this.#scheduler?.connected(peerId)
  }

  /** A peer is gone, or was only parted from and now is. */
  disconnected(peerId: string): void {
    this.#scheduler?.disconnected(peerId)
  }

  answered(peerId: string, rttMs: number): void {
    this.#table.answered(peerId, rttMs)
  }

  /** A peer says what it has measured. */
  heard(peerId: string, estimate: LinkEstimate): void {
    this.#table.heard(peerId, estimate)
  }

  /** A peer that measured has sent bursts. */
  probedIn(peerId: string, rate: SeenRate & { isStarved: boolean }): void {
    this.#table.probedIn(peerId, rate)
  }

  /** Bytes of a peer have come on a stage stream. */
  transferred(peerId: string, transfer: Transfer): void {
    this.#table.transferred(peerId, { ...transfer, isStarved: this.#lateness.isLate })
  }

  weightsCame(peerId: string, bytes: number): void {
    this.#table.weightsCame(peerId, bytes, () => this.#lateness.isLate)
  }

  /** The link is looked at where frames begin to take longer than they did. */
  frameCame(peerId: string, frame: StageFrame): void {
    const sentAtMs = frame.timings.at(-1)?.sentAtMs
    if (sentAtMs === undefined) return
    const delayMs = performance.timeOrigin + performance.now() - sentAtMs
    const payloadBytes = frame.type === 'hidden' ? frame.hidden.byteLength : 0
    this.#table.frameCame(peerId, { bytes: FRAME_BYTES + payloadBytes, delayMs })
  }

  /** Measures the links to these peers that were never measured. */
  async measureMissing(peerIds: readonly string[], signal?: AbortSignal): Promise<void> {
    await this.#measuring.measureMissing(peerIds, signal)
  }

  /** Looks roughly at the links to these peers of which nothing is known. */
  async glanceAt(peerIds: readonly string[], signal?: AbortSignal): Promise<void> {
    await this.#measuring.glanceAt(peerIds, signal)
  }

  stop(): void {
    this.#stopped = true
    this.#scheduler?.stop()
    this.#news.stop()
    this.#details.stop()
    this.#lateness.stop()
  }

  get #measuring(): LinkScheduler {
    if (this.#scheduler === undefined) throw new Error('the mesh is not started')
    return this.#scheduler
  }
}

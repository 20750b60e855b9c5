import { setTimeout as delay } from 'node:timers/promises'
import { logger } from '../../models/log.ts'
import { DeadlineError, PeerLostError, RemoteError } from '../../protocols/errors.ts'
import type { LinkService } from '../../protocols/links/index.ts'
import { orAborted } from '../aborted.ts'
import type { LinkTable } from './link-table.ts'

const log = logger('edgeshard:mesh')

export interface LinkSchedulerInit {
  /** This node's id: of a pair, the smaller one measures. */
  peerId: string
  service: Pick<LinkService, 'measure'>
  table: LinkTable
  connected(): string[]
  onMeasured(peerId: string): void
}

/** How often links that are due are looked for; one is measured at a time. */
const ROUND_MS = 500
/** A mesh that has just met is busy with each other. */
const SETTLE_MS = 1500
/** Links change little: cables and access points, not minutes. */
const MAX_AGE_MS = 30 * 60_000
/** What was measured on a busy device is soon measured again, then twice as long after each try. */
const UNSURE_SPREAD = 0.1
const UNSURE_MAX_AGE_MS = 15_000
/** After a refusal, so that two nodes that refuse each other do not meet again. */
const RETRY_MS = 1000
/** Limit for measuring on demand, right before a plan; one link takes 0.3 s. */
const ON_DEMAND_MS = 3000
/** A link that could not be measured in time is not waited for again by a plan for so long. */
const TOO_SLOW_MS = 60_000

/** Measures each link when a peer is new and when its estimate is old, never two at once. */
export class LinkScheduler {
  readonly #init: LinkSchedulerInit
  readonly #notBeforeMs = new Map<string, number>()
  /** Age at which an estimate whose bursts did not agree is measured again. */
  readonly #unsureMaxAgeMs = new Map<string, number>()
  /** Peers whose measurement did not end in time, and until when it is not waited for. */
  readonly #tooSlowUntilMs = new Map<string, number>()
  #running: Promise<void> = Promise.resolve()
  #queued = 0
  #timer: NodeJS.Timeout | undefined

  constructor(init: LinkSchedulerInit) {
    this.#init = init
  }

  start(): void {
    this.#timer = setInterval(() => {
      const due = this.#queued === 0 ? this.#due() : undefined
      if (due === undefined) return
      void this.#measure(due).catch(error =>
        this.#later(due, error instanceof DeadlineError ? TOO_SLOW_MS : 2 * RETRY_MS)
      )
    }, ROUND_MS)
  }

  connected(peerId: string): void {
    this.#notBeforeMs.set(peerId, performance.now() + SETTLE_MS)
  }

  disconnected(peerId: string): void {
    this.#notBeforeMs.delete(peerId)
    this.#unsureMaxAgeMs.delete(peerId)
    this.#tooSlowUntilMs.delete(peerId)
    this.#init.table.forget(peerId)
  }

  /**
   * Measures what was never measured, now. Takes no longer than ON_DEMAND_MS: peers that are busy or go away keep what
   * is known of them, and the rest is measured by and by.
   */
  async measureMissing(peerIds: readonly string[], signal?: AbortSignal): Promise<void> {
    const deadline = AbortSignal.timeout(ON_DEMAND_MS)
    const either = signal ? AbortSignal.any([signal, deadline]) : deadline
    const now = performance.now()
    const missing = new Set(
      peerIds.filter(
        peerId =>
          this.#init.table.ageMs(peerId) === Number.POSITIVE_INFINITY &&
          (this.#tooSlowUntilMs.get(peerId) ?? 0) <= now
      )
    )
    while (missing.size > 0 && !either.aborted) {
      for (const peerId of missing) {
        try {
          // Another measurement, of which this call knows nothing, may have the turn.
          await orAborted(this.#measure(peerId, either), either)
          missing.delete(peerId)
        } catch (error) {
          const refused = error instanceof RemoteError && error.code === 'refused'
          if (refused || error instanceof PeerLostError || error instanceof DeadlineError)
            missing.delete(peerId)
        }
      }
      // Only the signal ends it early, and the loop looks at that.
      if (missing.size > 0)
        await delay(50 + Math.random() * 100, undefined, { signal: either }).catch(() => {})
    }
    signal?.throwIfAborted()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #due(): string | undefined {
    const now = performance.now()
    const { peerId, table, connected } = this.#init
    return connected().find(
      other =>
        peerId < other &&
        table.ageMs(other) > (this.#unsureMaxAgeMs.get(other) ?? MAX_AGE_MS) &&
        (this.#notBeforeMs.get(other) ?? 0) <= now
    )
  }

  #noteSpread(peerId: string, spread: number): void {
    const before = this.#unsureMaxAgeMs.get(peerId)
    if (spread <= UNSURE_SPREAD) this.#unsureMaxAgeMs.delete(peerId)
    else
      this.#unsureMaxAgeMs.set(
        peerId,
        Math.min(MAX_AGE_MS, before === undefined ? UNSURE_MAX_AGE_MS : 2 * before)
      )
  }

  #later(peerId: string, ms: number): void {
    this.#notBeforeMs.set(peerId, performance.now() + ms * (0.5 + Math.random()))
  }

  #measure(peerId: string, signal?: AbortSignal): Promise<void> {
    this.#queued++
    const turn = this.#running.then(async () => {
      signal?.throwIfAborted()
      const startMs = performance.now()
      const measurement = await this.#init.service
        .measure(peerId, signal ? { signal } : {})
        .catch((error: Error) => {
          const tookMs = performance.now() - startMs
          // Not where others had used up the time before.
          const wasSlow = error.name === 'TimeoutError' && tookMs > ON_DEMAND_MS / 2
          if (error instanceof DeadlineError || wasSlow) {
            this.#tooSlowUntilMs.set(peerId, performance.now() + TOO_SLOW_MS)
            this.#init.table.tooSlow(peerId)
            this.#init.onMeasured(peerId)
          }
          throw error
        })
      this.#tooSlowUntilMs.delete(peerId)
      this.#init.table.measured(peerId, measurement)
      this.#noteSpread(peerId, measurement.spread)
      this.#init.onMeasured(peerId)
    })
    this.#running = turn
      .catch(log.passOver('measuring a link failed; it is measured again later', { peerId }))
      .finally(() => this.#queued--)
    return turn
  }
}

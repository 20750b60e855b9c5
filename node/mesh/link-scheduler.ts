import { setTimeout as delay } from 'node:timers/promises'
import { logger } from '../../models/log.ts'
import { DeadlineError, RemoteError } from '../../protocols/errors.ts'
import type { LinkMeasurement, LinkService } from '../../protocols/links/index.ts'
import { orAborted } from '../aborted.ts'
import type { LinkTable } from './link-table.ts'
import { ProbeBudget } from './probe-budget.ts'

const log = logger('edgeshard:mesh')
/** A look tells the log by itself how it failed. */
const GIVEN_UP = log.passOver('a look at a link is not waited for any longer')

export interface LinkSchedulerInit {
  /** This node's id: of a pair, the smaller one measures. */
  peerId: string
  service: Pick<LinkService, 'measure' | 'glance'>
  table: LinkTable
  connected(): string[]
  /** Whether tokens flow through this node. @default never */
  isBusy?: () => boolean
  /** How much a plan could depend on the link to a peer: those with most are measured first. @default all the same */
  importance?: (peerId: string) => number
  /** Bytes of weights that came and went so far: while many move, links are measured for nobody who does not wait. @default none */
  weightBytes?: () => number
  onMeasured(peerId: string): void
}

/** How often links that are due are looked for; one is measured at a time. */
const ROUND_MS = 500
/** So many bytes of weights in a round move as fast as they can: bursts would get a share of the link, and take one. */
const MOVING_BYTES = 1 << 20
/** Links that are due are measured beside weights that move for longer: a peer may fetch some without end. */
const MAX_MOVING_MS = 10 * 60_000
/** A mesh that has just met is busy with each other. */
const SETTLE_MS = 1500
/** Links change little: cables and access points, not minutes. What does change shows in what comes over them. */
const MAX_AGE_MS = 30 * 60_000
/**
 * A link that was found as it was is measured again after twice as long, up to this, while no deployment uses it and no plan asks for
 * it: on a link of 500 Mbps a measurement takes tens of megabytes, and an idle mesh of 128 devices has a thousand links.
 */
const MAX_UNUSED_AGE_MS = 8 * 3_600_000
/** A link is as it was where both directions are within this share of it. */
const SAME_SHARE = 0.2
/** `importance` of a link that a deployment uses. */
const IN_USE = 2
/** What was measured on a busy device is soon measured again, then twice as long after each try. */
const UNSURE_SPREAD = 0.1
/**
 * On a link as fast as that a token takes no time that a plan could save. Whatever else devices do makes a link seem slower and
 * never faster, so that this is known however far bursts were apart, and whoever was starved.
 */
const FAST_ENOUGH_MBPS = 500
const UNSURE_MAX_AGE_MS = 15_000
/** So many tries an hour count as first ones of a link that fails or is lost again and again: the rest is not at others' cost. */
const FIRST_TRIES = 2
/** Between tries that fail, twice as long each time. */
const MAX_FAILED_PAUSE_MS = 10 * 60_000
/** After a refusal, so that two nodes that refuse each other do not meet again. */
const RETRY_MS = 1000
/** Limit for measuring on demand, right before a plan; one link takes 0.1 s. */
const ON_DEMAND_MS = 3000
/** A link that could not be measured in time is not waited for again by a plan for so long, then twice as long. */
const TOO_SLOW_MS = 60_000
/** Limit for glances on demand, while somebody decides; one takes a few milliseconds more than round trips, on slow links 0.2 s. */
const GLANCES_MS = 1000
/** Between two glances at a link, and between those that found nothing new, twice as long each time. */
const GLANCE_EVERY_MS = 2500
const MAX_GLANCE_EVERY_MS = 5 * 60_000
/** Glances that may be under way at once: they follow one another, but for those whose peers say nothing. */
const MOST_GLANCES = 8

/**
 * Measures each link when a peer is new, when its estimate is old or says too little, never two at once and no
 * more than the budget has. A link whose traffic has changed its pace is glanced at at once, and so is, while tokens flow here and nothing
 * can be measured, one of which nothing is known: the peer may be the better place for them. So is one that has come into use and of
 * which nothing was found for long, where it cannot be measured.
 */
export class LinkScheduler {
  readonly #init: LinkSchedulerInit
  readonly #budget = new ProbeBudget()
  readonly #notBeforeMs = new Map<string, number>()
  /** Age at which an estimate whose bursts did not agree, or of a starved device, is measured again. */
  readonly #unsureMaxAgeMs = new Map<string, number>()
  /** Age at which a link that nothing uses is measured again, where it was found as it was before. */
  readonly #unusedMaxAgeMs = new Map<string, number>()
  /** Peers whose measurement did not end in time, until when it is not waited for, and how long that was. */
  readonly #tooSlow = new Map<string, { untilMs: number; pauseMs: number }>()
  /** Peers whose measurement failed otherwise, and the pause until the next one. */
  readonly #failedPauseMs = new Map<string, number>()
  /** Peers whose frames take another time than they did. */
  readonly #doubted = new Set<string>()
  /** When a link may be glanced at again, and the pause that led there. */
  readonly #glances = new Map<string, { notBeforeMs: number; pauseMs: number }>()
  /** Peers with a link that small bursts cannot time, of which nothing else is known. */
  readonly #tooFast = new Set<string>()
  /** The glances that are under way, by peer; they never reject. */
  readonly #looking = new Map<string, Promise<void>>()
  #weightBytes = 0
  /** When no weights moved last. */
  #stillAtMs = performance.now()
  #running: Promise<void> = Promise.resolve()
  #queued = 0
  #timer: NodeJS.Timeout | undefined

  constructor(init: LinkSchedulerInit) {
    this.#init = init
  }

  start(): void {
    this.#timer = setInterval(() => {
      const isMoving = this.#weightsMove()
      this.#lookAtOne({ isMoving })
      const isFree = !isMoving && this.#queued === 0 && this.#looking.size === 0
      const due = isFree ? this.#due() : undefined
      if (due === undefined) return
      void this.#measure(due).catch(error => this.#later(due, this.#pauseAfter(due, error)))
    }, ROUND_MS)
  }

  connected(peerId: string): void {
    this.#notBeforeMs.set(peerId, performance.now() + SETTLE_MS)
    this.#init.table.metAgain(peerId)
  }

  disconnected(peerId: string): void {
    this.#notBeforeMs.delete(peerId)
    this.#unsureMaxAgeMs.delete(peerId)
    this.#unusedMaxAgeMs.delete(peerId)
    this.#tooSlow.delete(peerId)
    this.#failedPauseMs.delete(peerId)
    this.#doubted.delete(peerId)
    this.#glances.delete(peerId)
    this.#tooFast.delete(peerId)
    this.#init.table.forget(peerId)
  }

  /** What comes from a peer takes another time than before: the link is looked at, also while tokens flow. */
  doubt(peerId: string): void {
    // In the next round, and not at once: right behind a frame, bursts could hardly ever be timed.
    this.#doubted.add(peerId)
  }

  /**
   * Measures what neither side ever measured, now, the links that matter most first, and roughly, for a plan waits for it: exactly they
   * are measured soon after. Takes no longer than ON_DEMAND_MS: peers that are busy or go away keep what is known of them, and
   * the rest is measured by and by.
   */
  async measureMissing(peerIds: readonly string[], signal?: AbortSignal): Promise<void> {
    const deadline = AbortSignal.timeout(ON_DEMAND_MS)
    const either = signal ? AbortSignal.any([signal, deadline]) : deadline
    const now = performance.now()
    // The next plan has what is old of these by then.
    for (const peerId of peerIds) this.#unusedMaxAgeMs.delete(peerId)
    const missing = new Set(
      this.#byImportance(peerIds).filter(
        peerId => !this.#init.table.isKnown(peerId) && (this.#tooSlow.get(peerId)?.untilMs ?? 0) <= now
      )
    )
    while (missing.size > 0 && !either.aborted) {
      for (const peerId of missing) {
        try {
          // Another measurement, of which this call knows nothing, may have the turn.
          await orAborted(this.#measure(peerId, { signal: either, roughly: true }), either)
          missing.delete(peerId)
        } catch (error) {
          // A busy peer is free in a moment; what fails otherwise fails again.
          if (!(error instanceof RemoteError) || error.code === 'refused') missing.delete(peerId)
        }
      }
      // What the hour has left is for none of them.
      for (const peerId of missing) if (!this.#mayMeasure(peerId)) missing.delete(peerId)
      // Only the signal ends it early, and the loop looks at that.
      if (missing.size > 0)
        await delay(50 + Math.random() * 100, undefined, { signal: either }).catch(() => {})
    }
    signal?.throwIfAborted()
  }

  /**
   * Glances now at those links of which nothing is known, those that matter most first, for who decides while tokens flow. Takes no
   * longer than GLANCES_MS: what fails, or is busy for longer, is looked at by and by.
   */
  async glanceAt(peerIds: readonly string[], signal?: AbortSignal): Promise<void> {
    const deadline = AbortSignal.timeout(GLANCES_MS)
    const either = signal ? AbortSignal.any([signal, deadline]) : deadline
    const wanted = this.#byImportance(peerIds)
    const lookOneByOne = async () => {
      for (let peerId = wanted.shift(); peerId !== undefined && !either.aborted; peerId = wanted.shift()) {
        while (this.#looking.size >= MOST_GLANCES && !either.aborted)
          await orAborted(Promise.race(this.#looking.values()), either).catch(GIVEN_UP)
        const isWanted = !either.aborted && this.#isUnknown(peerId) && this.#mayGlance(peerId)
        const look =
          this.#looking.get(peerId) ?? (isWanted ? this.#look(peerId, this.#firstGlance(peerId)) : undefined)
        if (look !== undefined) await orAborted(look, either).catch(GIVEN_UP)
      }
    }
    // A peer that says nothing holds up one of them.
    await Promise.all(Array.from({ length: MOST_GLANCES }, lookOneByOne))
    signal?.throwIfAborted()
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  /**
   * Whether weights have come or gone since the last round, but for what is prefetched, which comes slowly. What moves for longer
   * than MAX_MOVING_MS is not waited for.
   */
  #weightsMove(): boolean {
    const before = this.#weightBytes
    this.#weightBytes = this.#init.weightBytes?.() ?? 0
    const nowMs = performance.now()
    if (this.#weightBytes - before < MOVING_BYTES) this.#stillAtMs = nowMs
    return nowMs - this.#stillAtMs > 0 && nowMs - this.#stillAtMs < MAX_MOVING_MS
  }

  #due(): string | undefined {
    const now = performance.now()
    const { peerId, table, connected } = this.#init
    const due = connected().filter(
      other =>
        peerId < other &&
        table.ageMs(other) > this.#maxAgeMs(other) &&
        (this.#notBeforeMs.get(other) ?? 0) <= now &&
        this.#mayMeasure(other)
    )
    return this.#byImportance(due)[0]
  }

  #maxAgeMs(peerId: string): number {
    const isUsed = this.#init.importance?.(peerId) === IN_USE
    const sureMs = isUsed ? undefined : this.#unusedMaxAgeMs.get(peerId)
    return this.#unsureMaxAgeMs.get(peerId) ?? sureMs ?? MAX_AGE_MS
  }

  /** Those first that a plan depends on most, and among them those of which least is known. */
  #byImportance(peerIds: readonly string[]): string[] {
    const { importance = () => 0, table } = this.#init
    const ranked = peerIds.map(peerId => ({
      peerId,
      importance: importance(peerId),
      ageMs: table.ageMs(peerId)
    }))
    return ranked
      .sort((a, b) => b.importance - a.importance || compareAges(b.ageMs, a.ageMs))
      .map(({ peerId }) => peerId)
  }

  #isRepeat(peerId: string): boolean {
    return (
      this.#init.table.ageMs(peerId) !== Number.POSITIVE_INFINITY ||
      this.#tooSlow.has(peerId) ||
      this.#budget.triesOf(peerId) >= FIRST_TRIES
    )
  }

  #mayMeasure(peerId: string): boolean {
    const devices = this.#init.connected().length + 1
    return this.#budget.has(devices, { peerId, isRepeat: this.#isRepeat(peerId) })
  }

  /** Begins one more glance, beside a measurement of another link. */
  #lookAtOne({ isMoving }: { isMoving: boolean }): void {
    if (this.#looking.size >= MOST_GLANCES) return
    const isNext = (other: string) => this.#mayGlance(other) && !this.#looking.has(other)
    const doubted = [...this.#doubted].find(isNext)
    const unknown = doubted === undefined ? this.#unknownToBusy.find(isNext) : undefined
    const canMeasure = !isMoving && this.#init.isBusy?.() !== true
    const peerId = doubted ?? unknown ?? (canMeasure ? undefined : this.#oldInUse.find(isNext))
    if (peerId === undefined) return
    this.#doubted.delete(peerId)
    void this.#look(peerId, unknown === undefined ? this.#glance(peerId) : this.#firstGlance(peerId))
  }

  #mayGlance(peerId: string): boolean {
    return (this.#glances.get(peerId)?.notBeforeMs ?? 0) <= performance.now()
  }

  #look(peerId: string, glance: Promise<void>): Promise<void> {
    const looking = glance
      .catch(error => {
        this.#pauseGlances(peerId, this.#glances.get(peerId)?.pauseMs ?? GLANCE_EVERY_MS)
        log.passOver('a look at a link failed; what is known of it stays', { peerId })(error)
      })
      .finally(() => this.#looking.delete(peerId))
    this.#looking.set(peerId, looking)
    return looking
  }

  async #glance(peerId: string): Promise<void> {
    const { service, table } = this.#init
    const { rttMs, ...rate } = await service.glance(peerId)
    const found = table.glanced(peerId, rate, rttMs)
    const pauseMs = this.#glances.get(peerId)?.pauseMs ?? GLANCE_EVERY_MS / 2
    // What a starved device found is looked for again, but not at the cost of a slow link's tokens.
    this.#pauseGlances(
      peerId,
      found === 'news' ? GLANCE_EVERY_MS : Math.min(MAX_GLANCE_EVERY_MS, 2 * pauseMs)
    )
    // A few small bursts say roughly what it is: when the link is idle, it is measured.
    if (found === 'news') this.#unsureMaxAgeMs.set(peerId, UNSURE_MAX_AGE_MS)
  }

  /** Peers of whose links nothing is known while tokens flow here, those first that matter most. */
  get #unknownToBusy(): string[] {
    const { isBusy, connected } = this.#init
    if (isBusy?.() !== true) return []
    return this.#byImportance(connected().filter(other => this.#isUnknown(other)))
  }

  /**
   * Peers whose link a deployment uses, of which nothing was found for long: it may have been planned with what was true hours ago. As
   * long as nothing can be measured they are looked at.
   */
  get #oldInUse(): string[] {
    const { connected, importance, table } = this.#init
    const { row } = table
    return connected().filter(
      other => row[other] !== undefined && table.inAgeMs(other) > MAX_AGE_MS && importance?.(other) === IN_USE
    )
  }

  #isUnknown(peerId: string): boolean {
    return this.#init.table.row[peerId] === undefined && !this.#tooFast.has(peerId)
  }

  /** Looks at both directions of a link that is not known, once it comes to anything: no more than 80 KiB for each connection. */
  async #firstGlance(peerId: string): Promise<void> {
    const { service, table, onMeasured } = this.#init
    const pauseMs = this.#glances.get(peerId)?.pauseMs ?? GLANCE_EVERY_MS / 2
    this.#pauseGlances(peerId, Math.min(MAX_GLANCE_EVERY_MS, 2 * pauseMs))
    const { out, rttMs, isStarved, ...back } = await service.glance(peerId, { isBothWays: true })
    // Too fast for such bursts it is as fast as what is assumed of a link, for all that they say.
    if (out === undefined || (out.isLeast && back.isLeast)) {
      this.#tooFast.add(peerId)
      return
    }
    const spread = Math.max(out.spread, back.spread)
    const [outMbps, inMbps] = [out.mbps, back.mbps]
    // What either side has measured meanwhile says more.
    if (!table.isKnown(peerId))
      table.measured(peerId, { outMbps, inMbps, rttMs, isStarved, spread, isGlance: true })
    // Where a peer says what no link can be nothing is known still: it is not looked at again at once.
    if (table.row[peerId] !== undefined) this.#glances.delete(peerId)
    onMeasured(peerId)
  }

  #pauseGlances(peerId: string, pauseMs: number): void {
    this.#glances.set(peerId, { pauseMs, notBeforeMs: performance.now() + pauseMs })
  }

  /** Notes whether a link that had become old is as it was, before the table has the measurement. */
  #noteAge(peerId: string, { outMbps, inMbps }: LinkMeasurement): void {
    const { table } = this.#init
    const known = table.row[peerId]
    const maxAgeMs = this.#unusedMaxAgeMs.get(peerId) ?? MAX_AGE_MS
    if (known !== undefined && table.ageMs(peerId) < maxAgeMs) return
    const isSame = (before: number, now: number) =>
      Math.abs(now / before - 1) <= SAME_SHARE || Math.min(before, now) >= FAST_ENOUGH_MBPS
    if (known !== undefined && isSame(known.outMbps, outMbps) && isSame(known.inMbps, inMbps))
      this.#unusedMaxAgeMs.set(peerId, Math.min(MAX_UNUSED_AGE_MS, 2 * maxAgeMs))
    else this.#unusedMaxAgeMs.delete(peerId)
  }

  #noteDoubts(peerId: string, measurement: LinkMeasurement, roughly: boolean): void {
    const before = this.#unsureMaxAgeMs.get(peerId)
    const isSure = isExact(measurement) && !roughly
    if (isSure || this.#isFastEnough(peerId, measurement)) this.#unsureMaxAgeMs.delete(peerId)
    else
      this.#unsureMaxAgeMs.set(
        peerId,
        Math.min(MAX_AGE_MS, before === undefined ? UNSURE_MAX_AGE_MS : 2 * before)
      )
  }

  /** Whether measuring it again could tell a plan nothing: what a starved device found may be passed over for something slower. */
  #isFastEnough(peerId: string, measurement: LinkMeasurement): boolean {
    const known = this.#init.table.row[peerId]
    const isFast = ({ outMbps, inMbps }: Pick<LinkMeasurement, 'outMbps' | 'inMbps'>) =>
      Math.min(outMbps, inMbps) >= FAST_ENOUGH_MBPS
    return isFast(measurement) && known !== undefined && isFast(known)
  }

  #pauseAfter(peerId: string, error: unknown): number {
    if (error instanceof DeadlineError) return this.#tooSlow.get(peerId)?.pauseMs ?? TOO_SLOW_MS
    if (error instanceof RemoteError) return 2 * RETRY_MS
    const pauseMs = this.#failedPauseMs.get(peerId) ?? 2 * RETRY_MS
    this.#failedPauseMs.set(peerId, Math.min(MAX_FAILED_PAUSE_MS, 2 * pauseMs))
    return pauseMs
  }

  #later(peerId: string, ms: number): void {
    this.#notBeforeMs.set(peerId, performance.now() + ms * (0.5 + Math.random()))
  }

  #measure(
    peerId: string,
    { signal, roughly = false }: { signal?: AbortSignal; roughly?: boolean } = {}
  ): Promise<void> {
    this.#queued++
    const turn = this.#running.then(async () => {
      signal?.throwIfAborted()
      const isRepeat = this.#isRepeat(peerId)
      if (!this.#mayMeasure(peerId)) throw new Error('enough links were measured in the last hour')
      const startMs = performance.now()
      const probe = this.#budget.begin(peerId, { isRepeat })
      const measurement = await this.#init.service
        .measure(peerId, { ...(signal && { signal }), roughly })
        .catch((error: Error) => {
          // What was sent counts, whoever ended it: a peer that is busy after every burst costs no more than others.
          if (error instanceof RemoteError && error.code !== 'interrupted') probe.takeBack()
          const tookMs = performance.now() - startMs
          // Not where others had used up the time before.
          const wasSlow = error.name === 'TimeoutError' && tookMs > ON_DEMAND_MS / 2
          if (error instanceof DeadlineError || wasSlow) {
            const pauseMs = 2 * (this.#tooSlow.get(peerId)?.pauseMs ?? TOO_SLOW_MS / 2)
            this.#tooSlow.set(peerId, { pauseMs, untilMs: performance.now() + pauseMs })
            this.#init.table.tooSlow(peerId)
            this.#init.onMeasured(peerId)
          }
          throw error
        })
      probe.end()
      this.#tooSlow.delete(peerId)
      this.#failedPauseMs.delete(peerId)
      this.#noteAge(peerId, measurement)
      this.#init.table.measured(peerId, measurement)
      this.#noteDoubts(peerId, measurement, roughly)
      this.#init.onMeasured(peerId)
    })
    this.#running = turn
      .catch(log.passOver('measuring a link failed; it is measured again later', { peerId }))
      .finally(() => this.#queued--)
    return turn
  }
}

/** True where bursts agreed, on devices that had their processors. */
function isExact({ spread, isStarved }: LinkMeasurement): boolean {
  return spread <= UNSURE_SPREAD && !isStarved
}

/** Infinity is no older than itself. */
function compareAges(a: number, b: number): number {
  return a === b ? 0 : a - b
}

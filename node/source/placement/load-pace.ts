import { DeadlineError } from '../../../protocols/errors.ts'
import type { LoadProgress } from '../../../protocols/lease/index.ts'
import {
  LOAD_LEAST_FETCH_MBPS,
  LOAD_LEAST_FETCH_MBPS_MAX,
  LOAD_LEAST_FETCH_SHARE,
  LOAD_QUIET_FLOOR_MS,
  LOAD_READ_BYTES_PER_MS,
  LOAD_RESTARTS,
  LOAD_WINDOW_MS
} from '../../constants.ts'

export interface LoadPaceInit {
  /** Weights of the stage: no load fetches more. */
  bytes: number
  /** What the slowest link to the peer takes that its weights may come over; undefined where none was measured. */
  mbps: number | undefined
}

/**
 * Gives up a peer that only seems to load. Progress counts as far as it can be true: whole bytes of what there is to
 * fetch, and of the loading itself its beginning. Fewer bytes than before are a new beginning, LOAD_RESTARTS times: a file
 * that came damaged is fetched again.
 *
 * - Until the first byte, once all are there, and once it loads them, the peer says nothing that can be checked: it looks
 *   through the files that it holds, waits for its memory, or loads. For each it has the time in which an SD card reads
 *   them twice, and LOAD_QUIET_FLOOR_MS.
 * - In between, every LOAD_WINDOW_MS has to bring a hundredth of what the link takes in that time.
 *
 * To be ended by `end`.
 */
export class LoadPace {
  readonly #bytes: number
  readonly #windowBytes: number
  readonly #late = new AbortController()
  #phase: 'before' | 'fetch' | 'fetched' | 'load' = 'before'
  #restartsLeft = LOAD_RESTARTS
  #fetchedBytes = 0
  #windowFromBytes = 0
  #loadedShare = 0
  #timer: NodeJS.Timeout | undefined

  constructor({ bytes, mbps = 0 }: LoadPaceInit) {
    this.#bytes = bytes
    const least = Math.max(LOAD_LEAST_FETCH_MBPS, LOAD_LEAST_FETCH_SHARE * mbps)
    this.#windowBytes = (1000 * LOAD_WINDOW_MS * Math.min(LOAD_LEAST_FETCH_MBPS_MAX, least)) / 8
    this.#allowQuiet('it has neither fetched nor loaded anything')
  }

  /** Aborts with a {DeadlineError} that says what did not come. */
  get signal(): AbortSignal {
    return this.#late.signal
  }

  /** The peer says how far it is. @returns true where that is further than before */
  reported({ phase, done, total }: LoadProgress): boolean {
    return phase === 'weights' ? this.#fetched(Math.floor(done), total) : this.#loaded(done / total)
  }

  end(): void {
    clearTimeout(this.#timer)
  }

  #fetched(bytes: number, total: number): boolean {
    const possible = bytes >= 0 && bytes <= total && total <= this.#bytes
    if (this.#phase === 'load' || !possible || bytes === this.#fetchedBytes) return false
    if (bytes < this.#fetchedBytes) return this.#restarted(bytes)
    this.#fetchedBytes = bytes
    if (bytes === total) this.#allowLoad('fetched')
    else if (this.#phase === 'before' || bytes - this.#windowFromBytes >= this.#windowBytes)
      this.#openWindow()
    return true
  }

  /** No progress, but time for what comes again. */
  #restarted(bytes: number): false {
    if (this.#restartsLeft === 0) return false
    this.#restartsLeft--
    this.#fetchedBytes = bytes
    this.#openWindow()
    return false
  }

  #loaded(share: number): boolean {
    if (!(share >= 0 && share <= 1)) return false
    this.#beginLoad()
    if (share <= this.#loadedShare) return false
    this.#loadedShare = share
    return true
  }

  #openWindow(): void {
    this.#phase = 'fetch'
    this.#windowFromBytes = this.#fetchedBytes
    this.#restart(LOAD_WINDOW_MS, () => {
      const bytes = this.#fetchedBytes - this.#windowFromBytes
      return `it has fetched ${bytes} bytes in ${seconds(LOAD_WINDOW_MS)}`
    })
  }

  /** Once: how long it takes does not depend on what is said of it. */
  #beginLoad(): void {
    if (this.#phase !== 'load') this.#allowLoad('load')
  }

  #allowLoad(phase: 'fetched' | 'load'): void {
    this.#phase = phase
    this.#allowQuiet('it has its weights and does not load them')
  }

  #allowQuiet(what: string): void {
    const ms = LOAD_QUIET_FLOOR_MS + (2 * this.#bytes) / LOAD_READ_BYTES_PER_MS
    this.#restart(ms, () => `${what} within ${seconds(ms)}`)
  }

  #restart(ms: number, reason: () => string): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#late.abort(new DeadlineError(reason())), ms)
  }
}

function seconds(ms: number): string {
  return `${Math.round(ms / 1000)} s`
}

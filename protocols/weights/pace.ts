import { DeadlineError } from '../errors.ts'
import {
  LEAST_WEIGHT_MBPS,
  LEAST_WEIGHT_MBPS_MAX,
  LEAST_WEIGHT_SHARE,
  WEIGHT_PACE_WINDOW_MS
} from './constants.ts'
import type { WeightLink } from './credit.ts'

/** Gives up a holder that sends so little that it only seems to. Time that this side spends on the bytes is not counted. */
export class Pace {
  readonly #leastMbps: number
  #bytes = 0
  #waitedMs = 0

  constructor({ mbps = 0 }: WeightLink) {
    this.#leastMbps = Math.min(LEAST_WEIGHT_MBPS_MAX, Math.max(LEAST_WEIGHT_MBPS, LEAST_WEIGHT_SHARE * mbps))
  }

  /** @throws {DeadlineError} when too few came in the last WEIGHT_PACE_WINDOW_MS of waiting */
  arrived(bytes: number, waitedMs: number): void {
    this.#bytes += bytes
    this.#waitedMs += waitedMs
    if (this.#waitedMs < WEIGHT_PACE_WINDOW_MS) return
    const mbps = (8 * this.#bytes) / (this.#waitedMs * 1000)
    if (mbps < this.#leastMbps)
      throw new DeadlineError(`it sent ${this.#bytes} bytes in ${Math.round(this.#waitedMs / 1000)} s`)
    this.#bytes = 0
    this.#waitedMs = 0
  }
}

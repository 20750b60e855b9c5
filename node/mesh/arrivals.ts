import type { Transfer } from './link-rate.ts'

/** Weights are timed over spans of so long, of so many bytes at least. */
const SPAN_MS = 250
const MIN_SPAN_BYTES = 64 * 1024
/** Without a byte for so long nothing is on its way. */
const PAUSE_MS = 500

interface Span {
  startMs: number
  bytes: number
  lastMs: number
  /** The rate of the span before. */
  mbps: number
}

/** Times what comes from a peer for as long as it comes, of all its streams together: several fetches share a link. */
export class Arrivals {
  #span: Span | undefined

  /** @returns the span that ends with these bytes, where one does */
  came(bytes: number, atMs: number): Transfer | undefined {
    const span = this.#span
    if (span === undefined || atMs - span.lastMs > PAUSE_MS) {
      // What came first was on its way before.
      this.#span = { startMs: atMs, bytes: 0, lastMs: atMs, mbps: 0 }
      return undefined
    }
    span.bytes += bytes
    span.lastMs = atMs
    const ms = atMs - span.startMs
    if (ms < SPAN_MS || span.bytes < MIN_SPAN_BYTES) return undefined
    this.#span = { startMs: atMs, bytes: 0, lastMs: atMs, mbps: (8 * span.bytes) / (1000 * ms) }
    return { bytes: span.bytes, ms, isLeast: true }
  }

  /** Mbps at which bytes are coming now. */
  mbpsAt(nowMs: number): number {
    return this.#span === undefined || nowMs - this.#span.lastMs > PAUSE_MS ? 0 : this.#span.mbps
  }
}

import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { InvalidMessageError } from '../errors.ts'
import type { JsonStream } from '../json-stream.ts'
import { sendBytes } from '../stream.ts'
import { passedBytes } from '../young-garbage.ts'
import {
  LINK_AGREEMENT,
  LINK_BURST_FIRST_BYTES,
  LINK_BURST_GROWTH,
  LINK_BURST_LARGE_BYTES,
  LINK_BURST_MAX_BYTES,
  LINK_BURST_MIN_MS,
  LINK_BURST_OPENED,
  LINK_BURST_ROUGH_MS,
  LINK_BURST_ROUND_TRIPS,
  LINK_BURST_SMALL_BYTES,
  LINK_BURST_SPED_UP,
  LINK_BURSTS_MAX,
  LINK_BURSTS_MIN,
  LINK_FAST_BYTES,
  LINK_FAST_MBPS,
  LINK_PIECES,
  LINK_ROUGH_AGREEMENT,
  MIN_LINK_PIECE_BYTES
} from './constants.ts'
import { type Arrival, steadyRate } from './steady-rate.ts'

/** A timed burst: what came after the first piece, and how long that took. */
export interface Burst {
  bytes: number
  ms: number
}

export interface Rate {
  mbps: number
  /** How far the two bursts that it rests on were apart, relative to their mean. */
  spread: number
  /** Bytes that were sent to find it. */
  cost: number
}

/** A burst goes in pieces: what is sent at once is delivered at once, and nothing could be timed. */
export async function sendBurst({ stream }: JsonStream, total: number): Promise<void> {
  const piece = new Uint8Array(Math.max(MIN_LINK_PIECE_BYTES, Math.ceil(total / LINK_PIECES)))
  for (let sent = 0; sent < total; sent += piece.byteLength) {
    await sendBytes(stream, piece.subarray(0, Math.min(piece.byteLength, total - sent)))
    passedBytes(piece.byteLength)
  }
}

/** Times what came after the first piece, so neither side's clock nor the way there matters. */
export async function timeBurst({ reader }: JsonStream, total: number): Promise<Burst> {
  const waits = { timeoutMs: REQUEST_TIMEOUT_MS }
  const arrivals: Arrival[] = []
  for (let bytes = 0; bytes < total; ) {
    const piece = await reader.readSome(total - bytes, waits)
    if (piece === null) throw new InvalidMessageError(`the burst ended ${total - bytes} bytes early`)
    bytes += piece.byteLength
    arrivals.push({ bytes, atMs: performance.now() })
    passedBytes(piece.byteLength)
  }
  const bytes = total - arrivals[0]!.bytes
  const bytesPerMs = steadyRate(arrivals)
  if (bytesPerMs > 0) return { bytes, ms: bytes / bytesPerMs }
  // Most of it came at once. There is no larger burst to try, and the link is at least as fast as all of this one.
  return { bytes, ms: total < LINK_BURST_MAX_BYTES ? 0 : performance.now() - arrivals[0]!.atMs }
}

/**
 * Bursts that grow until one lasts long enough, then more of that size until two agree. Whatever else the two devices
 * do slows a burst and never speeds it up for long, so the fastest two that agree are the link.
 *
 * @param options `roughly`: in a few milliseconds more than round trips, to some ten percent. @default false
 * @throws {Error} when hardly a burst could be timed
 */
export async function measureRate(
  rttMs: number,
  burst: (bytes: number) => Promise<Burst>,
  { roughly = false }: { roughly?: boolean | undefined } = {}
): Promise<Rate> {
  const enoughMs = roughly ? Math.max(LINK_BURST_ROUGH_MS, rttMs) : LINK_BURST_MIN_MS + 2 * rttMs
  const agreement = roughly ? LINK_ROUGH_AGREEMENT : LINK_AGREEMENT
  let size = LINK_BURST_FIRST_BYTES
  let cost = 0
  let same: Burst[] = []
  const rates = () => same.filter(one => wasTimed(one, size)).map(mbpsOf)
  const agreed = () =>
    same.length >= (roughly ? 2 : burstsFor(size)) &&
    fastestPair(rates(), agreement) !== undefined &&
    (roughly || !isOpening(rates(), size, same[0]!.ms / rttMs))
  while (same.length === 0 || (same.length < LINK_BURSTS_MAX && !agreed())) {
    cost += size
    const last = await burst(size)
    same.push(last)
    if (size < LINK_BURST_MAX_BYTES && isTooShort(last, size, same.length === 1, enoughMs)) {
      const factor = wasTimed(last, size) ? (1.3 * enoughMs) / Math.max(last.ms, 1) : 2
      size = Math.min(
        LINK_BURST_MAX_BYTES,
        Math.ceil(size * Math.min(LINK_BURST_GROWTH, Math.max(2, factor)))
      )
      same = []
    }
  }
  const found = fastestPair(rates(), agreement) ?? closestPair(rates())
  if (found === undefined) throw new Error('the link could not be timed: one of the two devices is too busy')
  return { ...found, cost }
}

/** Also where the first of a size was long enough: windows open on the way, and the next ones may be much faster. */
function isTooShort(last: Burst, size: number, isFirst: boolean, enoughMs: number): boolean {
  if (size >= LINK_FAST_BYTES && wasTimed(last, size) && mbpsOf(last) >= LINK_FAST_MBPS) return false
  if (isFirst) return !wasTimed(last, size) || last.ms < enoughMs
  return size >= LINK_BURST_LARGE_BYTES && wasTimed(last, size) && last.ms < LINK_BURST_SPED_UP * enoughMs
}

function burstsFor(size: number): number {
  // On a slow link no window has to grow and no code to get warm.
  return size <= LINK_BURST_SMALL_BYTES ? 2 : LINK_BURSTS_MIN
}

/** On a long fast link each burst opens the sender's window further, so the last one of these is the fastest. */
function isOpening(rates: readonly number[], size: number, roundTrips: number): boolean {
  if (size < LINK_BURST_LARGE_BYTES || roundTrips >= LINK_BURST_ROUND_TRIPS) return false
  return rates.at(-1)! > (1 + LINK_BURST_OPENED) * Math.max(...rates.slice(0, -1))
}

/** What bursts of growing sizes say that were timed here for a peer: of the largest size, the fastest two that agree, else the closest. */
export function rateOfLargest(bursts: readonly (Burst & { size: number })[]): Omit<Rate, 'cost'> | undefined {
  const largest = Math.max(...bursts.map(({ size }) => size))
  const rates = bursts.filter(one => one.size === largest && wasTimed(one, largest)).map(mbpsOf)
  return fastestPair(rates, LINK_AGREEMENT) ?? closestPair(rates)
}

/** False where most of a burst was delivered at once, to a process that had been busy: nothing can be said then. */
function wasTimed({ bytes, ms }: Burst, size: number): boolean {
  return bytes >= size / 2 && ms > 0.1
}

type Pair = Omit<Rate, 'cost'>

/** Neighbouring rates, the fastest first. */
function pairsOf(rates: readonly number[]): Pair[] {
  const sorted = rates.toSorted((a, b) => b - a)
  return sorted.slice(1).map((low, i) => {
    const mbps = (low + sorted[i]!) / 2
    return { mbps, spread: (sorted[i]! - low) / mbps }
  })
}

function fastestPair(rates: readonly number[], agreement: number): Pair | undefined {
  return pairsOf(rates).find(({ spread }) => spread <= agreement)
}

function closestPair(rates: readonly number[]): Pair | undefined {
  return pairsOf(rates).toSorted((a, b) => a.spread - b.spread)[0]
}

function mbpsOf({ bytes, ms }: Burst): number {
  return (8 * bytes) / (ms * 1000)
}

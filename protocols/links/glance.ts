import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import type { Transport } from '../transport.ts'
import { type Burst, sendBurst, timeBurst } from './burst.ts'
import { echoed, openLinkStream } from './client.ts'
import {
  GLANCE_AGREEMENT,
  GLANCE_BURST_BYTES,
  GLANCE_BURSTS,
  GLANCE_ECHOES,
  GLANCE_LATE_MS,
  GLANCE_LEAST_BURSTS,
  GLANCE_MIN_MS,
  GLANCE_SURE_MS
} from './constants.ts'
import { took } from './messages.ts'
import type { MeasuringTurn } from './turn.ts'

/** What a few small bursts say of one direction of a link. */
export interface GlancedRate {
  mbps: number
  /** How far two bursts were apart, relative to their mean. */
  spread: number
  /** The bursts were too fast to be timed: `mbps` is the least that the link can be. */
  isLeast: boolean
}

/** What a few small bursts of a peer say of the link from it. */
export interface Glance extends GlancedRate {
  /** The same of the link to it, by the peer's clock, where that was looked at. */
  out?: GlancedRate
  rttMs: number
  /** The peer says that it had too little of its processors. */
  isStarved: boolean
}

/**
 * Has a peer send a few bursts of the size of a token's hidden states, on a stream of its own that ends with `until`.
 *
 * @param isBothWays some of them are sent to the peer
 * @param onBytes is called when any have come
 */
export async function glanceAt(
  transport: Transport,
  turn: MeasuringTurn,
  peerId: string,
  { until, isBothWays, onBytes }: { until: AbortSignal; isBothWays: boolean; onBytes: () => void }
): Promise<Glance> {
  const messages = await openLinkStream(transport, peerId, until, onBytes)
  return await turn.during(messages, until, async () => {
    let rttMs = Number.POSITIVE_INFINITY
    for (let i = 0; i < GLANCE_ECHOES; i++) {
      const { ms } = await echoed(messages, peerId, i === 0 ? { glance: true } : {})
      rttMs = Math.min(rttMs, ms)
    }
    const bytes = GLANCE_BURST_BYTES
    const give = async () => {
      await messages.send({ type: 'give', bytes })
      return await timeBurst(messages, bytes)
    }
    const take = async () => {
      await messages.send({ type: 'take', bytes })
      await sendBurst(messages, bytes)
      const { bytes: arrived, ms } = await messages.read(took, { timeoutMs: REQUEST_TIMEOUT_MS })
      return { bytes: Math.min(arrived, bytes), ms }
    }
    const some = { most: GLANCE_BURSTS - GLANCE_LEAST_BURSTS, isEnough: isTimedTwice }
    const back = await burstsOf(give, rttMs, isBothWays ? some : { most: GLANCE_BURSTS, isEnough })
    const rest = { ...some, most: isBothWays ? GLANCE_BURSTS - back.length : 0 }
    const out = await burstsOf(take, rttMs, rest)
    const { isStarved } = await echoed(messages, peerId)
    await messages.close()
    return { ...glanceOf(back), ...(isBothWays && { out: glanceOf(out) }), rttMs, isStarved }
  })
}

/** So many bursts, one behind the other, or fewer where these are enough. */
async function burstsOf(
  burst: () => Promise<Burst>,
  rttMs: number,
  { most, isEnough }: { most: number; isEnough: (bursts: readonly GlanceBurst[]) => boolean }
): Promise<GlanceBurst[]> {
  const bursts: GlanceBurst[] = []
  while (bursts.length < most && !isEnough(bursts)) {
    const startMs = performance.now()
    const timed = await burst()
    bursts.push({ ...timed, waitedMs: performance.now() - startMs - rttMs })
  }
  return bursts
}

/** The rate at which a burst of four pieces, behind the first, takes just long enough to be timed. */
const LEAST_MBPS = (8 * 0.75 * GLANCE_BURST_BYTES) / (1000 * GLANCE_MIN_MS)

export interface GlanceBurst extends Burst {
  /** The time from the request to the last byte, without a round trip. */
  waitedMs: number
}

/** What a burst says of the link. */
interface Seen {
  mbps: number
  isLeast: boolean
}

/**
 * What bursts say together: the fastest two of them that agree, else the second fastest. Where hardly one could be timed, for links
 * on which all of a burst arrives at once: the time that it was waited for, if the fastest three agree, as a busy process is now late
 * and now not.
 *
 * @throws {Error} where neither says anything
 */
export function glanceOf(bursts: readonly GlanceBurst[]): GlancedRate {
  const timed = bursts.flatMap(seenIn).sort(byRate)
  const pair = agreeing(timed) ?? (timed.length < GLANCE_LEAST_BURSTS ? waitedFor(bursts) : undefined)
  if (pair !== undefined) {
    const [high, low] = pair
    const mbps = (high.mbps + low.mbps) / 2
    return { mbps, spread: (high.mbps - low.mbps) / mbps, isLeast: high.isLeast || low.isLeast }
  }
  const second = timed[1]
  if (second === undefined) throw new Error('the link could not be timed: this device is too busy')
  return { ...second, spread: 1 }
}

/** The fastest and the third fastest of bursts by the time that they were waited for, where these agree. */
function waitedFor(bursts: readonly GlanceBurst[]): [Seen, Seen] | undefined {
  // A burst seems to take no time where the round trips before it were late.
  const waited = bursts.filter(({ waitedMs }) => waitedMs > 0)
  const rates = waited.map(({ waitedMs }) => ({ mbps: mbpsOf(GLANCE_BURST_BYTES, waitedMs), isLeast: false }))
  const [first, , third] = rates.sort(byRate)
  return first && third && agreeing([first, third])
}

/** Two do on a slow link, and each more would stand before a token. */
function isEnough(bursts: readonly GlanceBurst[]): boolean {
  const slow = bursts.filter(burst => burst.ms >= GLANCE_SURE_MS && !isTogether(burst))
  return agreeing(slow.flatMap(seenIn).sort(byRate)) !== undefined
}

function isTimedTwice(bursts: readonly GlanceBurst[]): boolean {
  return bursts.flatMap(seenIn).length >= GLANCE_LEAST_BURSTS
}

/**
 * One that came together is as fast as what can be timed where it was not waited for either; else its pieces, that had come one by
 * one, were read late, or the link hands on as much at once: nothing.
 */
function seenIn(burst: GlanceBurst): Seen[] {
  const { bytes, ms, waitedMs } = burst
  if (isTogether(burst)) return waitedMs < GLANCE_LATE_MS ? [{ mbps: LEAST_MBPS, isLeast: true }] : []
  return [{ mbps: Math.min(LEAST_MBPS, mbpsOf(bytes, ms)), isLeast: ms < GLANCE_MIN_MS / 0.9 }]
}

/** Whether most of a burst, or all of it, came at once: the rest of it says nothing. */
function isTogether({ bytes, ms }: Burst): boolean {
  return ms < GLANCE_MIN_MS || bytes < GLANCE_BURST_BYTES / 2
}

function mbpsOf(bytes: number, ms: number): number {
  return (8 * bytes) / (1000 * ms)
}

function byRate(a: Seen, b: Seen): number {
  return b.mbps - a.mbps
}

function agreeing(sorted: readonly Seen[]): [Seen, Seen] | undefined {
  for (let i = 1; i < sorted.length; i++) {
    const [high, low] = [sorted[i - 1]!, sorted[i]!]
    if (high.mbps - low.mbps <= (GLANCE_AGREEMENT * (high.mbps + low.mbps)) / 2) return [high, low]
  }
  return undefined
}

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
 */
export async function glanceAt(
  transport: Transport,
  turn: MeasuringTurn,
  peerId: string,
  { until, isBothWays }: { until: AbortSignal; isBothWays: boolean }
): Promise<Glance> {
  const messages = await openLinkStream(transport, peerId, until)
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

export interface GlanceBurst {
  /** What came after the first piece, and how long that took. */
  bytes: number
  ms: number
  /** The time from the request to the last byte, without a round trip. */
  waitedMs: number
}

/**
 * What bursts say together: the fastest two of them that agree, else the second fastest.
 *
 * @throws {Error} where hardly one of them could be timed
 */
export function glanceOf(bursts: readonly GlanceBurst[]): GlancedRate {
  const rates = bursts
    .filter(isTimed)
    .map(rateOf)
    .sort((a, b) => b - a)
  const pair = agreeing(rates)
  const mbps = pair === undefined ? rates[1] : (pair[0] + pair[1]) / 2
  if (mbps === undefined) throw new Error('the link could not be timed: this device is too busy')
  const leastMbps = rateOf({ bytes: bursts[0]!.bytes, ms: GLANCE_MIN_MS })
  return {
    mbps,
    spread: pair === undefined ? 1 : (pair[0] - pair[1]) / mbps,
    isLeast: mbps >= 0.9 * leastMbps
  }
}

/** Two do on a slow link, and each more would stand before a token. */
function isEnough(bursts: readonly GlanceBurst[]): boolean {
  const slow = bursts.filter(({ ms }) => ms >= GLANCE_SURE_MS)
  return agreeing(slow.map(rateOf).sort((a, b) => b - a)) !== undefined
}

function isTimedTwice(bursts: readonly GlanceBurst[]): boolean {
  return bursts.filter(isTimed).length >= GLANCE_LEAST_BURSTS
}

/** False where pieces that had come one by one were read together: this process had been busy. */
function isTimed({ ms, waitedMs }: GlanceBurst): boolean {
  return ms >= GLANCE_MIN_MS || waitedMs < GLANCE_LATE_MS
}

/** The link is as fast as what can be timed where most of a burst, or all of it, came at once. */
function rateOf({ bytes, ms }: Pick<GlanceBurst, 'bytes' | 'ms'>): number {
  return ms < GLANCE_MIN_MS ? LEAST_MBPS : Math.min(LEAST_MBPS, (8 * bytes) / (1000 * ms))
}

function agreeing(sorted: readonly number[]): [number, number] | undefined {
  for (let i = 1; i < sorted.length; i++) {
    const [high, low] = [sorted[i - 1]!, sorted[i]!]
    if (high - low <= (GLANCE_AGREEMENT * (high + low)) / 2) return [high, low]
  }
  return undefined
}

import {
  LINK_AGREEMENT,
  LINK_BURST_FIRST_BYTES,
  LINK_BURST_GROWTH,
  LINK_BURST_MAX_BYTES,
  LINK_BURST_MIN_MS,
  LINK_BURSTS_MAX,
  LINK_ECHOES,
  LINK_PIECES,
  LINKS_PROTOCOL,
  MAX_LINK_BYTES_PER_STREAM,
  MAX_LINK_STREAMS,
  MIN_LINK_PIECE_BYTES,
  OPEN_STREAM_TIMEOUT_MS,
  REQUEST_TIMEOUT_MS
} from '../constants.ts'
import { InvalidMessageError, LimitExceededError, RemoteError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import { sendBytes } from '../stream.ts'
import type { Transport } from '../transport.ts'
import { echo, linkRequest, took } from './messages.ts'

export interface LinkMeasurement {
  /** Goodput to the peer and from it, in millions of bits a second. */
  outMbps: number
  inMbps: number
  /** Least round trip of a message of a few bytes. */
  rttMs: number
  /** How far two bursts of one direction were apart, relative to their mean. */
  spread: number
  /** Bytes that the measurement sent and received. */
  cost: number
}

export interface LinkHandlers {
  /** Tokens flow: whoever wants to measure now is told to come back. */
  isBusy(): boolean
}

export interface LinkService {
  /**
   * Measures the link to a peer. One measurement at a time per node.
   *
   * @throws {RemoteError} code `busy` when this node or the peer measures already or passes tokens on
   */
  measure(peerId: string, options?: { signal?: AbortSignal }): Promise<LinkMeasurement>
  stop(): Promise<void>
}

/** A timed burst: what came after the first piece, and how long that took. */
interface Burst {
  bytes: number
  ms: number
}

export async function createLinkService(transport: Transport, handlers: LinkHandlers): Promise<LinkService> {
  let measuring = false
  const open = new Set<JsonStream>()

  const exclusively = async <T>(messages: JsonStream, work: () => Promise<T>): Promise<T> => {
    measuring = true
    open.add(messages)
    try {
      return await work()
    } catch (error) {
      messages.abort(error instanceof Error ? error : new Error(String(error)))
      throw error
    } finally {
      measuring = false
      open.delete(messages)
    }
  }

  const serve = async (messages: JsonStream): Promise<void> => {
    if (measuring || handlers.isBusy()) {
      await messages.send({ type: 'busy' })
      return await messages.close()
    }
    await exclusively(messages, async () => {
      let spent = 0
      // Ends with the stream, by its end or by the deadline.
      for (;;) {
        const wanted = await messages.read(linkRequest, { timeoutMs: REQUEST_TIMEOUT_MS })
        if (wanted.type === 'echo') await messages.send({ type: 'echo' })
        else {
          spent += wanted.bytes
          if (spent > MAX_LINK_BYTES_PER_STREAM)
            throw new LimitExceededError('a measurement that does not end')
          if (wanted.type === 'give') await sendBurst(messages, wanted.bytes)
          else await messages.send({ type: 'took', ...(await timeBurst(messages, wanted.bytes)) })
        }
      }
    })
  }

  const unhandle = await transport.handle(
    LINKS_PROTOCOL,
    (stream, peerId) => {
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      serve(messages).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_LINK_STREAMS }
  )

  return {
    async measure(peerId, { signal } = {}) {
      if (measuring || handlers.isBusy()) throw new RemoteError(peerId, 'busy', 'this node is busy')
      const timeout = AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)
      const stream = await transport.newStream(peerId, LINKS_PROTOCOL, {
        signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
        maxOutboundStreams: MAX_LINK_STREAMS
      })
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      return await exclusively(messages, async () => {
        const measurement = await measureOn(messages, peerId, signal)
        await messages.close()
        return measurement
      })
    },
    async stop() {
      await unhandle()
      for (const messages of open) messages.abort(new Error('the node stops'))
    }
  }
}

async function measureOn(
  messages: JsonStream,
  peerId: string,
  signal: AbortSignal | undefined
): Promise<LinkMeasurement> {
  const waits = { timeoutMs: REQUEST_TIMEOUT_MS, ...(signal && { signal }) }
  let rttMs = Number.POSITIVE_INFINITY
  for (let i = 0; i < LINK_ECHOES; i++) {
    const startMs = performance.now()
    await messages.send({ type: 'echo' })
    if ((await messages.read(echo, waits)).type === 'busy')
      throw new RemoteError(peerId, 'busy', 'the peer is busy')
    rttMs = Math.min(rttMs, performance.now() - startMs)
  }
  const out = await grow(rttMs, async bytes => {
    await messages.send({ type: 'take', bytes })
    await sendBurst(messages, bytes)
    const { bytes: arrived, ms } = await messages.read(took, waits)
    return { bytes: Math.min(arrived, bytes), ms }
  })
  const back = await grow(rttMs, async bytes => {
    await messages.send({ type: 'give', bytes })
    return await timeBurst(messages, bytes)
  })
  return {
    outMbps: out.mbps,
    inMbps: back.mbps,
    rttMs,
    spread: Math.max(out.spread, back.spread),
    cost: out.cost + back.cost
  }
}

/** Bursts that grow until one lasts long enough, then more of that size until two agree: other work delays some. */
async function grow(
  rttMs: number,
  burst: (bytes: number) => Promise<Burst>
): Promise<{ mbps: number; spread: number; cost: number }> {
  const enoughMs = LINK_BURST_MIN_MS + 2 * rttMs
  let size = LINK_BURST_FIRST_BYTES
  let cost = 0
  const timed = async (): Promise<Burst> => {
    cost += size
    return await burst(size)
  }
  let last = await timed()
  while (size < LINK_BURST_MAX_BYTES && (!wasTimed(last, size) || last.ms < enoughMs)) {
    const factor = wasTimed(last, size) ? (1.3 * enoughMs) / Math.max(last.ms, 1) : 2
    size = Math.min(LINK_BURST_MAX_BYTES, Math.ceil(size * Math.min(LINK_BURST_GROWTH, Math.max(2, factor))))
    last = await timed()
  }
  const rates = wasTimed(last, size) ? [mbpsOf(last)] : []
  let agreed = { mbps: rates[0] ?? 0, spread: Number.POSITIVE_INFINITY }
  for (let i = 1; i < LINK_BURSTS_MAX && agreed.spread > LINK_AGREEMENT; i++) {
    const next = await timed()
    if (wasTimed(next, size)) rates.push(mbpsOf(next))
    if (rates.length >= 2) agreed = closestPair(rates)
  }
  if (rates.length < 2) throw new Error('the link could not be timed: one of the two devices is too busy')
  return { ...agreed, cost }
}

/** False where most of a burst was delivered at once, to a process that had been busy: nothing can be said then. */
function wasTimed({ bytes, ms }: Burst, size: number): boolean {
  return bytes >= size / 2 && ms > 0.1
}

/** Mean and relative distance of the two rates that are closest to each other. */
function closestPair(rates: readonly number[]): { mbps: number; spread: number } {
  const sorted = rates.toSorted((a, b) => a - b)
  const pairs = sorted.slice(1).map((high, i) => {
    const mbps = (high + sorted[i]!) / 2
    return { mbps, spread: (high - sorted[i]!) / mbps }
  })
  return pairs.reduce((best, pair) => (pair.spread < best.spread ? pair : best))
}

function mbpsOf({ bytes, ms }: Burst): number {
  return (8 * bytes) / (ms * 1000)
}

/** In many small pieces: what is sent at once is delivered at once, and nothing could be timed. */
async function sendBurst({ stream }: JsonStream, total: number): Promise<void> {
  const piece = new Uint8Array(Math.max(MIN_LINK_PIECE_BYTES, Math.ceil(total / LINK_PIECES)))
  for (let sent = 0; sent < total; sent += piece.byteLength) {
    await sendBytes(stream, piece.subarray(0, Math.min(piece.byteLength, total - sent)))
  }
}

async function timeBurst({ reader }: JsonStream, total: number): Promise<Burst> {
  const waits = { timeoutMs: REQUEST_TIMEOUT_MS }
  const first = await reader.readSome(total, waits)
  if (first === null) throw new InvalidMessageError('the burst did not come')
  const startMs = performance.now()
  const rest = total - first.byteLength
  for (let left = rest; left > 0; ) {
    const piece = await reader.readSome(left, waits)
    if (piece === null) throw new InvalidMessageError(`the burst ended ${left} bytes early`)
    left -= piece.byteLength
  }
  return { bytes: rest, ms: performance.now() - startMs }
}

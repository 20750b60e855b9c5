import {
  LINK_ECHO_WIRE_BYTES,
  LINK_ECHOES,
  LINK_MEASUREMENT_TIMEOUT_MS,
  LINKS_PROTOCOL,
  MAX_LINK_BYTES_PER_STREAM,
  MAX_LINK_STREAMS,
  OPEN_STREAM_TIMEOUT_MS,
  REQUEST_TIMEOUT_MS
} from '../constants.ts'
import { DeadlineError, LimitExceededError, RemoteError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { measureRate, sendBurst, timeBurst } from './burst.ts'
import { echo, linkRequest, took } from './messages.ts'

export interface LinkMeasurement {
  /** Goodput to the peer and from it, in millions of bits a second. */
  outMbps: number
  inMbps: number
  /** Least round trip of an empty message: the time that an echo's own bytes take is not in it. */
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
   * Measures the link to a peer. One measurement at a time per node, for LINK_MEASUREMENT_TIMEOUT_MS at most.
   *
   * @throws {RemoteError} code `busy` when this node or the peer measures already or passes tokens on;
   * {DeadlineError} when the peer is too slow
   */
  measure(peerId: string, options?: { signal?: AbortSignal }): Promise<LinkMeasurement>
  stop(): Promise<void>
}

/** @param options.timeoutMs - of one measurement; given so that tests need not wait */
export async function createLinkService(
  transport: Transport,
  handlers: LinkHandlers,
  { timeoutMs = LINK_MEASUREMENT_TIMEOUT_MS }: { timeoutMs?: number } = {}
): Promise<LinkService> {
  let measuring = false
  const open = new Set<JsonStream>()
  /** Who was served last waits as long as that took, so that one peer alone cannot keep this node from measuring. */
  let served = { peerId: '', untilMs: 0 }

  /** Runs `work` on a stream, which ends with `until`, and with it everything that waits for it. */
  const during = async <T>(messages: JsonStream, until: AbortSignal, work: () => Promise<T>): Promise<T> => {
    const onAbort = () => messages.abort(until.reason)
    until.addEventListener('abort', onAbort, { once: true })
    open.add(messages)
    try {
      until.throwIfAborted()
      return await work()
    } catch (error) {
      messages.abort(error instanceof Error ? error : new Error(String(error)))
      throw until.aborted ? until.reason : error
    } finally {
      open.delete(messages)
      until.removeEventListener('abort', onAbort)
    }
  }

  const answer = async (messages: JsonStream): Promise<void> => {
    let echoes = 0
    let spent = 0
    // Ends with the stream, by its end or by the deadline.
    for (;;) {
      const wanted = await messages.read(linkRequest, { timeoutMs: REQUEST_TIMEOUT_MS })
      if (wanted.type === 'echo') {
        if (++echoes > LINK_ECHOES) throw new LimitExceededError('echoes that do not end')
        await messages.send({ type: 'echo' })
        continue
      }
      if (handlers.isBusy()) throw new Error('tokens flow')
      spent += wanted.bytes
      if (spent > MAX_LINK_BYTES_PER_STREAM) throw new LimitExceededError('a measurement that does not end')
      if (wanted.type === 'give') await sendBurst(messages, wanted.bytes)
      else await messages.send({ type: 'took', ...(await timeBurst(messages, wanted.bytes)) })
    }
  }

  const serve = async (messages: JsonStream, peerId: string): Promise<void> => {
    const startMs = performance.now()
    if (measuring || handlers.isBusy() || (served.peerId === peerId && startMs < served.untilMs)) {
      await messages.send({ type: 'busy' })
      return await messages.close()
    }
    measuring = true
    try {
      await during(messages, AbortSignal.timeout(timeoutMs), () => answer(messages))
    } finally {
      measuring = false
      served = { peerId, untilMs: 2 * performance.now() - startMs }
    }
  }

  const measure = async (peerId: string, until: AbortSignal): Promise<LinkMeasurement> => {
    const stream = await transport.newStream(peerId, LINKS_PROTOCOL, {
      signal: AbortSignal.any([until, AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)]),
      maxOutboundStreams: MAX_LINK_STREAMS
    })
    const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    return await during(messages, until, async () => {
      const measurement = await measureOn(messages, peerId, handlers)
      await messages.close()
      return measurement
    })
  }

  const unhandle = await transport.handle(
    LINKS_PROTOCOL,
    (stream, peerId) => {
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      serve(messages, peerId).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_LINK_STREAMS }
  )

  return {
    async measure(peerId, { signal } = {}) {
      if (measuring || handlers.isBusy()) throw new RemoteError(peerId, 'busy', 'this node is busy')
      const timeout = AbortSignal.timeout(timeoutMs)
      measuring = true
      try {
        return await measure(peerId, signal ? AbortSignal.any([signal, timeout]) : timeout)
      } catch (error) {
        signal?.throwIfAborted()
        if (!timeout.aborted) throw error
        throw new DeadlineError(`the link to ${peerId} could not be measured within ${timeoutMs} ms`)
      } finally {
        measuring = false
      }
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
  { isBusy }: LinkHandlers
): Promise<LinkMeasurement> {
  const waits = { timeoutMs: REQUEST_TIMEOUT_MS }
  let echoMs = Number.POSITIVE_INFINITY
  for (let i = 0; i < LINK_ECHOES; i++) {
    const startMs = performance.now()
    await messages.send({ type: 'echo' })
    if ((await messages.read(echo, waits)).type === 'busy')
      throw new RemoteError(peerId, 'busy', 'the peer is busy')
    echoMs = Math.min(echoMs, performance.now() - startMs)
  }
  const request = async (type: 'take' | 'give', bytes: number) => {
    // An answer that begins now must not stand behind the rest of the bursts.
    if (isBusy()) throw new RemoteError(peerId, 'busy', 'this node is busy')
    await messages.send({ type, bytes })
  }
  const out = await measureRate(echoMs, async bytes => {
    await request('take', bytes)
    await sendBurst(messages, bytes)
    const { bytes: arrived, ms } = await messages.read(took, waits)
    return { bytes: Math.min(arrived, bytes), ms }
  })
  const back = await measureRate(echoMs, async bytes => {
    await request('give', bytes)
    return await timeBurst(messages, bytes)
  })
  const echoBits = 8 * LINK_ECHO_WIRE_BYTES
  return {
    outMbps: out.mbps,
    inMbps: back.mbps,
    rttMs: Math.max(0, echoMs - echoBits / (out.mbps * 1000) - echoBits / (back.mbps * 1000)),
    spread: Math.max(out.spread, back.spread),
    cost: out.cost + back.cost
  }
}

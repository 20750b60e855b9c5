import {
  LINK_ECHO_WIRE_BYTES,
  LINK_ECHOES,
  LINKS_PROTOCOL,
  MAX_LINK_BYTES_PER_STREAM,
  MAX_LINK_STREAMS,
  OPEN_STREAM_TIMEOUT_MS,
  REQUEST_TIMEOUT_MS
} from '../constants.ts'
import { LimitExceededError, RemoteError } from '../errors.ts'
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
   * Measures the link to a peer. One measurement at a time per node.
   *
   * @throws {RemoteError} code `busy` when this node or the peer measures already or passes tokens on
   */
  measure(peerId: string, options?: { signal?: AbortSignal }): Promise<LinkMeasurement>
  stop(): Promise<void>
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
          if (handlers.isBusy()) throw new Error('tokens flow')
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
        const measurement = await measureOn(messages, peerId, { ...handlers, ...(signal && { signal }) })
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
  { isBusy, signal }: LinkHandlers & { signal?: AbortSignal }
): Promise<LinkMeasurement> {
  const waits = { timeoutMs: REQUEST_TIMEOUT_MS, ...(signal && { signal }) }
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

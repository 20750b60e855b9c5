import { OPEN_STREAM_TIMEOUT_MS, REQUEST_TIMEOUT_MS } from '../constants.ts'
import { RemoteError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { measureRate, sendBurst, timeBurst } from './burst.ts'
import { LINK_ECHO_WIRE_BYTES, LINK_ECHOES, LINK_ROUGH_ECHOES, MAX_LINK_STREAMS } from './constants.ts'
import { echoReply, took } from './messages.ts'
import type { MeasuringTurn } from './turn.ts'

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
  /** The peer says that it had too little of its processors meanwhile. */
  isStarved: boolean
}

/** Measures the link to a peer on a stream of its own, which ends with `until`; `roughly` as `measureRate` has it. */
export async function measureLink(
  transport: Transport,
  turn: MeasuringTurn,
  peerId: string,
  { until, roughly }: { until: AbortSignal; roughly: boolean | undefined }
): Promise<LinkMeasurement> {
  const messages = await openLinkStream(transport, peerId, until)
  return await turn.during(messages, until, async () => {
    const measurement = await measureOn(messages, peerId, { turn, roughly })
    await messages.close()
    return measurement
  })
}

/** A stream on which a peer is asked about the link, to be ended with `until`. */
export async function openLinkStream(
  transport: Transport,
  peerId: string,
  until: AbortSignal,
  onBytes = () => {}
): Promise<JsonStream> {
  const stream = await transport.newStream(peerId, transport.protocols.links, {
    signal: AbortSignal.any([until, AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)]),
    maxOutboundStreams: MAX_LINK_STREAMS
  })
  return new JsonStream(stream, {
    onBytes: () => {
      transport.touch(peerId)
      onBytes()
    }
  })
}

async function measureOn(
  messages: JsonStream,
  peerId: string,
  { turn, roughly = false }: { turn: MeasuringTurn; roughly: boolean | undefined }
): Promise<LinkMeasurement> {
  const waits = { timeoutMs: REQUEST_TIMEOUT_MS }
  const echoes = roughly ? LINK_ROUGH_ECHOES : LINK_ECHOES - 1
  let echoMs = Number.POSITIVE_INFINITY
  for (let i = 0; i < echoes; i++) echoMs = Math.min(echoMs, (await echoed(messages, peerId)).ms)
  let isBegun = false
  const request = async (type: 'take' | 'give', bytes: number) => {
    if (turn.interrupted) throw new RemoteError(peerId, isBegun ? 'interrupted' : 'busy', 'this node is busy')
    isBegun = true
    await messages.send({ type, bytes })
  }
  const sent = async (bytes: number) => {
    await request('take', bytes)
    await sendBurst(messages, bytes)
    const { bytes: arrived, ms } = await messages.read(took, waits)
    return { bytes: Math.min(arrived, bytes), ms }
  }
  const received = async (bytes: number) => {
    await request('give', bytes)
    return await timeBurst(messages, bytes)
  }
  const out = await measureRate(echoMs, sent, { roughly })
  const back = await measureRate(echoMs, received, { roughly })
  const { isStarved } = await echoed(messages, peerId).catch(error => {
    // A peer that says so after all bursts has cost what a measurement costs.
    throw error instanceof RemoteError ? new RemoteError(peerId, 'interrupted', error.message) : error
  })
  const echoBits = 8 * LINK_ECHO_WIRE_BYTES
  return {
    outMbps: out.mbps,
    inMbps: back.mbps,
    rttMs: Math.max(0, echoMs - echoBits / (out.mbps * 1000) - echoBits / (back.mbps * 1000)),
    spread: Math.max(out.spread, back.spread),
    cost: out.cost + back.cost,
    isStarved
  }
}

/**
 * One echo.
 *
 * @param fields of the request, besides its type
 * @returns what it took, and whether the peer was starved since the stream was opened, as far as it says
 */
export async function echoed(
  messages: JsonStream,
  peerId: string,
  fields: { glance?: true } = {}
): Promise<{ ms: number; isStarved: boolean }> {
  const startMs = performance.now()
  await messages.send({ type: 'echo', ...fields })
  const reply = await messages.read(echoReply, { timeoutMs: REQUEST_TIMEOUT_MS })
  if (reply.type === 'busy') throw new RemoteError(peerId, 'busy', 'the peer is busy')
  if (reply.type === 'refused') throw new RemoteError(peerId, 'refused', reply.reason)
  return { ms: performance.now() - startMs, isStarved: reply.starved === true }
}

import { CHUNK_BYTES, OPEN_STREAM_TIMEOUT_MS } from '../constants.ts'
import { InvalidMessageError, PeerLostError, RemoteError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import { closeStream, sendBytes } from '../stream.ts'
import { messageOf } from '../text.ts'
import type { Transport } from '../transport.ts'
import { passedBytes } from '../young-garbage.ts'
import {
  CREDIT_MESSAGE_BYTES,
  MAX_BLOB_BYTES,
  MAX_WEIGHT_STREAMS,
  WEIGHT_STALL_TIMEOUT_MS
} from './constants.ts'
import { Credit, type WeightLink } from './credit.ts'
import { weightsReply } from './messages.ts'
import { Pace } from './pace.ts'

export interface FetchOptions {
  /** Byte to start at; what was received before a break need not come again. */
  offset?: number
  /** Size of the whole blob; a peer that announces another one is refused before a byte is taken. */
  expectedBytes?: number
  /** The largest size taken, where it is not known. */
  maxBytes?: number
  /** What is known of the link to the peer: how much is requested ahead. */
  link?: WeightLink
  /** The caller takes the bytes slower than they could come: how fast they do says nothing of the link. @default false */
  isPaced?: boolean
  signal?: AbortSignal
}

/** The client's side of `WeightsService.fetch`. */
export async function* fetchBlob(
  transport: Transport,
  came: (bytes: number) => void,
  peerId: string,
  sha256: string,
  { offset = 0, signal, link = { rttMs: 1 }, expectedBytes, maxBytes = MAX_BLOB_BYTES }: FetchOptions = {}
): AsyncGenerator<Uint8Array> {
  const timeout = AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)
  const stream = await transport.newStream(peerId, transport.protocols.weights, {
    signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
    maxOutboundStreams: MAX_WEIGHT_STREAMS
  })
  const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
  const waits = { timeoutMs: WEIGHT_STALL_TIMEOUT_MS, ...(signal && { signal }) }
  try {
    let isSenderQuiet = false
    const isQuiet = () => isSenderQuiet && link.isQuiet?.() === true
    const credit = new Credit({ ...link, isQuiet })
    await messages.send({ sha256, offset, credit: credit.initial })
    const head = await messages.read(weightsReply, waits)
    if (head.type === 'failed') throw new RemoteError(peerId, head.code, head.reason)
    if (head.bytes > maxBytes || head.bytes !== (expectedBytes ?? head.bytes)) {
      throw new InvalidMessageError(
        `${head.bytes} bytes were announced, not ${expectedBytes ?? `<= ${maxBytes}`}`
      )
    }
    isSenderQuiet = head.quiet === true
    const pace = new Pace(link)
    let left = head.bytes - offset
    while (left > 0) {
      const askedMs = performance.now()
      const bytes = await messages.reader.readSome(Math.min(left, CHUNK_BYTES), waits)
      if (bytes === null) throw new Error(`it ended ${left} bytes early`)
      left -= bytes.byteLength
      pace.arrived(bytes.byteLength, performance.now() - askedMs)
      came(bytes.byteLength)
      passedBytes(bytes.byteLength)
      yield bytes
      const grant = credit.consumed(bytes.byteLength, left)
      if (grant > 0) {
        const message = Buffer.allocUnsafe(CREDIT_MESSAGE_BYTES)
        message.writeUInt32BE(grant)
        await sendBytes(stream, message)
      }
    }
    await closeStream(stream)
  } catch (error) {
    if (error instanceof RemoteError || signal?.aborted) throw error
    throw new PeerLostError(
      peerId,
      `fetching ${sha256.slice(0, 12)} from ${peerId} broke: ${messageOf(error)}`,
      {
        cause: error
      }
    )
  } finally {
    if (stream.status === 'open') stream.abort(new Error('the fetch ended'))
  }
}

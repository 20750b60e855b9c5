import type { Stream } from '@libp2p/interface'
import {
  CHUNK_BYTES,
  MAX_BLOB_BYTES,
  MAX_WEIGHT_CREDIT_BYTES,
  MAX_WEIGHT_PIECE_BYTES,
  MAX_WEIGHT_SERVES_PER_PEER,
  MAX_WEIGHT_STREAMS,
  MIN_WEIGHT_PIECE_BYTES,
  OPEN_STREAM_TIMEOUT_MS,
  WEIGHT_PIECES_PER_WINDOW,
  WEIGHT_STALL_TIMEOUT_MS,
  WEIGHTS_PROTOCOL
} from '../constants.ts'
import { InvalidMessageError, PeerLostError, RemoteError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import { closeStream, sendBytes } from '../stream.ts'
import { messageOf, plainText } from '../text.ts'
import type { Transport } from '../transport.ts'
import { passedBytes } from '../young-garbage.ts'
import { Credit, type WeightLink } from './credit.ts'
import { weightsReply, weightsRequest } from './messages.ts'
import { Pace } from './pace.ts'

/** Credit comes back as four bytes, big endian: how many more bytes may be under way. */
const CREDIT_MESSAGE_BYTES = 4

export interface WeightsHandlers {
  /** A blob of the store, or null where this node has none of that name. */
  open(sha256: string): Promise<{ bytes: number; stream(offset: number): AsyncIterable<Uint8Array> } | null>
}

export interface FetchOptions {
  /** Where to start; what was received before a break need not come again. */
  offset?: number
  /** Size of the whole blob; a peer that announces another one is refused before a byte is taken. */
  expectedBytes?: number
  /** Where the size is not known: the largest one taken. */
  maxBytes?: number
  /** What is known of the link to the peer: how much is requested ahead. */
  link?: WeightLink
  signal?: AbortSignal
}

export interface WeightsService {
  /**
   * Fetches a blob from a peer, from `offset` on. The bytes are unverified: whoever stores them checks their SHA-256.
   * Nothing more is requested than the consumer takes.
   *
   * @throws {RemoteError} code `absent`, `busy` or `internal`, {PeerLostError} when the peer breaks off.
   */
  fetch(peerId: string, sha256: string, options?: FetchOptions): AsyncGenerator<Uint8Array>
  readonly counters: Readonly<{ weightBytesSent: number; weightBytesReceived: number }>
  stop(): Promise<void>
}

export async function createWeightsService(
  transport: Transport,
  handlers: WeightsHandlers
): Promise<WeightsService> {
  const counters = { weightBytesSent: 0, weightBytesReceived: 0 }
  const serving = new Map<string, number>()
  const streams = new Set<Stream>()

  const serve = async (stream: Stream, peerId: string): Promise<void> => {
    const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    const fail = (code: string, reason: string) =>
      messages.send({ type: 'failed', code, reason: plainText(reason) }).then(() => messages.close())
    const running = serving.get(peerId) ?? 0
    serving.set(peerId, running + 1)
    streams.add(stream)
    try {
      const { sha256, offset, credit } = await messages.read(weightsRequest, {
        timeoutMs: WEIGHT_STALL_TIMEOUT_MS
      })
      if (running >= MAX_WEIGHT_SERVES_PER_PEER) return await fail('busy', 'too many fetches at once')
      const blob = await handlers.open(sha256)
      if (blob === null || offset > blob.bytes)
        return await fail('absent', `no blob ${sha256.slice(0, 12)} here`)
      await messages.send({ type: 'blob', bytes: blob.bytes })
      await sendUnderCredit(messages, blob.stream(offset), credit)
      await messages.close()
    } catch (error) {
      stream.abort(error instanceof Error ? error : new Error(String(error)))
    } finally {
      streams.delete(stream)
      const left = serving.get(peerId)! - 1
      if (left === 0) serving.delete(peerId)
      else serving.set(peerId, left)
    }
  }

  const sendUnderCredit = async (
    { stream, reader }: JsonStream,
    bytes: AsyncIterable<Uint8Array>,
    initial: number
  ): Promise<void> => {
    const pieceBytes = Math.min(
      MAX_WEIGHT_PIECE_BYTES,
      Math.max(MIN_WEIGHT_PIECE_BYTES, Math.ceil(initial / WEIGHT_PIECES_PER_WINDOW))
    )
    let credit = initial
    for await (const chunk of bytes) {
      for (let offset = 0; offset < chunk.byteLength; ) {
        while (credit === 0 || reader.bufferedBytes >= CREDIT_MESSAGE_BYTES) {
          const grant = await reader.read(CREDIT_MESSAGE_BYTES, { timeoutMs: WEIGHT_STALL_TIMEOUT_MS })
          credit += Buffer.from(grant).readUInt32BE()
          if (credit > MAX_WEIGHT_CREDIT_BYTES)
            throw new InvalidMessageError(`a credit of ${credit} bytes is too large`)
        }
        const piece = chunk.subarray(offset, offset + Math.min(pieceBytes, credit))
        await sendBytes(stream, piece)
        credit -= piece.byteLength
        offset += piece.byteLength
        counters.weightBytesSent += piece.byteLength
        passedBytes(piece.byteLength)
      }
    }
  }

  async function* fetch(
    peerId: string,
    sha256: string,
    { offset = 0, signal, link = { rttMs: 1 }, expectedBytes, maxBytes = MAX_BLOB_BYTES }: FetchOptions = {}
  ): AsyncGenerator<Uint8Array> {
    const timeout = AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)
    const stream = await transport.newStream(peerId, WEIGHTS_PROTOCOL, {
      signal: signal ? AbortSignal.any([signal, timeout]) : timeout,
      maxOutboundStreams: MAX_WEIGHT_STREAMS
    })
    const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    const waits = { timeoutMs: WEIGHT_STALL_TIMEOUT_MS, ...(signal && { signal }) }
    try {
      const credit = new Credit(link)
      await messages.send({ sha256, offset, credit: credit.initial })
      const head = await messages.read(weightsReply, waits)
      if (head.type === 'failed') throw new RemoteError(peerId, head.code, plainText(head.reason))
      if (head.bytes > maxBytes || head.bytes !== (expectedBytes ?? head.bytes)) {
        throw new InvalidMessageError(
          `${head.bytes} bytes were announced, not ${expectedBytes ?? `<= ${maxBytes}`}`
        )
      }
      const pace = new Pace(link)
      let left = head.bytes - offset
      while (left > 0) {
        const askedMs = performance.now()
        const bytes = await messages.reader.readSome(Math.min(left, CHUNK_BYTES), waits)
        if (bytes === null) throw new Error(`it ended ${left} bytes early`)
        left -= bytes.byteLength
        pace.arrived(bytes.byteLength, performance.now() - askedMs)
        counters.weightBytesReceived += bytes.byteLength
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

  const unhandle = await transport.handle(WEIGHTS_PROTOCOL, (stream, peerId) => void serve(stream, peerId), {
    maxInboundStreams: MAX_WEIGHT_STREAMS
  })
  return {
    fetch,
    counters,
    async stop() {
      await unhandle()
      for (const stream of streams) stream.abort(new Error('the node stops'))
    }
  }
}

import type { Stream } from '@libp2p/interface'
import { logger } from '../../models/log.ts'
import { InvalidMessageError, NotUnderstoodError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import { sendBytes } from '../stream.ts'
import { plainText } from '../text.ts'
import type { Transport } from '../transport.ts'
import { passedBytes } from '../young-garbage.ts'
import type { WeightsCode } from './codes.ts'
import {
  CREDIT_MESSAGE_BYTES,
  MAX_WEIGHT_CREDIT_BYTES,
  MAX_WEIGHT_PIECE_BYTES,
  MAX_WEIGHT_SERVES_PER_PEER,
  MAX_WEIGHT_STREAMS,
  MIN_WEIGHT_PIECE_BYTES,
  WEIGHT_PIECES_PER_WINDOW,
  WEIGHT_STALL_TIMEOUT_MS
} from './constants.ts'
import { weightsRequest } from './messages.ts'

const log = logger('edgeshard:weights')

export interface WeightsHandlers {
  /** A blob of the store, or null where this node has none of that name. */
  open(sha256: string): Promise<{ bytes: number; stream(offset: number): AsyncIterable<Uint8Array> } | null>
  /** True while no tokens pass through this node. @default never */
  isQuiet?(): boolean
}

/** Sends blobs to the peers that ask for them, each under the credit that its receiver gives. */
export async function serveWeights(
  transport: Transport,
  handlers: WeightsHandlers,
  counters: { weightBytesSent: number }
): Promise<{ stop(): Promise<void> }> {
  const serving = new Map<string, number>()
  const streams = new Set<Stream>()

  const serve = async (stream: Stream, peerId: string): Promise<void> => {
    const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    const fail = (code: WeightsCode, reason: string) =>
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
      const quiet = handlers.isQuiet?.() === true
      await messages.send({ type: 'blob', bytes: blob.bytes, ...(quiet && { quiet }) })
      await sendUnderCredit(messages, blob.stream(offset), credit)
      await messages.close()
    } catch (error) {
      if (error instanceof NotUnderstoodError)
        await fail('internal', error.message).catch(
          log.passOver('a refusal was not taken; its stream ends', { peerId })
        )
      log.passOver('serving weights ended early; the peer asks again where it stopped', { peerId })(error)
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

  const unhandle = await transport.handle(
    transport.protocols.weights,
    (stream, peerId) => void serve(stream, peerId),
    { maxInboundStreams: MAX_WEIGHT_STREAMS }
  )
  return {
    async stop() {
      await unhandle()
      for (const stream of streams) stream.abort(new Error('the node stops'))
    }
  }
}

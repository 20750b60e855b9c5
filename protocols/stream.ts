import type { Stream } from '@libp2p/interface'
import type { Uint8ArrayList } from 'uint8arraylist'
import { CHUNK_BYTES, SEND_STALL_TIMEOUT_MS } from './constants.ts'
import { DeadlineError, StreamEndedError } from './errors.ts'

/**
 * Waits until a stream takes bytes again. Replaces `stream.onDrain()`, which after its first use returns at once and
 * so lets the send queue grow without bound.
 *
 * @throws {StreamEndedError} when the stream closes, {DeadlineError} when it takes nothing for `timeoutMs`.
 */
export async function drained(stream: Stream, timeoutMs = SEND_STALL_TIMEOUT_MS): Promise<void> {
  while (stream.writableNeedsDrain && stream.writeStatus === 'writable') {
    await new Promise<void>((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer)
        stream.removeEventListener('drain', onDrain)
        stream.removeEventListener('close', onClose)
        act()
      }
      const onDrain = () => settle(resolve)
      const onClose = () => settle(() => reject(new StreamEndedError('the stream closed while sending')))
      const timer = setTimeout(
        () => settle(() => reject(new DeadlineError(`the peer took no byte for ${timeoutMs} ms`))),
        timeoutMs
      )
      stream.addEventListener('drain', onDrain)
      stream.addEventListener('close', onClose)
    })
  }
  if (stream.writeStatus !== 'writable') throw new StreamEndedError(`the stream is ${stream.writeStatus}`)
}

/**
 * Sends bytes in chunks, without copying them, as fast as the stream takes them. The bytes must not change until the
 * promise resolves. Calls on one stream must not overlap.
 */
export async function sendBytes(stream: Stream, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.byteLength; offset += CHUNK_BYTES) {
    const more = write(stream, bytes.subarray(offset, offset + CHUNK_BYTES))
    if (!more) await drained(stream)
  }
}

/** One `send`, with the library's own errors turned into ours. */
export function write(stream: Stream, bytes: Uint8Array | Uint8ArrayList): boolean {
  if (stream.writeStatus !== 'writable') throw new StreamEndedError(`the stream is ${stream.writeStatus}`)
  return stream.send(bytes)
}

/** Closes the writing side without waiting longer than the deadline; a stream that cannot be closed is reset. */
export async function closeStream(stream: Stream, timeoutMs = 1000): Promise<void> {
  try {
    await stream.close({ signal: AbortSignal.timeout(timeoutMs) })
  } catch (error) {
    stream.abort(error instanceof Error ? error : new Error('the stream did not close'))
  }
}

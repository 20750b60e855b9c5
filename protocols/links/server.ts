import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { LimitExceededError, NotUnderstoodError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { sendBurst, timeBurst } from './burst.ts'
import { LINK_ECHOES, MAX_LINK_BYTES_PER_STREAM, MAX_LINK_STREAMS } from './constants.ts'
import { linkRequest } from './messages.ts'
import type { MeasuringTurn } from './turn.ts'

/** Takes part in the measurements of peers, one at a time. */
export async function serveLinks(
  transport: Transport,
  turn: MeasuringTurn,
  { timeoutMs }: { timeoutMs: number }
): Promise<{ stop(): Promise<void> }> {
  /** The peer served last waits as long as that took, so that one alone cannot keep this node from measuring. */
  let served = { peerId: '', untilMs: 0 }

  const serve = async (messages: JsonStream, peerId: string): Promise<void> => {
    const startMs = performance.now()
    if (turn.taken || (served.peerId === peerId && startMs < served.untilMs)) {
      await messages.send({ type: 'busy' })
      return await messages.close()
    }
    try {
      await turn.take(() =>
        turn.during(messages, AbortSignal.timeout(timeoutMs), () => reply(messages, turn))
      )
    } finally {
      served = { peerId, untilMs: 2 * performance.now() - startMs }
    }
  }

  const stop = await transport.handle(
    transport.protocols.links,
    (stream, peerId) => {
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      serve(messages, peerId).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_LINK_STREAMS }
  )
  return { stop }
}

/** Ends with the stream, by its end or by the deadline. */
async function reply(messages: JsonStream, turn: MeasuringTurn): Promise<void> {
  let echoes = 0
  let spent = 0
  for (;;) {
    const wanted = await messages.read(linkRequest, { timeoutMs: REQUEST_TIMEOUT_MS }).catch(async error => {
      if (error instanceof NotUnderstoodError) await messages.send({ type: 'refused', reason: error.message })
      throw error
    })
    if (wanted.type === 'echo') {
      if (++echoes > LINK_ECHOES) throw new LimitExceededError('echoes that do not end')
      await messages.send({ type: 'echo' })
      continue
    }
    if (turn.interrupted) throw new Error('tokens flow')
    spent += wanted.bytes
    if (spent > MAX_LINK_BYTES_PER_STREAM) throw new LimitExceededError('a measurement that does not end')
    if (wanted.type === 'give') await sendBurst(messages, wanted.bytes)
    else await messages.send({ type: 'took', ...(await timeBurst(messages, wanted.bytes)) })
  }
}

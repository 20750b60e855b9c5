import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { NotUnderstoodError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { MAX_MEMBERSHIP_STREAMS } from './constants.ts'
import { type MembershipChange, type MembershipReply, membershipChange } from './messages.ts'

export interface MembershipHandlers {
  /** A member announces a change; `adopted` when this node has it now, or had it already. */
  onChange(peerId: string, change: MembershipChange): Promise<MembershipReply>
}

/** Serves members that announce a change: one message, one reply, and the stream ends. */
export async function serveMembership(
  transport: Transport,
  handlers: MembershipHandlers
): Promise<{ stop(): Promise<void> }> {
  const reply = async (messages: JsonStream, peerId: string): Promise<void> => {
    const news = await messages
      .read(membershipChange, { timeoutMs: REQUEST_TIMEOUT_MS })
      .catch(async error => {
        if (error instanceof NotUnderstoodError)
          await messages.send({ type: 'refused', reason: error.message })
        throw error
      })
    await messages.send(await handlers.onChange(peerId, news))
    await messages.close()
  }
  const stop = await transport.handle(
    transport.protocols.membership,
    (stream, peerId) => {
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      reply(messages, peerId).catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_MEMBERSHIP_STREAMS }
  )
  return { stop }
}

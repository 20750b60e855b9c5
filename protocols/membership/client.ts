import { REQUEST_TIMEOUT_MS } from '../constants.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { type MembershipChange, type MembershipReply, membershipReply } from './messages.ts'

/** Tells one peer of a change, on a stream of its own; resolves to what the peer says to it. */
export async function tellChange(
  transport: Transport,
  peerId: string,
  change: MembershipChange
): Promise<MembershipReply> {
  const messages = new JsonStream(await transport.newStream(peerId, transport.protocols.membership))
  try {
    await messages.send(change)
    const reply = await messages.read(membershipReply, { timeoutMs: REQUEST_TIMEOUT_MS })
    await messages.close()
    return reply
  } catch (error) {
    messages.abort(error as Error)
    throw error
  }
}

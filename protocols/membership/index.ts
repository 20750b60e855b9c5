/**
 * The membership protocol: hands a change of the secret or the ban list from member to member. A node that adopts it
 * answers `adopted` and tells its own peers, so the news reaches everybody who is there and nobody who is banned.
 *
 * @example
 * ```ts
 * const membership = await createMembershipService(host, { onRotation: (peerId, news) => rotation.adopt(news) })
 * const { type } = await membership.tell(peerId, { epoch: 2, secret, banned: [] })
 * ```
 */
import { MAX_MEMBERSHIP_STREAMS, MEMBERSHIP_PROTOCOL, REQUEST_TIMEOUT_MS } from '../constants.ts'
import { JsonStream } from '../json-stream.ts'
import type { Transport } from '../transport.ts'
import { type Rotation, type RotationReply, rotation, rotationReply } from './messages.ts'

export type { Rotation, RotationReply }

export interface MembershipHandlers {
  /** A member announces a change; `adopted` when this node has it now, or had it already. */
  onRotation(peerId: string, rotation: Rotation): Promise<RotationReply>
}

export interface MembershipService {
  /** What the peer says to it. Throws when it cannot be reached. */
  tell(peerId: string, rotation: Rotation): Promise<RotationReply>
  stop(): Promise<void>
}

export async function createMembershipService(
  transport: Transport,
  handlers: MembershipHandlers
): Promise<MembershipService> {
  const timeoutMs = REQUEST_TIMEOUT_MS
  const unhandle = await transport.handle(
    MEMBERSHIP_PROTOCOL,
    (stream, peerId) => {
      const messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
      const answer = async () => {
        const news = await messages.read(rotation, { timeoutMs })
        await messages.send(await handlers.onRotation(peerId, news))
        await messages.close()
      }
      answer().catch((error: Error) => messages.abort(error))
    },
    { maxInboundStreams: MAX_MEMBERSHIP_STREAMS }
  )
  return {
    async tell(peerId, news) {
      const messages = new JsonStream(await transport.newStream(peerId, MEMBERSHIP_PROTOCOL))
      try {
        await messages.send(news)
        const reply = await messages.read(rotationReply, { timeoutMs })
        await messages.close()
        return reply
      } catch (error) {
        messages.abort(error as Error)
        throw error
      }
    },
    stop: unhandle
  }
}

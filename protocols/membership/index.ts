/**
 * The membership protocol: a peer proves that it was admitted, a device with a ticket is admitted, and what members sign
 * about each other, or a new secret, goes from member to member. All that is said is signed; what it means is the
 * handlers' to know.
 *
 * @example
 * ```ts
 * const membership = await createMembershipService(host, members)
 * const meeting = await membership.meet(peerId)
 * if (meeting.type === 'refused') console.error(meeting.refusal.reason)
 * ```
 */
import type { Transport } from '../transport.ts'
import { type Meeting, meet, tellRotation } from './client.ts'
import type { RotateReply } from './messages.ts'
import { type MembershipHandlers, serveMembership } from './server.ts'
import type { Rotation } from './statement.ts'

export { type Admission, type Meeting, redeem } from './client.ts'
export type { MembershipCode } from './codes.ts'
export type { Admitted, Hello, Redeem, Refusal, RotateReply } from './messages.ts'
export type { MembershipHandlers } from './server.ts'
export * from './statement.ts'

export interface MembershipService {
  /** Proves this node to a peer, judges the peer, and makes the sets of both the same. @throws {PeerLostError} */
  meet(peerId: string): Promise<Meeting>
  /** Tells a peer a new secret; resolves to its reply. @throws {PeerLostError} when it cannot be reached */
  tell(peerId: string, rotation: Rotation): Promise<RotateReply>
  stop(): Promise<void>
}

export async function createMembershipService(
  transport: Transport,
  handlers: MembershipHandlers
): Promise<MembershipService> {
  const { stop } = await serveMembership(transport, handlers)
  return {
    meet: peerId => meet(transport, peerId, handlers),
    tell: (peerId, rotation) => tellRotation(transport, peerId, rotation),
    stop
  }
}

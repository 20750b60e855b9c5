/**
 * The membership protocol: hands a change of the secret or the ban list from member to member. A node that adopts it
 * answers `adopted` and tells its own peers, so the news reaches every member that is there and none that is banned.
 *
 * @example
 * ```ts
 * const membership = await createMembershipService(host, { onChange: (peerId, news) => changes.onChange(peerId, news) })
 * const { type } = await membership.tell(peerId, { epoch: 2, secret, banned: [] })
 * ```
 */
import type { Transport } from '../transport.ts'
import { tellChange } from './client.ts'
import type { MembershipChange, MembershipReply } from './messages.ts'
import { type MembershipHandlers, serveMembership } from './server.ts'

export type { MembershipChange, MembershipReply } from './messages.ts'
export type { MembershipHandlers } from './server.ts'

export interface MembershipService {
  /** Tells a peer of a change; resolves to its reply. @throws {PeerLostError} when it cannot be reached */
  tell(peerId: string, change: MembershipChange): Promise<MembershipReply>
  stop(): Promise<void>
}

export async function createMembershipService(
  transport: Transport,
  handlers: MembershipHandlers
): Promise<MembershipService> {
  const { stop } = await serveMembership(transport, handlers)
  return { tell: (peerId, change) => tellChange(transport, peerId, change), stop }
}

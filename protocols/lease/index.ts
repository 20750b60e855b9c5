/**
 * The lease protocol: how a source recruits a stage. A stream per lease: `reserve` memory, `load` the shard (the
 * serving node fetches what it misses from the holders), `open` and `close` sessions, `relink` it to a neighbour that took
 * a lost one's place, `renew`, `release`. All policy
 * is in the handlers. When the stream ends the lease is released, so a source that dies leaves nothing behind.
 *
 * @example
 * ```ts
 * const leases = await createLeaseService(host, handlers)
 * const lease = await leases.connect(peerId)
 * const reply = await lease.reserve({ modelId, range: [1, 5], maxTokens: 512, sessions: 1 })
 * if (reply.type !== 'granted') throw new Error('the peer has no memory for it')
 * const { leaseId } = reply
 * await lease.load({ leaseId, holders, previous, next }, { timeoutMs: 600_000, onProgress })
 * await lease.open({ sessionId, leaseId, slot: 0, keepTokens: 0, withholdTokens: 0 })
 * ```
 */
import type { Transport } from '../transport.ts'
import { type CallOptions, LeaseClient } from './client.ts'
import { type LeaseHandlers, serveLeases } from './server.ts'

export type { LeaseClient } from './client.ts'
export {
  LEASE_CODES,
  type LeaseBlame,
  type LeaseCode,
  leaseBlame,
  leaseCode,
  RefusedError
} from './codes.ts'
export type {
  LoadProgress,
  LoadRequest,
  OpenReply,
  OpenRequest,
  RelinkRequest,
  RenewReply,
  ReserveReply,
  ReserveRequest,
  StandReply
} from './messages.ts'
export type { LeaseHandlers } from './server.ts'

export interface LeaseService {
  /**
   * Opens a lease stream to a peer. When it ends, from either side, the peer releases what was leased on it.
   *
   * @throws {PeerLostError} without a connection, or where the peer does not speak the protocol
   */
  connect(peerId: string, options?: CallOptions): Promise<LeaseClient>
  stop(): Promise<void>
}

export async function createLeaseService(
  transport: Transport,
  handlers: LeaseHandlers
): Promise<LeaseService> {
  const { stop } = await serveLeases(transport, handlers)
  return { connect: (peerId, options) => LeaseClient.connect(transport, peerId, options), stop }
}

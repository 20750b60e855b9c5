/**
 * The lease protocol: how a source recruits a stage. A stream per lease: `reserve` memory, `load` the shard (the
 * serving node fetches what it misses from the holders), `open` and `close` sessions, `relink` it to a neighbour that took
 * a lost one's place, `renew`, `release`. All policy
 * is in the handlers. When the stream ends the lease is released, so a source that dies leaves nothing behind.
 *
 * @example
 * ```ts
 * const lease = await LeaseClient.connect(host, peerId)
 * const reply = await lease.reserve({ modelId, range: [1, 5], maxTokens: 512, sessions: 1 })
 * if (reply.type === 'refused') throw new Error(`${reply.code}: ${reply.reason}`)
 * const { leaseId } = reply
 * await lease.load({ leaseId, holders, previous, next }, { timeoutMs: 600_000, onProgress })
 * await lease.open({ sessionId, leaseId, slot: 0, keepTokens: 0, withholdTokens: 0 })
 * ```
 */
export { LeaseClient } from './client.ts'
export type {
  LoadProgress,
  LoadRequest,
  OpenRequest,
  RelinkRequest,
  RenewReply,
  ReserveReply,
  ReserveRequest
} from './messages.ts'
export { type LeaseHandlers, serveLeases } from './server.ts'

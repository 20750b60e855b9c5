import type { Stream } from '@libp2p/interface'
import type { ProtocolIds } from './versions.ts'

/** Called with a stream that a peer opened. Listeners must be attached before it returns. */
export type StreamHandler = (stream: Stream, peerId: string) => void

/**
 * What the protocols need of a host: streams to and from peers whose ids the connection has authenticated.
 * node/mesh/host.ts implements it over libp2p.
 */
export interface Transport {
  /** This node's peer id. */
  readonly peerId: string
  /** Ids of the protocols that this node speaks. */
  readonly protocols: ProtocolIds
  /** Registers one handler for the versions of a protocol that are given; the returned function removes it. */
  handle(
    ids: readonly string[],
    handler: StreamHandler,
    options: { maxInboundStreams: number }
  ): Promise<() => Promise<void>>
  /**
   * Opens a stream on the existing connection to a peer, for the first of the ids that it speaks. `stream.protocol` says
   * which one that is.
   *
   * @throws {PeerLostError} without a connection, or where the peer speaks none of them.
   */
  newStream(
    peerId: string,
    ids: readonly string[],
    options?: { signal?: AbortSignal; maxOutboundStreams?: number }
  ): Promise<Stream>
  /** Notes that bytes came from a peer: it lives, whatever its heartbeat says. */
  touch(peerId: string): void
  /** Milliseconds since this node last gave the peer's connection anything to send; Infinity before that. */
  sinceSentMs(peerId: string): number
}

import type { LeaseHandlers } from '../../protocols/lease/index.ts'
import type { StageHandlers } from '../../protocols/stage/index.ts'
import type { ProtocolIds } from '../../protocols/versions.ts'
import type { WeightsHandlers } from '../../protocols/weights/index.ts'
import type { NodeRecord } from '../api.ts'
import type { MeshSize } from './neighbourhood.ts'

export interface MeshInit {
  /** Home directory: identity, mesh secret and remembered peers. The caller holds its lock. */
  home: string
  /** What the node says of itself at first; `update` changes it. */
  record: Omit<NodeRecord, 'peerId' | 'sequence' | 'leases' | 'links'>
  /** TCP port; when it is taken the next free one is used. @default 0: any */
  port?: number
  /** IP address to listen on. @default '0.0.0.0' */
  listen?: string
  /** Find peers on the local network. @default true */
  mdns?: boolean
  /** @default MDNS_INTERVAL_MS */
  mdnsIntervalMs?: number
  /**
   * Ids of the protocols that this node speaks, each protocol's newest first; given so that a test can be a node of
   * another version.
   *
   * @default PROTOCOLS
   */
  protocols?: ProtocolIds
  /** When a mesh is large; given so that a test needs no seventeen devices. @default MESH_SIZE */
  size?: MeshSize
  /** Addresses of peers to connect to: `HOST:PORT`, or multiaddrs with or without /p2p/<peer id>. */
  peers?: string[]
}

/** What a node does for its peers. */
export interface MeshHandlers {
  stage: StageHandlers
  leases: LeaseHandlers
  weights: WeightsHandlers
}

export interface MeshEvents {
  /** A peer is connected and has said what it is. */
  connect: [peerId: string, record: NodeRecord]
  /** The connection is gone: at once when it closed, after GONE_AFTER_MS of silence otherwise. */
  disconnect: [peerId: string, record: NodeRecord]
  /** Silent for SUSPECT_AFTER_MS, or no longer so. */
  suspect: [peerId: string, suspect: boolean]
  /** Something in the directory changed: a record, a connection. */
  change: []
  /** One line for people: why no peer is found, which one broke a protocol. */
  notice: [message: string]
}

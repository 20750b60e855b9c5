import type { EventEmitter } from 'node:events'
import type { BlobRef } from '../../models/manifest.ts'
import { SHA256 } from '../../models/sha256.ts'
import type { LeaseClient } from '../../protocols/lease/index.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import type { LinkState, NodeRecord } from '../api.ts'
import type { FetchBlobOptions } from '../weights/fetch.ts'
import type { KnownPeer } from './directory.ts'

export interface PeersEvents {
  /** The connection to a peer is gone. */
  lost: [peerId: string, reason: string]
  /** A peer has fallen silent, though its connection stands. */
  silent: [peerId: string]
  /** Something in the directory changed: a record, a connection. */
  change: []
}

/** One stream to a peer, on which leases are reserved, loaded and used; they end with it. */
export type LeaseStream = Pick<LeaseClient, keyof LeaseClient>

/**
 * All that source, serve and weights know of the mesh: its peers, how fast the links are, and the ways to a peer. The
 * real one is `MeshPeers`; tests simulate one whose clock, links and failures they choose.
 */
export interface Peers {
  readonly peerId: string
  /** This node's own record. */
  readonly self: NodeRecord
  /** Peers that have said what they are, connected or lately so, by name. */
  readonly known: readonly Pick<
    KnownPeer,
    'record' | 'state' | 'connected' | 'direct' | 'suspect' | 'rttMs' | 'lastSeenMs'
  >[]
  /** Every direction between connected peers, this node included, that one of its ends has measured. */
  readonly links: LinkState[]
  /** Pairs of connected peers that are not connected to each other: neither can hand hidden states on to the other. */
  readonly apart: readonly (readonly [string, string])[]
  readonly events: EventEmitter<PeersEvents>
  /** Ids of the peers that are silent or not connected any more: what they have to say is not waited for. */
  suspects(): Set<string>
  /** A peer's name, or a short form of its id. */
  nameOf(peerId: string): string
  /** Measures round trips and links to these peers that were never measured; takes a moment after a connect, else none. */
  measure(peerIds: readonly string[], options: { signal: AbortSignal }): Promise<void>
  /**
   * Looks roughly at round trips and links to these peers of which nothing is known, also while tokens flow; takes a moment after a
   * connect, else none, and no longer than a second.
   */
  glance(peerIds: readonly string[], options: { signal: AbortSignal }): Promise<void>
  /**
   * Opens a lease stream to a peer.
   *
   * @throws {PeerLostError} when it cannot be reached, {RemoteError} when it does not speak the protocol
   */
  lease(peerId: string, options: { signal: AbortSignal }): Promise<LeaseStream>
  /**
   * Sends a frame on the stage stream to a peer; resolves when its memory may be used again.
   *
   * @throws {PeerLostError} when the peer cannot be reached, {LimitExceededError} when too much is queued for it
   */
  send(peerId: string, frame: StageFrame): Promise<void>
  /**
   * Fetches a blob from the holders in turn, going on where one broke off. `put` stores and verifies it.
   *
   * @throws {BlobUnavailableError} naming every holder with its reason
   */
  fetchBlob(
    ref: BlobRef,
    holders: readonly string[],
    put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
    options: Omit<FetchBlobOptions, 'link'>
  ): Promise<void>
  /** A blob of unknown size, such as a manifest by its model's id, from one peer. Not verified. */
  fetchRaw(
    peerId: string,
    sha256: string,
    options: { maxBytes: number; signal: AbortSignal }
  ): AsyncIterable<Uint8Array>
}

/** The records of this node and of the connected peers, its own first. */
export function connectedRecords({ self, known }: Pick<Peers, 'self' | 'known'>): NodeRecord[] {
  return [self, ...known.flatMap(({ connected, record }) => (connected ? [record] : []))]
}

/** Connected peers that hold layers of a model. */
export function holdersOf(peers: Pick<Peers, 'self' | 'known'>, modelId: string): string[] {
  const [, ...others] = connectedRecords(peers)
  return others
    .filter(({ models }) => models.some(({ id, layers }) => id === modelId && layers.length > 0))
    .map(({ peerId }) => peerId)
}

/** The name that a peer gives a model, else the one that any other gives it: a source need not hold a layer of it. */
export function modelNameOf(
  peers: Pick<Peers, 'self' | 'known'>,
  modelId: string,
  peerId = peers.self.peerId
): string {
  const records = connectedRecords(peers)
  const asked = records.filter(record => record.peerId === peerId)
  const models = [...asked, ...records].flatMap(record => record.models)
  return models.find(model => model.id === modelId && isNamed(model))?.name ?? modelId.slice(0, 12)
}

/** False for what a device only caches: it tells the id in place of a name, and no id names another model. */
export function isNamed({ name }: { name: string }): boolean {
  return !SHA256.test(name)
}

/** Whether this node, or any peer that is or was lately there, has a name for a model. */
export function isCalled({ self, known }: Pick<Peers, 'self' | 'known'>, modelId: string): boolean {
  return [self, ...known.map(({ record }) => record)].some(({ models }) =>
    models.some(model => model.id === modelId && isNamed(model))
  )
}

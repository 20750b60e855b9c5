import type { LayerRange } from '../models/layers.ts'
import type { NodeRecord } from '../protocols/directory/record.ts'
import type { Objective, PlannedStage, Predicted } from './api.ts'

/** One direction of a link in the mesh's matrix. */
export interface LinkState {
  from: string
  to: string
  mbps: number
  rttMs: number
  spread: number
  ageMs: number
  /** True where `mbps` was seen of traffic that came over it anyway; else it was measured by bursts. */
  observed?: boolean | undefined
  /** True where one of the two devices had too little of its processors when it was measured. */
  starved?: boolean | undefined
}

/** Totals since the node started. */
export interface NodeCounters {
  framesSent: number
  framesReceived: number
  /** Bytes of hidden states alone, without headers or encryption. */
  hiddenBytesSent: number
  hiddenBytesReceived: number
  weightBytesSent: number
  weightBytesReceived: number
}

/**
 * How it is with a peer: `connected`, `suspect` (connected, but silent for longer than a heartbeat explains), `gone`, or
 * `incompatible` (it speaks another version of a protocol, so neither can do anything for the other).
 */
export type PeerState = 'connected' | 'suspect' | 'gone' | 'incompatible'

/** A member that others are connected to and this node is not: something between the two blocks it. */
export interface UnreachedPeer {
  peerId: string
  /** The name that the others have for it. */
  name: string
  addresses: string[]
  /** Peer ids of the members that are connected to it. */
  knownFrom: string[]
}

/** `/api/mesh`: the directory as this node sees it. */
export interface MeshState {
  self: NodeRecord & { addresses: string[]; counters: NodeCounters }
  peers: (NodeRecord & {
    addresses: string[]
    state: PeerState
    /** Why it is in another state than `connected`, and what to do where something can be done. */
    reason?: string
    /** True where `state` is `connected` or `suspect`. */
    connected: boolean
    /** True where `state` is `suspect`. */
    suspect: boolean
    /** False where the two have no connection now, as in a mesh of more than 16, and others say how it is. */
    direct?: boolean
    rttMs: number | null
    lastSeenMs: number
  })[]
  /** Members that were dialled in vain on the word of others. */
  unreached: UnreachedPeer[]
  /** Devices that run with this node's own identity: one home is a copy of the other. */
  copies: { name: string | undefined; address: string }[]
  links: LinkState[]
  leases: LeaseState[]
  /** Weights on their way to this node. */
  fetches: FetchState[]
  /** What this node has placed as a source and keeps warm. */
  deployments: DeploymentState[]
  /** Sessions that begin here or have a stage here. */
  sessions: number
  /** Frames that came for sessions which were closed already, since the start; one of several counts for each. */
  droppedFrames: number
  /** What conversations had in KV caches when others took their slots; absent where nothing of it is kept here (`up --prefix-cache`). */
  prefixCache?: PrefixCacheState
}

/** How full the prefix cache is, and how often it was of use since the start. */
export interface PrefixCacheState {
  /** Bytes that it holds in memory at most. */
  budgetBytes: number
  heldBytes: number
  /** Bytes in files, which memory had no room for. */
  fileBytes: number
  /** Conversations that were stored. */
  stored: number
  /** Conversations that were asked for, by where they were found; `gone`: they had made room. */
  asked: { memory: number; file: number; gone: number }
}

export interface DeploymentState {
  modelId: string
  objective: Objective
  plan: { stages: PlannedStage[] }
  predicted: Predicted
  /** Sequences that fit at once, in how many micro-batches, and how many are open. */
  slots: number
  microBatches: number
  sessions: number
  /** Stages that stand by for it, loaded and leased beside those of the plan; absent: none do. */
  standby?: { stages: PlannedStage[] }
}

/** Files of a model that this node is getting from its peers. */
export interface FetchState {
  modelId: string
  /** Bytes so far, and in all. */
  done: number
  total: number
  /** Since it began. */
  mbps: number
}

export interface LeaseState {
  id: string
  /** The source that holds the lease. */
  source: string
  modelId: string
  layers: LayerRange
  bytes: number
  sessions: number
  expiresInMs: number
}

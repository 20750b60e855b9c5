import type { Runtime } from '../../models/runtime/runtime.ts'
import type { Peers } from '../mesh/peers.ts'
import { LeaseTable, type LeaseTableInit } from './lease-table.ts'
import { PrefixCache } from './prefix-cache.ts'
import type { PrefixFiles } from './prefix-files.ts'
import { Sessions } from './sessions.ts'
import { ShardPool } from './shard-pool.ts'

/** What both roles of a node work with: its memory as leases, the weights that are loaded, the sessions that run. */
export interface StageRoom {
  readonly leases: LeaseTable
  readonly shards: ShardPool
  readonly sessions: Sessions
  /** What conversations had in KV caches when others took their slots. */
  readonly prefixes: PrefixCache
}

export interface StageRoomInit extends LeaseTableInit {
  /** Folder that holds the layers' files under their SHA-256. */
  blobsDir: string
  /** Memory for what conversations had in KV caches when others took their slots, beside the leases' budget. @default 0 */
  prefixCacheBytes?: number
  /** Files for what has no room in it. @default none */
  prefixFiles?: PrefixFiles | undefined
}

export function createStageRoom(
  { runtime, peers }: { runtime: Pick<Runtime, 'load'>; peers: Pick<Peers, 'send' | 'events'> },
  { blobsDir, prefixCacheBytes = 0, prefixFiles, ...init }: StageRoomInit
): StageRoom {
  const leases = new LeaseTable(init)
  return {
    leases,
    shards: new ShardPool({ runtime, blobsDir, leases }),
    sessions: new Sessions(peers),
    prefixes: new PrefixCache({ bytes: prefixCacheBytes, files: prefixFiles })
  }
}

import type { Runtime } from '../../models/runtime/runtime.ts'
import type { Peers } from '../mesh/peers.ts'
import { LeaseTable, type LeaseTableInit } from './lease-table.ts'
import { Leaving } from './leaving.ts'
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
  /** The memory of another processor of this device, for stages that name it; absent: there is one memory for all. */
  readonly beside?: BesideRoom | undefined
}

/** The room of a processor that computes beside the one that is used: memory and weights of its own, the sessions of all. */
export interface BesideRoom extends Omit<StageRoom, 'beside'> {
  /** Its kind, as the record names it. */
  readonly processor: string
}

export interface BesideInit {
  processor: string
  runtime: Pick<Runtime, 'load'>
  budgetBytes: number
}

export interface StageRoomInit extends LeaseTableInit {
  /** Folder that holds the layers' files under their SHA-256. */
  blobsDir: string
  /** Memory for what conversations had in KV caches when others took their slots, beside the leases' budget. @default 0 */
  prefixCacheBytes?: number
  /** Files for what has no room in it. @default none */
  prefixFiles?: PrefixFiles | undefined
  /** Another processor, with memory of its own. @default none */
  beside?: BesideInit | undefined
}

export function createStageRoom(
  { runtime, peers }: { runtime: Pick<Runtime, 'load'>; peers: Pick<Peers, 'send' | 'events'> },
  { blobsDir, prefixCacheBytes = 0, prefixFiles, beside, ...init }: StageRoomInit
): StageRoom {
  const shared = {
    sessions: new Sessions(peers),
    prefixes: new PrefixCache({ bytes: prefixCacheBytes, files: prefixFiles })
  }
  // What leaves the one processor may have been promised on the other already: together they have one memory.
  const leaving = new Leaving()
  const roomFor = (runtime: Pick<Runtime, 'load'>, budgetBytes: number) => {
    const leases = new LeaseTable({ ...init, budgetBytes })
    return { ...shared, leases, shards: new ShardPool({ runtime, blobsDir, leases, leaving }) }
  }
  const own = roomFor(runtime, init.budgetBytes)
  if (beside === undefined) return own
  return {
    ...own,
    beside: { ...roomFor(beside.runtime, beside.budgetBytes), processor: beside.processor }
  }
}

/** The room of a processor, as a source names it: that of the device where it names none, or none that computes beside another. */
export function roomOf(room: StageRoom, processor: string | undefined): StageRoom {
  const { beside } = room
  return beside !== undefined && beside.processor === processor ? beside : room
}

/** All rooms of a device. */
export function roomsOf(room: StageRoom): StageRoom[] {
  return room.beside === undefined ? [room] : [room, room.beside]
}

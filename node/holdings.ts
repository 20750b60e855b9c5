import { join } from 'node:path'
import { logger } from '../models/log.ts'
import type { ModelStore } from '../models/store/store.ts'
import { Announcer } from './announcer.ts'
import { DEFAULT_PREFETCH_BYTES } from './constants.ts'
import type { NodeInit } from './index.ts'
import type { Mesh } from './mesh/index.ts'
import { modelNameOf, type Peers } from './mesh/peers.ts'
import type { SaidProcessors } from './processor/said-processors.ts'
import { AllLeases } from './stage/all-leases.ts'
import type { LoadAhead } from './stage/load-ahead.ts'
import type { StageRoom } from './stage/room.ts'
import { WarmShards } from './stage/warm-shards.ts'
import { Fetches } from './weights/fetches.ts'
import { ModelCache } from './weights/model-cache.ts'
import { PrefetchedFiles } from './weights/prefetched-files.ts'
import { Prefetches } from './weights/prefetches.ts'
import { Weights } from './weights/weights.ts'

const log = logger('edgeshard:node')

export interface HoldingsComponents {
  mesh: Pick<Mesh, 'update'>
  peers: Peers
  store: ModelStore
  room: Pick<StageRoom, 'leases' | 'shards' | 'beside'>
  /** What is said of processors; undefined on a device that computes on its CPU. */
  processors?: SaidProcessors | undefined
  ahead: Pick<LoadAhead, 'doubt'>
  /** Whether an answer passes through this device, or weights are loaded: nothing is prefetched meanwhile. */
  isCarrying: () => boolean
  /** One line for people. */
  onNotice: (message: string) => void
  /** The same, of what went wrong. */
  onTrouble: (message: string) => void
  now: () => number
}

/** What this device has of models, how more of them comes to it, and that the peers are told. */
export interface Holdings {
  fetches: Fetches
  weights: Weights
  prefetches: Prefetches
  /** Tells what has changed of the device's processors. */
  announce(): void
  /** Nothing comes any more, and nothing is told. */
  stop(): void
}

export async function openHoldings(
  { mesh, peers, store, room, processors, ahead, isCarrying, onNotice, onTrouble, now }: HoldingsComponents,
  { home, prefetchBytes = DEFAULT_PREFETCH_BYTES }: Pick<NodeInit, 'home' | 'prefetchBytes'>
): Promise<Holdings> {
  // Called only when all of these are there.
  const announce = () => announcer.announce()
  const { leases, beside } = room
  const all = new AllLeases(beside === undefined ? [leases] : [leases, beside.leases])
  const cache = new ModelCache({
    store,
    leases: all,
    onEvicted: () => {
      announce()
      prefetches
        .forgetGone()
        .catch(log.passOver('what was prefetched was not counted anew; the next look does it'))
    }
  })
  const fetches = new Fetches({ now, onNotice, nameOf: modelId => modelNameOf(peers, modelId) })
  const weights = new Weights({
    ...{ store, peers, cache, fetches },
    onStored: announce,
    onMissing: files => ahead.doubt(files)
  })
  const prefetches = new Prefetches(
    {
      ...{ peers, store, weights, cache, leases: all, isCarrying },
      files: new PrefetchedFiles(join(home, 'prefetched.json')),
      warm: new WarmShards({ room, isCarrying }),
      onChange: announce
    },
    { quotaBytes: prefetchBytes, now: Date.now }
  )
  const announcer = new Announcer({
    ...{ mesh, store, leases, processors, prefetches },
    besideLeases: beside?.leases,
    onNotice: onTrouble
  })
  await prefetches.start()
  const unwatch = store.watch(announce)
  announce()
  const stop = () => {
    unwatch()
    prefetches.stop()
  }
  return { fetches, weights, prefetches, announce, stop }
}

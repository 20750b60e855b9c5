import { availableParallelism, cpus, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import { logger } from '../models/log.ts'
import { startRuntime } from '../models/runtime/client.ts'
import { ModelStore } from '../models/store/store.ts'
import { Announcer, heldModels } from './announcer.ts'
import { Answers } from './answers.ts'
import type { EdgeNode } from './api.ts'
import { BUNDLED_DIR } from './bundled.ts'
import {
  DEFAULT_MEMORY_SHARE,
  DEFAULT_PORT,
  LEASE_EXPIRY_CHECK_MS,
  LEASE_TERM_MS,
  SPOT_CHECK_EVERY
} from './constants.ts'
import { lockHome } from './home-lock.ts'
import type { NodeInit } from './index.ts'
import { ensureLogs } from './log.ts'
import { createMesh } from './mesh/index.ts'
import { MeshPeers } from './mesh/mesh-peers.ts'
import { modelNameOf } from './mesh/peers.ts'
import { PlanThread } from './plan/thread.ts'
import { Profiler } from './profile/profiler.ts'
import { RunningNode } from './running-node.ts'
import { Serving } from './serve/serving.ts'
import { Catalog } from './source/placement/catalog.ts'
import { Corrections } from './source/placement/corrections.ts'
import { Deployments } from './source/placement/deployments.ts'
import { Distrust } from './source/placement/distrust.ts'
import { Planning } from './source/placement/planning.ts'
import { Recruiter } from './source/placement/recruit.ts'
import { SpotChecks } from './source/verify/spot-checks.ts'
import { createStageRoom } from './stage/room.ts'
import { VERSION } from './version.ts'
import { Fetches } from './weights/fetches.ts'
import { blobsOf, Weights } from './weights/weights.ts'

const log = logger('edgeshard:node')
const meshLog = logger('edgeshard:mesh')

type PeerEvent = Parameters<NonNullable<NodeInit['onPeer']>>[0]['event']

const PEER_WORDS: Readonly<Record<PeerEvent, string>> = {
  'peer:connect': 'peer connected',
  'peer:disconnect': 'peer gone',
  'peer:suspect': 'peer silent',
  'peer:recovered': 'peer speaks again'
}

/** Starts what a node is made of, in order; what was started is stopped again when a later part fails. */
export async function startNode(init: NodeInit): Promise<EdgeNode> {
  ensureLogs()
  const undo: (() => Promise<void>)[] = [await lockHome(init.home)]
  try {
    return await compose(init, undo)
  } catch (error) {
    for (const step of undo)
      await step().catch(log.passOver('stopping a part failed; what failed first is thrown'))
    throw error
  }
}

/** @param undo what `stop` does, in order; every part that starts puts its own in front */
async function compose(init: NodeInit, undo: (() => Promise<void>)[]): Promise<EdgeNode> {
  const now = () => performance.now()
  const onNotice = (message: string) => init.onNotice?.(message)
  const stopping = new AbortController()

  const store = await ModelStore.open(join(init.home, 'store'))
  if (init.bundled !== false && (await store.list()).length === 0) await store.adopt(BUNDLED_DIR)
  const threads = init.threads ?? Math.max(1, Math.floor(availableParallelism() / 2))
  const runtime = await startRuntime({ threads })
  undo.unshift(() => runtime.stop())
  const budgetBytes = init.memoryBytes ?? Math.floor(totalmem() * DEFAULT_MEMORY_SHARE)
  const mesh = await createMesh({
    home: init.home,
    port: init.port ?? DEFAULT_PORT,
    mdns: init.mdns ?? true,
    peers: init.peers ?? [],
    record: {
      name: init.name ?? hostname(),
      version: VERSION,
      hardware: {
        platform: process.platform,
        arch: process.arch,
        cpu: cpus()[0]?.model ?? 'unknown',
        cores: availableParallelism(),
        totalMemoryBytes: totalmem()
      },
      memory: { budgetBytes, freeBytes: budgetBytes },
      models: await heldModels(store),
      profiles: {}
    }
  })
  undo.unshift(() => mesh.stop())

  const peers = new MeshPeers(mesh)
  const { blobsDir } = store
  const room = createStageRoom({ runtime, peers }, { blobsDir, budgetBytes, termMs: LEASE_TERM_MS, now })
  const { leases, sessions } = room
  const onTrouble = (message: string) => {
    log.warn(message)
    onNotice(message)
  }
  const announcer = new Announcer({ mesh, store, leases, onNotice: onTrouble })
  const unwatch = store.watch(() => announcer.announce())
  undo.unshift(async () => unwatch())
  const fetches = new Fetches({ now, onNotice, nameOf: modelId => modelNameOf(peers, modelId) })
  const weights = new Weights({ store, peers, fetches, onStored: () => announcer.announce() })
  const serving = new Serving({ peers, room, weights })

  const catalog = new Catalog({ store, peers, weights })
  const profiler = new Profiler({ runtime, store, mesh, sessions })
  const planner = new PlanThread()
  const planning = new Planning({ peers, leases, planner, corrections: new Corrections(now), now })
  const distrust = new Distrust({ now, onNotice: onTrouble })
  const recruiter = new Recruiter({ peers, room, weights, distrust, now })
  const deployments = new Deployments({ peers, room, planning, recruiter, profiler, distrust })
  const every = init.verify ?? SPOT_CHECK_EVERY
  const checks = new SpotChecks({ peerId: mesh.peerId, room, weights, distrust }, { every, now })

  const node = new RunningNode({
    mesh,
    room,
    serving,
    fetches,
    catalog,
    deployments,
    checks,
    answers: new Answers(),
    stopping,
    onNotice,
    stop: async () => {
      for (const step of undo)
        await step().catch(log.passOver('stopping a part failed; the others are stopped'))
      log.info('node stopped', { peerId: mesh.peerId })
    }
  })
  mesh.events.on('notice', message => {
    meshLog.warn(message)
    onNotice(message)
  })
  const onPeer = (event: PeerEvent, peerId: string, name: string) => {
    meshLog.info(PEER_WORDS[event], { peerId, name })
    init.onPeer?.({ event, peerId, name })
  }
  mesh.events.on('connect', (peerId, { name }) => onPeer('peer:connect', peerId, name))
  mesh.events.on('disconnect', (peerId, { name }) => onPeer('peer:disconnect', peerId, name))
  mesh.events.on('suspect', (peerId, suspect) =>
    onPeer(suspect ? 'peer:suspect' : 'peer:recovered', peerId, mesh.nameOf(peerId))
  )
  await mesh.start({ stage: sessions, leases: serving, weights: blobsOf(store) })
  const expiry = setInterval(
    () => void serving.expire().catch(log.passOver('ending expired leases failed; the next check does it')),
    LEASE_EXPIRY_CHECK_MS
  )
  undo.unshift(
    async () => clearInterval(expiry),
    () => checks.stop(),
    () => deployments.close(),
    () => planner.stop(),
    () => catalog.close()
  )
  // Times of the models at hand, so that the others can plan with this device; prompts need not wait for it.
  void profiler
    .start({ signal: stopping.signal, onNotice: onTrouble })
    .catch(log.passOver('timing the models at hand ended; a prompt times its model itself'))
  log.info('node started', { peerId: mesh.peerId, version: VERSION, budgetBytes, threads })
  return node
}

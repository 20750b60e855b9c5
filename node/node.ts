import { rm } from 'node:fs/promises'
import { availableParallelism, cpus, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import { Grammars } from '../models/grammar/grammars.ts'
import { logger } from '../models/log.ts'
import { startRuntime } from '../models/runtime/client.ts'
import { ModelStore } from '../models/store/store.ts'
import type { Tokenizer } from '../models/tokenizer/tokenizer.ts'
import { Announcer, heldModels } from './announcer.ts'
import { Answers } from './answers.ts'
import type { EdgeNode } from './api.ts'
import { forgetApiFile } from './api-file.ts'
import { BUNDLED_DIR } from './bundled.ts'
import {
  DEFAULT_MEMORY_SHARE,
  DEFAULT_PORT,
  DEFAULT_PREFETCH_BYTES,
  LEASE_EXPIRY_CHECK_MS,
  LEASE_TERM_MS,
  PROFILE_DOUBT_FACTOR,
  SPOT_CHECK_EVERY
} from './constants.ts'
import { Drain } from './drain.ts'
import { endlessIfLong, FOREVER_MS } from './duration.ts'
import { RequestError, StoppingError } from './errors.ts'
import { prepareFirstPrompt } from './first-prompt.ts'
import { isOpenToOthers } from './home-folder.ts'
import { lockHome } from './home-lock.ts'
import type { NodeInit } from './index.ts'
import { ensureLogs } from './log.ts'
import { MeshPeers } from './mesh/mesh-peers.ts'
import { modelNameOf } from './mesh/peers.ts'
import { PlanThread } from './plan/thread.ts'
import type { LayersKind } from './processor/gpu-refusals.ts'
import { Processors } from './processor/index.ts'
import { lowerWhenShort } from './processor/shortage.ts'
import { ProfileFiles } from './profile/profile-files.ts'
import { thisMachine } from './profile/profile-key.ts'
import { Profiler } from './profile/profiler.ts'
import { ModelReadiness } from './readiness.ts'
import { RunningNode } from './running-node.ts'
import { Serving } from './serve/serving.ts'
import { Acceptances } from './source/draft/acceptances.ts'
import { AnswerPool } from './source/draft/answer-pool.ts'
import { DraftModels } from './source/draft/draft-models.ts'
import { Catalog } from './source/placement/catalog.ts'
import { Corrections } from './source/placement/corrections.ts'
import { Deployments } from './source/placement/deployments.ts'
import { Distrust } from './source/placement/distrust.ts'
import { Planning } from './source/placement/planning.ts'
import { Recruiter } from './source/placement/recruit.ts'
import { SettledFiles } from './source/placement/settled-files.ts'
import { Drafts } from './source/request/drafts.ts'
import { SpotChecks } from './source/verify/spot-checks.ts'
import { LoadAhead } from './stage/load-ahead.ts'
import { PrefixFiles } from './stage/prefix-files.ts'
import { createStageRoom } from './stage/room.ts'
import { VERSION } from './version.ts'
import { Fetches } from './weights/fetches.ts'
import { ModelCache } from './weights/model-cache.ts'
import { PrefetchedFiles } from './weights/prefetched-files.ts'
import { Prefetches } from './weights/prefetches.ts'
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

/** True when answers took other times here than the profile says: with what else ran, or because it is wrong. */
function isContradicted(corrections: Corrections, peerId: string, modelId: string): boolean {
  const { single } = corrections.computeFactors({ peerId, modelId, borrowed: false })
  return single > PROFILE_DOUBT_FACTOR || single < 1 / PROFILE_DOUBT_FACTOR
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

/** What an earlier process has left there is removed in any case: nobody can read it. */
async function openPrefixFiles({
  home,
  prefixCacheDiskBytes = 0
}: NodeInit): Promise<PrefixFiles | undefined> {
  const dir = join(home, 'prefix-cache')
  if (prefixCacheDiskBytes > 0) return await PrefixFiles.open(dir, prefixCacheDiskBytes)
  await rm(dir, { recursive: true, force: true })
  return undefined
}

/** @throws {RequestError} where nothing would be left for stages */
function besidesPrefixes(memoryBytes: number, prefixCacheBytes: number): number {
  if (prefixCacheBytes < memoryBytes) return memoryBytes - prefixCacheBytes
  throw new RequestError(
    `a prefix cache of ${prefixCacheBytes} bytes leaves nothing of ${memoryBytes} bytes for stages`
  )
}

async function openStore({ home, bundled }: NodeInit): Promise<ModelStore> {
  const store = await ModelStore.open(join(home, 'store'))
  if (bundled !== false) await store.adopt(BUNDLED_DIR, { again: bundled === true })
  return store
}

/** Both, or the error of one, with `undo` done to the first. */
async function both<A, B>(
  one: Promise<A>,
  other: Promise<B>,
  undo: (one: A) => Promise<void>
): Promise<[A, B]> {
  try {
    return await Promise.all([one, other])
  } catch (error) {
    await one.then(undo, log.passOver('the other part has failed too; what failed first is thrown'))
    throw error
  }
}

async function closeAll(tokenizers: ReadonlyMap<string, Promise<Tokenizer>>): Promise<void> {
  const loaded = await Promise.allSettled(tokenizers.values())
  await Promise.all(loaded.map(result => (result.status === 'fulfilled' ? result.value.close() : undefined)))
}

/** @param undo what `stop` does, in order; every part that starts puts its own in front */
async function compose(init: NodeInit, undo: (() => Promise<void>)[]): Promise<EdgeNode> {
  const now = () => performance.now()
  const onNotice = (message: string) => init.onNotice?.(message)
  const stopping = new AbortController()

  await forgetApiFile(init.home)
  if (await isOpenToOthers(init.home)) {
    onNotice(`${init.home} can be looked into by other users of this device: chmod 700 ${init.home}`)
  }
  const threads = init.threads ?? Math.max(1, Math.floor(availableParallelism() / 2))
  const [runtime, store] = await both(startRuntime({ threads }), openStore(init), runtime => runtime.stop())
  let profiler: Profiler | undefined
  undo.unshift(async () => {
    await runtime.stop()
    // Who has stopped a node may remove its home.
    await profiler?.settled()
  })
  const { home, peers: known = [], device: choice = 'cpu' } = init
  const processors = await Processors.open({ home, choice, cpu: runtime, threads, now, onNotice })
  undo.unshift(() => processors.stop())
  const memoryBytes = init.memoryBytes ?? Math.floor(totalmem() * DEFAULT_MEMORY_SHARE)
  const gpuBytes = processors.driver === undefined ? undefined : (init.gpuMemoryBytes ?? processors.gpuBytes)
  // Both at most: where the GPU fails the CPU takes its place.
  const prefixCacheBytes = init.prefixCacheBytes ?? 0
  const budgetBytes = Math.min(besidesPrefixes(memoryBytes, prefixCacheBytes), gpuBytes ?? memoryBytes)
  const ahead = new LoadAhead(processors.runtime)
  const tokenizers =
    init.firstPrompt === undefined
      ? new Map<string, Promise<Tokenizer>>()
      : await prepareFirstPrompt({ home, store, ahead, budgetBytes, peers: known }, init.firstPrompt.model)
  undo.unshift(() => closeAll(tokenizers))
  // Only now: while libp2p is loaded, which takes this thread longer than all else, others work on the first prompt.
  const { createMesh } = await import('./mesh/index.ts')
  const cpu = cpus()[0]?.model ?? 'unknown'
  const mesh = await createMesh({
    home,
    port: init.port ?? DEFAULT_PORT,
    mdns: init.mdns ?? true,
    peers: known,
    record: {
      name: init.name ?? hostname(),
      version: VERSION,
      hardware: {
        platform: process.platform,
        arch: process.arch,
        cpu,
        cores: availableParallelism(),
        totalMemoryBytes: totalmem()
      },
      memory: { budgetBytes, freeBytes: budgetBytes },
      models: await heldModels(store),
      processors: processors.processors(cpu),
      profiles: {}
    }
  })
  processors.runtime.events.on('change', () => {
    mesh.update({ processors: processors.processors(cpu) })
    const unread = log.passOver('known times of the new processor were not read; they are measured anew')
    profiler?.processorChanged().catch(unread)
  })
  undo.unshift(() => mesh.stop())

  const peers = new MeshPeers(mesh)
  const { blobsDir } = store
  const prefixFiles = await openPrefixFiles(init)
  if (prefixFiles !== undefined) undo.unshift(() => prefixFiles.close())
  const room = createStageRoom(
    { runtime: ahead, peers },
    { blobsDir, budgetBytes, prefixCacheBytes, prefixFiles, termMs: LEASE_TERM_MS, now }
  )
  const { leases, sessions } = room
  lowerWhenShort(processors.runtime, leases, onNotice)
  const onTrouble = (message: string) => {
    log.warn(message)
    onNotice(message)
  }
  const answers = new Answers()
  const announce = () => announcer.announce()
  const unwatch = store.watch(announce)
  undo.unshift(async () => unwatch())
  const fetches = new Fetches({ now, onNotice, nameOf: modelId => modelNameOf(peers, modelId) })
  const cache = new ModelCache({
    store,
    leases,
    onEvicted: () => {
      announce()
      void prefetches.forgetGone()
    }
  })
  const weights = new Weights({
    store,
    peers,
    cache,
    fetches,
    onStored: announce,
    onMissing: files => ahead.doubt(files)
  })
  const prefetches = new Prefetches(
    {
      ...{ peers, store, weights, cache, leases },
      files: new PrefetchedFiles(join(home, 'prefetched.json')),
      isCarrying: () => answers.running + sessions.open + room.shards.loading > 0,
      onChange: announce
    },
    { quotaBytes: init.prefetchBytes ?? DEFAULT_PREFETCH_BYTES, now: Date.now }
  )
  const announcer = new Announcer({ mesh, store, leases, prefetches, onNotice: onTrouble })
  await prefetches.start()
  announce()
  const serving = new Serving({ peers, room, weights, prefetches })

  const profilesDir = join(home, 'profiles')
  const catalog = new Catalog({ store, peers, weights, onNotice: onTrouble }, tokenizers)
  const settled = await SettledFiles.read({ dir: profilesDir, wallMs: Date.now })
  const corrections = new Corrections(now, settled)
  const machine = thisMachine()
  const computing = (layers: LayersKind) =>
    processors.runtime.processorOf(layers) === 'cpu'
      ? machine
      : { ...machine, processor: `GPU, ${processors.driver}` }
  profiler = new Profiler({
    runtime: processors.runtime,
    store,
    mesh,
    files: new ProfileFiles(profilesDir, computing),
    threads,
    isBusy: () => answers.running + sessions.open + room.shards.loading > 0 || ahead.waits,
    freeBytes: () => leases.unheldBytes,
    isDoubted: modelId => isContradicted(corrections, mesh.peerId, modelId)
  })
  const planner = new PlanThread()
  const planning = new Planning({ peers, leases, planner, corrections, settled, profiler, now })
  const distrust = new Distrust({ now, onNotice: onTrouble })
  const recruiter = new Recruiter({ peers, room, weights, distrust, now })
  const keepAliveMs = endlessIfLong(init.keepAliveMs ?? FOREVER_MS)
  const deployments = new Deployments({
    peers,
    room,
    planning,
    recruiter,
    distrust,
    profiler,
    keepAliveMs
  })
  undo.unshift(async () => prefetches.stop())
  const every = init.verify ?? SPOT_CHECK_EVERY
  const checks = new SpotChecks({ peerId: mesh.peerId, room, weights, distrust }, { every, now })

  const draftModels = new DraftModels(
    { peerId: mesh.peerId, store, room },
    { named: init.draft, keepAliveMs, onNotice: onTrouble }
  )
  const acceptances = new Acceptances(profilesDir)
  const drafts = new Drafts(
    { pool: new AnswerPool(), models: draftModels, acceptances },
    init.speculate ?? (init.draft === undefined ? 'off' : 'auto')
  )

  const grammars = new Grammars()
  undo.unshift(async () => grammars.close(new StoppingError()))

  const node = new RunningNode({
    mesh,
    room,
    serving,
    fetches,
    catalog,
    deployments,
    drafts,
    grammars,
    checks,
    answers,
    readiness: new ModelReadiness({ catalog, deployments, now }),
    drain: new Drain({ mesh, peers, serving, answers }),
    exact: init.exact ?? false,
    standby: init.standby ?? false,
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
    () => draftModels.close(),
    () => deployments.close(),
    () => settled.write(),
    () => planner.stop(),
    () => catalog.close()
  )
  // Both take all processors: one behind the other. Most devices try nothing, and time their models at once; a node for one
  // prompt is gone before a GPU was tried, and would answer slowly meanwhile.
  const trying =
    init.firstPrompt === undefined
      ? processors
          .choose(store, { mostBytes: memoryBytes, signal: stopping.signal })
          .catch(log.passOver('the GPU was not tried; the next start does it'))
      : Promise.resolve()
  // Times of the models at hand, so that the others can plan with this device; prompts need not wait for it.
  const { signal } = stopping
  void trying
    .then(() => profiler?.start({ signal, onNotice: onTrouble }))
    .catch(log.passOver('timing the models at hand ended; a prompt times its model itself'))
  log.info('node started', { peerId: mesh.peerId, version: VERSION, budgetBytes, threads })
  return node
}

import { availableParallelism, cpus, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import { Grammars } from '../models/grammar/grammars.ts'
import { logger } from '../models/log.ts'
import { startRuntime } from '../models/runtime/client.ts'
import { ModelStore } from '../models/store/store.ts'
import type { Tokenizer } from '../models/tokenizer/tokenizer.ts'
import { heldModels } from './announcer.ts'
import { Answers } from './answers.ts'
import type { EdgeNode } from './api.ts'
import { forgetApiFile } from './api-file.ts'
import { BUNDLED_DIR } from './bundled.ts'
import {
  DEFAULT_PORT,
  LEASE_EXPIRY_CHECK_MS,
  LEASE_TERM_MS,
  PROFILE_DOUBT_FACTOR,
  SPOT_CHECK_EVERY
} from './constants.ts'
import { Drain } from './drain.ts'
import { endlessIfLong, FOREVER_MS } from './duration.ts'
import { StoppingError } from './errors.ts'
import { prepareFirstPrompt } from './first-prompt.ts'
import { type Holdings, openHoldings } from './holdings.ts'
import { isOpenToOthers } from './home-folder.ts'
import { lockHome } from './home-lock.ts'
import type { NodeInit } from './index.ts'
import { ensureLogs } from './log.ts'
import type { Mesh } from './mesh/index.ts'
import { MeshPeers } from './mesh/mesh-peers.ts'
import { PlanThread } from './plan/thread.ts'
import { memoryShares, openPrefixFiles } from './prefix-room.ts'
import type { LayersKind } from './processor/gpu-refusals.ts'
import { Processors } from './processor/index.ts'
import { memoriesOf } from './processor/memories.ts'
import { MemorySplit } from './processor/memory-split.ts'
import { lowerWhenShort } from './processor/shortage.ts'
import { ProfileFiles } from './profile/profile-files.ts'
import { thisMachine } from './profile/profile-key.ts'
import { Profiler } from './profile/profiler.ts'
import { BesideMesh, Profilers } from './profile/profilers.ts'
import { timeStage } from './profile/stage-probe.ts'
import { TimingTurns } from './profile/timing-turns.ts'
import { ModelReadiness } from './readiness.ts'
import { usedName } from './record-processors.ts'
import { RunningNode } from './running-node.ts'
import { Serving } from './serve/serving.ts'
import { Acceptances } from './source/draft/acceptances.ts'
import { AnswerPool } from './source/draft/answer-pool.ts'
import { DraftModels } from './source/draft/draft-models.ts'
import { Catalog } from './source/placement/catalog.ts'
import { Corrections, type Timed } from './source/placement/corrections.ts'
import { Deployments } from './source/placement/deployments.ts'
import { Distrust } from './source/placement/distrust.ts'
import { Planning } from './source/placement/planning.ts'
import { Recruiter } from './source/placement/recruit.ts'
import { SettledFiles } from './source/placement/settled-files.ts'
import { Drafts } from './source/request/drafts.ts'
import { SpotChecks } from './source/verify/spot-checks.ts'
import { LoadAhead } from './stage/load-ahead.ts'
import { createStageRoom, roomsOf } from './stage/room.ts'
import { VERSION } from './version.ts'
import { blobsOf } from './weights/weights.ts'

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
function isContradicted(corrections: Corrections, timed: Omit<Timed, 'borrowed'>): boolean {
  const { single } = corrections.computeFactors({ ...timed, borrowed: false })
  return single > PROFILE_DOUBT_FACTOR || single < 1 / PROFILE_DOUBT_FACTOR
}

/** Starts what a node is made of, in order; what was started is stopped again when a later part fails. */
export async function startNode(init: NodeInit): Promise<EdgeNode> {
  ensureLogs()
  const shares = memoryShares(init)
  const undo: (() => Promise<void>)[] = [await lockHome(init.home)]
  try {
    return await compose(init, shares, undo)
  } catch (error) {
    for (const step of undo)
      await step().catch(log.passOver('stopping a part failed; what failed first is thrown'))
    throw error
  }
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

/** Says who comes and goes, and what else the mesh has to say, in the log and to whoever runs the node. */
function tellOfMesh(mesh: Mesh, { onPeer, onNotice }: Pick<NodeInit, 'onPeer' | 'onNotice'>): void {
  const tell = (event: PeerEvent, peerId: string, name: string) => {
    meshLog.info(PEER_WORDS[event], { peerId, name })
    onPeer?.({ event, peerId, name })
  }
  mesh.events.on('notice', message => {
    meshLog.warn(message)
    onNotice?.(message)
  })
  mesh.events.on('connect', (peerId, { name }) => tell('peer:connect', peerId, name))
  mesh.events.on('disconnect', (peerId, { name }) => tell('peer:disconnect', peerId, name))
  mesh.events.on('suspect', (peerId, suspect) =>
    tell(suspect ? 'peer:suspect' : 'peer:recovered', peerId, mesh.nameOf(peerId))
  )
}

/** @param undo what `stop` does, in order; every part that starts puts its own in front */
async function compose(
  init: NodeInit,
  { memoryBytes, stageBytes, prefixCacheBytes }: ReturnType<typeof memoryShares>,
  undo: (() => Promise<void>)[]
): Promise<EdgeNode> {
  const now = () => performance.now()
  const onNotice = (message: string) => init.onNotice?.(message)
  const stopping = new AbortController()

  await forgetApiFile(init.home)
  if (await isOpenToOthers(init.home)) {
    onNotice(`${init.home} can be looked into by other users of this device: chmod 700 ${init.home}`)
  }
  const threads = init.threads ?? Math.max(1, Math.floor(availableParallelism() / 2))
  const [runtime, store] = await both(startRuntime({ threads }), openStore(init), runtime => runtime.stop())
  let profiler: Profilers | undefined
  let holdings: Holdings | undefined
  undo.unshift(async () => {
    await runtime.stop()
    // Who has stopped a node may remove its home.
    await profiler?.settled()
  })
  const { home, peers: known = [], device: choice = 'cpu' } = init
  const processors = await Processors.open({ home, choice, cpu: runtime, threads, now, onNotice })
  undo.unshift(() => processors.stop())
  const gpuBytes = processors.driver === undefined ? undefined : (init.gpuMemoryBytes ?? processors.gpuBytes)
  const { budgetBytes, besideBytes } = memoriesOf(stageBytes, gpuBytes)
  const ahead = new LoadAhead(processors.runtime)
  // As the catalog says, once there is one.
  let mayRest = (_modelId: string) => true
  const tokenizers =
    init.firstPrompt === undefined
      ? new Map<string, Promise<Tokenizer>>()
      : await prepareFirstPrompt(
          { home, store, ahead, budgetBytes, peers: known, mayRest: id => mayRest(id) },
          init.firstPrompt.model
        )
  undo.unshift(() => closeAll(tokenizers))
  // Only now: while libp2p is loaded, which takes this thread longer than all else, others work on the first prompt.
  const { createMesh } = await import('./mesh/index.ts')
  const cpu = cpus()[0]?.model ?? 'unknown'
  const said = processors.said(cpu)
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
      processors: said?.state,
      profiles: {}
    }
  })
  processors.runtime.events.on('change', () => {
    mesh.update({ processors: said?.state })
    holdings?.announce()
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
    {
      ...{ blobsDir, budgetBytes, prefixCacheBytes, prefixFiles, termMs: LEASE_TERM_MS, now },
      beside: besideBytes === undefined ? undefined : { processor: 'cpu', runtime, budgetBytes: besideBytes }
    }
  )
  const { leases, sessions, beside } = room
  if (said !== undefined && beside !== undefined) {
    said.besideLeases = beside.leases
    mesh.update({ processors: said.state })
  }
  const split =
    beside === undefined || besideBytes === undefined
      ? leases
      : new MemorySplit({
          runtime: processors.runtime,
          used: leases,
          beside: beside.leases,
          memories: { budgetBytes, besideBytes }
        })
  lowerWhenShort(processors.runtime, split, onNotice)
  const onTrouble = (message: string) => {
    log.warn(message)
    onNotice(message)
  }
  const answers = new Answers()
  const isCarrying = () =>
    answers.running + sessions.open + roomsOf(room).reduce((sum, { shards }) => sum + shards.loading, 0) > 0
  holdings = await openHoldings(
    { mesh, peers, store, room, processors: said, ahead, isCarrying, onNotice, onTrouble, now },
    init
  )
  const { fetches, weights, prefetches, stop } = holdings
  undo.unshift(async () => stop())
  const serving = new Serving({ peers, room, weights, prefetches })

  const profilesDir = join(home, 'profiles')
  const settled = await SettledFiles.read({ dir: profilesDir, wallMs: Date.now })
  const corrections = new Corrections(now, settled)
  const machine = thisMachine()
  const computing = (layers: LayersKind) =>
    processors.runtime.processorOf(layers) === 'cpu'
      ? machine
      : { ...machine, processor: `GPU, ${processors.driver}` }
  const isBusy = () => isCarrying() || ahead.waits || fetches.isAwaited
  const isDoubted = (modelId: string, processor?: string) =>
    isContradicted(corrections, { peerId: mesh.peerId, processor, modelId })
  const turns = new TimingTurns()
  const usedProfiler = new Profiler({
    ...{ runtime: processors.runtime, store, mesh, threads, turns, isBusy },
    timeStage: options => timeStage(processors.runtime, options),
    files: new ProfileFiles(profilesDir, computing),
    freeBytes: () => leases.unheldBytes,
    isDoubted: modelId => isDoubted(modelId, usedName(mesh.self, modelId))
  })
  const besideProfiler =
    said &&
    beside &&
    new Profiler({
      ...{ runtime, store, threads, turns, isBusy },
      mesh: new BesideMesh(mesh, said),
      files: new ProfileFiles(profilesDir),
      freeBytes: () => beside.leases.unheldBytes,
      isDoubted: modelId => isDoubted(modelId, beside.processor)
    })
  profiler = new Profilers(usedProfiler, besideProfiler)
  const planner = new PlanThread({ smallHere: true })
  const planning = new Planning({
    ...{ peers, leases, planner, corrections, settled, profiler, now },
    besideLeases: beside?.leases
  })
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
  const catalog = new Catalog(
    { ...{ store, peers, weights, deployments }, ownLoads: planning.ownLoads, onNotice: onTrouble },
    tokenizers
  )
  mayRest = id => catalog.mayRest(id)
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
  tellOfMesh(mesh, init)
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

import { createHash } from 'node:crypto'
import {
  type BlobRef,
  type Manifest,
  type ModelShape,
  modelId,
  serializeManifest
} from '../../../models/manifest.ts'
import { leaseBytes } from '../../../models/runtime/memory.ts'
import { randomManifest } from '../../../models/runtime/random-weights.ts'
import type { LinkState, NodeRecord } from '../../../node/api.ts'
import { LEASE_EXPIRY_CHECK_MS, LEASE_TERM_MS } from '../../../node/constants.ts'
import { plan } from '../../../node/plan/index.ts'
import { parseScenario } from '../../../node/plan/scenario.ts'
import { Serving } from '../../../node/serve/serving.ts'
import { Corrections } from '../../../node/source/placement/corrections.ts'
import { Deployments } from '../../../node/source/placement/deployments.ts'
import { Distrust } from '../../../node/source/placement/distrust.ts'
import { Planning, type PlanningComponents } from '../../../node/source/placement/planning.ts'
import { Recruiter } from '../../../node/source/placement/recruit.ts'
import { createStageRoom, roomsOf, type StageRoom } from '../../../node/stage/room.ts'
import { WarmShards } from '../../../node/stage/warm-shards.ts'
import { Fetches } from '../../../node/weights/fetches.ts'
import { ModelCache } from '../../../node/weights/model-cache.ts'
import { PrefetchedFiles } from '../../../node/weights/prefetched-files.ts'
import { Prefetches } from '../../../node/weights/prefetches.ts'
import { Weights } from '../../../node/weights/weights.ts'
import { GONE_AFTER_MS, SUSPECT_AFTER_MS } from '../../../protocols/directory/constants.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'
import { type DeviceSpeed, manifestIn, SimulatedRuntime, SimulatedStore } from './device.ts'
import { SimulatedPeers } from './peers.ts'

/** A model of five layers whose files are called by hashes, as peers ask for them. */
export function simulatedModel(name = 'model', shape: Partial<ModelShape> = {}): SimulatedModel {
  const random = randomManifest({ ...TINY_SHAPE, contextLength: 1024, ...shape }, undefined)
  const hashOf = (text: string) => createHash('sha256').update(text).digest('hex')
  const layers = random.layers.map((layer, i) => ({ ...layer, sha256: hashOf(`${name} ${i}`) }))
  const manifest = { ...random, layers }
  const bytes = serializeManifest(manifest)
  return { name, id: modelId(bytes), manifest, bytes }
}

export interface SimulatedModel {
  name: string
  id: string
  manifest: Manifest
  bytes: Uint8Array
}

export interface NodeOptions extends Partial<DeviceSpeed> {
  memoryBytes: number
  /** What it holds from the start, with every layer. */
  models?: SimulatedModel[]
  /** Time of one layer by its profile. @default 1 */
  decodeMs?: number
  /** The same of a prompt's token. @default a quarter of decodeMs */
  prefillMs?: number
  /** For what conversations had when others took their slots. @default 0 */
  prefixCacheBytes?: number
  /** Its CPU computes beside its GPU, in so much memory, and takes so long for a layer. */
  beside?: { memoryBytes: number; decodeMs?: number; prefillMs?: number } & Partial<DeviceSpeed>
  /** What weights may take of its disk that it keeps for losses. @default 0 */
  prefetchBytes?: number
}

/** One device: what every node is made of, over a simulated mesh, store and runtime. */
export class SimulatedNode {
  readonly id: string
  readonly mesh: SimulatedMesh
  readonly runtime: SimulatedRuntime
  /** What its CPU computes beside its GPU, where it has both. */
  readonly besideRuntime: SimulatedRuntime | undefined
  readonly store: SimulatedStore
  readonly peers: SimulatedPeers
  readonly room: StageRoom
  readonly weights: Weights
  readonly serving: Serving
  readonly prefetches: Prefetches
  /** What it has loaded for losses. */
  readonly warm: WarmShards
  /** What it says it takes for a layer. */
  decodeMs: number
  /** What it says computes its stages; undefined: its CPU. */
  processors: NodeRecord['processors']
  /** The same of its CPU, beside its GPU. */
  besideDecodeMs: number
  /** Whether it has timed the models. */
  timed = true
  /** Times of models that nobody asks for. */
  profiles: NodeRecord['profiles'] = {}
  /** What it says is free, where that is not the truth. */
  saysFreeBytes: number | undefined
  readonly notices: string[] = []
  readonly options: NodeOptions
  readonly #expiry: NodeJS.Timeout

  constructor(mesh: SimulatedMesh, id: string, options: NodeOptions, store = new SimulatedStore()) {
    const {
      memoryBytes,
      models = [],
      decodeMs = 1,
      prefixCacheBytes,
      prefetchBytes = 0,
      beside,
      prefillMs: _,
      ...speed
    } = options
    this.options = options
    this.mesh = mesh
    this.id = id
    this.decodeMs = decodeMs
    this.runtime = new SimulatedRuntime(speed)
    this.store = store
    this.besideRuntime = beside && new SimulatedRuntime(beside)
    this.besideDecodeMs = beside?.decodeMs ?? 1
    for (const { name, bytes } of models) this.store.hold(name, bytes)
    this.peers = new SimulatedPeers(this)
    const now = () => performance.now()
    this.room = createStageRoom(
      { runtime: this.runtime, peers: this.peers },
      {
        blobsDir: '',
        budgetBytes: memoryBytes,
        termMs: LEASE_TERM_MS,
        now,
        ...(prefixCacheBytes !== undefined && { prefixCacheBytes }),
        beside: beside && {
          processor: 'cpu',
          runtime: this.besideRuntime!,
          budgetBytes: beside.memoryBytes
        }
      }
    )
    const onNotice = (message: string) => void this.notices.push(message)
    const fetches = new Fetches({ now, onNotice, nameOf: id => id })
    const cache = new ModelCache({ store: this.store, leases: this.room.leases })
    this.weights = new Weights({ store: this.store, peers: this.peers, cache, fetches })
    const { peers, room, weights } = this
    const isCarrying = () => room.sessions.open > 0
    this.warm = new WarmShards({ room, isCarrying })
    const { warm } = this
    this.prefetches = new Prefetches(
      {
        ...{ peers, store, weights, cache, leases: room.leases, warm, isCarrying },
        files: new PrefetchedFiles()
      },
      { quotaBytes: prefetchBytes, now: Date.now }
    )
    this.serving = new Serving({ peers, room, weights, prefetches: this.prefetches })
    this.#expiry = setInterval(() => void this.serving.expire(), LEASE_EXPIRY_CHECK_MS)
  }

  /** Its process ends. */
  end(): void {
    clearInterval(this.#expiry)
    this.peers.events.removeAllListeners()
  }

  get record(): NodeRecord {
    const { leases, beside } = this.room
    const { store } = this
    const ofNone = [...store.brought].map(([id, { bytes }]) => ({ id, name: id, bytes }))
    const own = [...store.models].map(([id, { name, bytes }]) => ({ id, name, bytes }))
    const models = [...ofNone, ...own].map(({ id, name, bytes }) => ({
      id,
      name,
      layers: store.layersOf(manifestIn(bytes))
    }))
    return {
      peerId: this.id,
      name: this.id,
      version: '1',
      sequence: 1,
      hardware: {
        platform: 'linux',
        arch: 'x64',
        cpu: '',
        cores: 1,
        totalMemoryBytes: leases.budgetBytes + (beside?.leases.budgetBytes ?? 0)
      },
      memory: { budgetBytes: leases.budgetBytes, freeBytes: this.saysFreeBytes ?? leases.freeBytes },
      models: models.filter(({ layers }) => layers.length > 0),
      processors: this.processors ?? this.#both,
      leases: roomsOf(this.room)
        .flatMap(({ leases }) => leases.state(() => 0))
        .map(({ modelId, layers, source }) => ({ modelId, layers, source })),
      draining: this.serving.draining || undefined,
      prefetch: this.prefetches.state,
      profiles: { ...this.profiles, ...this.#profilesAt(this.decodeMs, this.options.prefillMs) },
      links: {}
    }
  }

  get #both(): NodeRecord['processors'] {
    const { beside } = this.room
    if (beside === undefined) return undefined
    const { budgetBytes, freeBytes } = beside.leases
    const own = {
      memory: { budgetBytes, freeBytes },
      profiles: this.#profilesAt(this.besideDecodeMs, this.options.beside?.prefillMs)
    }
    return [
      { kind: 'cpu', name: 'a processor', used: false, ...own },
      { kind: 'gpu', name: 'a card', used: true }
    ]
  }

  #profilesAt(decodeMs: number, prefillMsPerToken = decodeMs / 4): NodeRecord['profiles'] {
    const times = { decodeMs, prefillMsPerToken }
    return Object.fromEntries(
      (this.timed ? this.mesh.models : []).map(({ id }) => [
        id,
        { embedding: times, decoder: times, head: times }
      ])
    )
  }

  /** The source's role on this node. */
  source(over: Partial<PlanningComponents> = {}) {
    const { peers, room, weights } = this
    const now = () => performance.now()
    const planner: PlanningComponents['planner'] = {
      begin: () => {},
      solve: async (scenario, options) => plan(parseScenario(scenario), { ...options, explain: false })
    }
    const corrections = new Corrections(now)
    const profiler = { time: async () => {} }
    const planning = new Planning({
      peers,
      leases: room.leases,
      besideLeases: room.beside?.leases,
      planner,
      corrections,
      profiler,
      now,
      ...over
    })
    const distrust = new Distrust({ now, onNotice: message => void this.notices.push(message) })
    const recruiter = new Recruiter({ peers, room, weights, distrust, now })
    const deployments = new Deployments({ distrust, peers, room, planning, recruiter, profiler })
    return { planning, recruiter, deployments, distrust }
  }

  /** True when nothing of any session or lease is left on it. */
  get empty(): boolean {
    const leased = roomsOf(this.room).flatMap(({ leases }) => [
      ...leases.state(() => 0),
      ...Array(leases.waiting)
    ])
    const loaded = [this.runtime, this.besideRuntime].map(
      runtime => (runtime?.shards ?? 0) + (runtime?.batches ?? 0)
    )
    return leased.length + this.room.sessions.open + loaded.reduce((sum, count) => sum + count, 0) === 0
  }
}

/** Devices in one process, on links and by a clock that a test has in hand. */
export class SimulatedMesh {
  readonly nodes = new Map<string, SimulatedNode>()
  readonly models: SimulatedModel[]
  /** One way, of every message. */
  latencyMs = 1
  mbps = 1000
  /** Links that differ, as 'from to'. */
  readonly linkMbps = new Map<string, number>()
  /** Whether devices say whom they are not connected to. */
  tellsApart = true
  readonly #apart = new Set<string>()
  readonly #gone = new Set<string>()
  readonly #silent = new Set<string>()
  /** When each was last heard, of those that are gone or silent. */
  readonly #lastHeardMs = new Map<string, number>()
  /** Devices that are suspended, and what wakes them. */
  readonly #asleep = new Map<string, PromiseWithResolvers<void>>()
  /** Ways on which nothing arrives, as 'to from', and whether both ends have noticed. */
  readonly #deaf = new Map<string, { noticed: boolean }>()

  constructor(...models: SimulatedModel[]) {
    this.models = models
  }

  add(id: string, options: NodeOptions): SimulatedNode {
    const node = new SimulatedNode(this, id, options)
    this.nodes.set(id, node)
    this.change()
    return node
  }

  get(id: string): SimulatedNode {
    const node = this.nodes.get(id)
    if (node === undefined) throw new Error(`there is no node ${id}`)
    return node
  }

  isGone(id: string): boolean {
    return this.#gone.has(id) || !this.nodes.has(id)
  }

  isSilent(id: string): boolean {
    return this.#silent.has(id)
  }

  /** Time since one that is gone or silent was last heard; 0 of the others. */
  missedMs(id: string): number {
    const isMissed = this.isGone(id) || this.isSilent(id)
    return isMissed ? Date.now() - (this.#lastHeardMs.get(id) ?? Date.now()) : 0
  }

  /** Whether it is the process that there is of that device. */
  isRunning(node: SimulatedNode): boolean {
    return this.nodes.get(node.id) === node
  }

  /** Whether nothing arrives at a device that another one sends. */
  isDeaf(to: string, from: string): boolean {
    return this.#deaf.has(`${to} ${from}`)
  }

  /** Whether one of two devices has heard nothing of the other for a while, though they are connected. */
  isSuspect(a: string, b: string): boolean {
    return [`${a} ${b}`, `${b} ${a}`].some(way => this.#deaf.get(way)?.noticed === true)
  }

  /** Resolves when a device does not sleep any more. */
  async awake(id: string): Promise<void> {
    await this.#asleep.get(id)?.promise
  }

  /**
   * It is suspended for so long: what is asked of it meanwhile it does when it wakes, unless the others took it for gone before and
   * the connections to it broke.
   */
  async sleep(id: string, ms: number): Promise<void> {
    if (this.#asleep.has(id) || this.isGone(id) || this.isSilent(id)) return
    const waking = Promise.withResolvers<void>()
    this.#asleep.set(id, waking)
    const later = (atMs: number, act: () => void) =>
      setTimeout(() => {
        if (this.#asleep.get(id) === waking) act()
      }, atMs)
    if (ms > SUSPECT_AFTER_MS)
      later(SUSPECT_AFTER_MS, () => {
        this.#silent.add(id)
        this.change()
        for (const { peers } of this.#others(id)) peers.events.emit('silent', id)
      })
    if (ms > GONE_AFTER_MS) later(GONE_AFTER_MS, () => this.vanish(id))
    await new Promise(resolve => setTimeout(resolve, ms))
    if (this.#asleep.get(id) !== waking) return
    this.#asleep.delete(id)
    this.#silent.delete(id)
    // What was on its way was lost with the connections.
    if (!this.isGone(id)) waking.resolve()
    this.comeBack(id)
  }

  /**
   * What `from` sends does not arrive at `to` from now on. As nothing is acknowledged either, both take each other for silent, and then
   * for gone.
   */
  deafen(to: string, from: string): void {
    const way = `${to} ${from}`
    if (this.#deaf.has(way) || this.isApart(to, from)) return
    const said = { noticed: false }
    this.#deaf.set(way, said)
    const later = (atMs: number, act: () => void) =>
      setTimeout(() => {
        if (this.#deaf.get(way) === said && this.nodes.has(to) && this.nodes.has(from)) act()
      }, atMs)
    later(SUSPECT_AFTER_MS, () => {
      said.noticed = true
      this.change()
      this.get(to).peers.events.emit('silent', from)
      this.get(from).peers.events.emit('silent', to)
    })
    later(GONE_AFTER_MS, () => this.part(to, from))
  }

  /** It arrives again. */
  hear(to: string, from: string): void {
    if (this.#deaf.delete(`${to} ${from}`)) this.rejoin(to, from)
  }

  /** Its connections are made anew. */
  comeBack(id: string): void {
    this.#gone.delete(id)
    this.change()
  }

  /** Its process is killed, and started again on the same home: with what it has on its disk, and no lease. */
  restart(id: string): SimulatedNode {
    const { options, store, decodeMs } = this.get(id)
    this.vanish(id)
    this.get(id).end()
    this.#wakeNever(id)
    const node = new SimulatedNode(this, id, { ...options, decodeMs }, store)
    this.nodes.set(id, node)
    this.comeBack(id)
    return node
  }

  /** It goes and never comes back. */
  leave(id: string): void {
    this.vanish(id)
    this.get(id).end()
    this.#wakeNever(id)
    this.nodes.delete(id)
    for (const way of [...this.#deaf.keys()]) if (way.split(' ').includes(id)) this.#deaf.delete(way)
    for (const pair of [...this.#apart]) if (pair.split(' ').includes(id)) this.#apart.delete(pair)
    for (const link of [...this.linkMbps.keys()]) if (link.split(' ').includes(id)) this.linkMbps.delete(link)
    this.#gone.delete(id)
    this.change()
  }

  #wakeNever(id: string): void {
    this.#asleep.delete(id)
    this.#silent.delete(id)
  }

  #others(id: string): SimulatedNode[] {
    return [...this.nodes.values()].filter(node => node.id !== id)
  }

  /** Two devices cannot reach each other from now on; all others reach both. */
  part(a: string, b: string): void {
    this.#apart.add([a, b].sort().join(' '))
    this.get(a).peers.lost(b)
    this.get(b).peers.lost(a)
    this.change()
  }

  /** They can again. */
  rejoin(a: string, b: string): void {
    this.#apart.delete([a, b].sort().join(' '))
    this.change()
  }

  isApart(a: string, b: string): boolean {
    return this.#apart.has([a, b].sort().join(' '))
  }

  /** Pairs that are apart, without this one's own: as its peers say. */
  apartFor(id: string): [string, string][] {
    const pairs = [...this.#apart].map(key => key.split(' ') as [string, string])
    return this.tellsApart ? pairs.filter(pair => !pair.includes(id)) : []
  }

  /** It is being drained from now on, or not any more, and says so. */
  drain(id: string, draining = true): void {
    this.get(id).serving.draining = draining
    this.change()
  }

  /** Its connections break. */
  vanish(id: string): void {
    if (this.#gone.has(id)) return
    this.#gone.add(id)
    this.#lastHeardMs.set(id, Date.now())
    for (const node of this.#others(id)) node.peers.lost(id)
    this.get(id).peers.lostAll()
    this.change()
  }

  /** It says nothing any more, though its connections stand; the others notice after `ms`. */
  async silence(id: string, ms = 3000): Promise<void> {
    this.#silent.add(id)
    this.#lastHeardMs.set(id, Date.now())
    await new Promise(resolve => setTimeout(resolve, ms))
    if (this.#gone.has(id)) return
    this.change()
    for (const node of this.nodes.values()) if (node.id !== id) node.peers.events.emit('silent', id)
  }

  /** Says that the directory is not what it was. */
  change(): void {
    for (const { peers } of this.nodes.values()) peers.events.emit('change')
  }

  get links(): LinkState[] {
    const ids = [...this.nodes.keys()].filter(id => !this.#gone.has(id))
    return ids.flatMap(from =>
      ids.flatMap(to => {
        const mbps = this.linkMbps.get(`${from} ${to}`) ?? this.mbps
        return from === to || this.isApart(from, to)
          ? []
          : [{ from, to, mbps, rttMs: 2 * this.latencyMs, spread: 0, ageMs: 0 }]
      })
    )
  }

  /** What takes so long on the way from one device to another. */
  transferMs(from: string, to: string, { bytes }: Pick<BlobRef, 'bytes'>): number {
    return this.latencyMs + (8 * bytes) / (1000 * (this.linkMbps.get(`${from} ${to}`) ?? this.mbps))
  }

  /** True when nothing is left on any device that is there. */
  get empty(): boolean {
    return [...this.nodes.values()].every(({ id, empty }) => this.isGone(id) || this.isSilent(id) || empty)
  }
}

/** Bytes of that share of a model, with KV caches for so many sessions of so many tokens. */
export function shareOf({ manifest }: SimulatedModel, share: number, slots = 1, maxTokens = 256): number {
  const whole: [number, number] = [0, manifest.layers.length]
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, { slots, maxTokens })
  return Math.ceil(share * (weightBytes + ownBytes))
}

import { once } from 'node:events'
import { availableParallelism, cpus, hostname, totalmem } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import type { Manifest, Quantization } from '../models/manifest.ts'
import { startRuntime } from '../models/runtime/client.ts'
import type { Runtime } from '../models/runtime/runtime.ts'
import { ModelStore } from '../models/store/store.ts'
import { type AnswerObserver, Answers } from './answers.ts'
import type {
  EdgeNode,
  GenerateEvent,
  GenerateRequest,
  MembershipControl,
  MeshState,
  ModelSummary,
  NodeRecord,
  ScenarioNeeds
} from './api.ts'
import { BUNDLED_DIR } from './bundled.ts'
import {
  DEFAULT_MAX_TOKENS,
  DEFAULT_MEMORY_SHARE,
  DEFAULT_PORT,
  DEFAULT_PROMPT_TOKENS,
  LEASE_EXPIRY_CHECK_MS,
  LEASE_TERM_MS,
  PROFILE_AGAIN_MS
} from './constants.ts'
import { lockHome } from './home-lock.ts'
import type { NodeInit } from './index.ts'
import { createMesh, type Mesh } from './mesh/index.ts'
import type { ScenarioInput } from './plan/index.ts'
import { PlanThread } from './plan/thread.ts'
import { faster } from './profile/faster.ts'
import { Serving } from './serve/serving.ts'
import { Catalog } from './source/placement/catalog.ts'
import { Corrections } from './source/placement/corrections.ts'
import { Deployments } from './source/placement/deployments.ts'
import { generate } from './source/request/generate.ts'
import { noticeOf } from './source/request/notices.ts'
import { LeaseTable } from './stage/lease-table.ts'
import { Sessions } from './stage/sessions.ts'
import { ShardPool } from './stage/shard-pool.ts'
import { VERSION } from './version.ts'
import { Fetches } from './weights/fetches.ts'
import { blobsOf } from './weights/weights.ts'

/** Starts what a node is made of, in order; what was started is stopped again when a later part fails. */
export async function startNode(init: NodeInit): Promise<EdgeNode> {
  const undo: (() => Promise<void>)[] = [await lockHome(init.home)]
  try {
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
    const node = new RunningNode({ init, store, runtime, budgetBytes, mesh, undo })
    await node.start()
    return node
  } catch (error) {
    for (const step of undo) await step().catch(() => {})
    throw error
  }
}

interface Parts {
  init: NodeInit
  store: ModelStore
  runtime: Runtime
  budgetBytes: number
  mesh: Mesh
  /** What `stop` does, in order. */
  undo: (() => Promise<void>)[]
}

/** A node with both its roles: serving layers to sources, and being the source of its own requests. */
class RunningNode implements EdgeNode {
  readonly #parts: Parts
  readonly #leases: LeaseTable
  readonly #fetches: Fetches
  readonly #sessions = new Sessions()
  readonly #answers = new Answers()
  readonly #catalog: Catalog
  readonly #deployments: Deployments
  readonly #serving: Serving
  readonly #planner = new PlanThread()
  #profiling: Promise<void> = Promise.resolve()
  readonly #stopping = new AbortController()

  constructor(parts: Parts) {
    this.#parts = parts
    const { store, runtime, budgetBytes, mesh } = parts
    const sessions = this.#sessions
    const failed = (what: string) => (error: Error) =>
      parts.init.onNotice?.(`${what} failed: ${error.message}`)
    const onChange = () => void this.#announce().catch(failed('reading the store'))
    const leases = new LeaseTable({
      budgetBytes,
      termMs: LEASE_TERM_MS,
      now: () => performance.now(),
      onChange: () => {
        void shards.sweep()
        onChange()
      },
      onEvict: ({ id, source }) =>
        void (source === mesh.peerId ? this.#deployments.evicted(id) : this.#serving.evict(id))
    })
    this.#leases = leases
    const shards: ShardPool = new ShardPool({
      runtime,
      blobsDir: store.blobsDir,
      isLeased: key => leases.isLeased(key)
    })
    // The links exist once the mesh is started; sessions only run after that.
    const links = { send: (...args: Parameters<Mesh['stage']['send']>) => mesh.stage.send(...args) }
    const fetches = new Fetches({
      now: () => performance.now(),
      onNotice: message => parts.init.onNotice?.(message),
      nameOf: modelId => this.#modelName(modelId)
    })
    this.#fetches = fetches
    const shared = { store, mesh, fetches, onStored: onChange, leases, shards, sessions, links }
    this.#catalog = new Catalog({ store, mesh, fetches, onStored: onChange, records: () => this.#records() })
    this.#serving = new Serving({
      ...shared,
      modelName: (peerId, modelId) => this.#modelName(modelId, peerId),
      termMs: LEASE_TERM_MS
    })
    this.#deployments = new Deployments({
      ...shared,
      planner: this.#planner,
      peerId: mesh.peerId,
      connectLease: (peerId, options) => mesh.lease(peerId, options),
      holders: modelId => this.#catalog.holders(modelId),
      onSilent: listener => {
        const onSuspect = (peerId: string, suspect: boolean) => {
          if (suspect) listener(peerId)
        }
        mesh.events.on('suspect', onSuspect)
        return () => mesh.events.off('suspect', onSuspect)
      },
      suspects: () =>
        new Set(mesh.peers.filter(peer => peer.suspect || !peer.connected).map(p => p.record.peerId)),
      candidates: () => ({
        source: { record: mesh.self, memoryBytes: leases.freeBytes, rttMs: 0 },
        peers: mesh.peers
          .filter(({ connected, suspect }) => connected && !suspect)
          .map(({ record, rttMs }) => ({ record, memoryBytes: record.memory.freeBytes, rttMs }))
      }),
      linkStates: () => mesh.links,
      measureLinks: async (peerIds, signal) => {
        await mesh.measureRtt(peerIds, { signal })
        await mesh.measureLinks(peerIds, { signal })
      },
      directoryChanged: (ms, signal) => this.#directoryChanged(ms, signal),
      profile: ({ id, manifest }) => this.#profile(id, manifest),
      corrections: new Corrections(() => performance.now()),
      now: () => performance.now()
    })
  }

  get peerId(): string {
    return this.#parts.mesh.peerId
  }

  get name(): string {
    return this.#parts.mesh.self.name
  }

  get addresses(): string[] {
    return this.#parts.mesh.addresses
  }

  async start(): Promise<void> {
    const { mesh, init, store, undo } = this.#parts
    const { onPeer, onNotice } = init
    mesh.events.on('connect', (peerId, { name }) => onPeer?.({ event: 'peer:connect', peerId, name }))
    mesh.events.on('disconnect', (peerId, { name }) => {
      this.#sessions.onLost(peerId, 'the connection to it was lost')
      onPeer?.({ event: 'peer:disconnect', peerId, name })
    })
    mesh.events.on('suspect', (peerId, suspect) => {
      if (suspect) this.#sessions.onLost(peerId, 'it has fallen silent')
      onPeer?.({ event: suspect ? 'peer:suspect' : 'peer:recovered', peerId, name: mesh.nameOf(peerId) })
    })
    mesh.events.on('notice', message => onNotice?.(message))
    await mesh.start({ stage: this.#sessions, leases: this.#serving, weights: blobsOf(store) })
    this.#sessions.attach(mesh.stage)
    const expiry = setInterval(() => void this.#serving.expire().catch(() => {}), LEASE_EXPIRY_CHECK_MS)
    undo.unshift(
      async () => clearInterval(expiry),
      () => this.#deployments.close(),
      () => this.#planner.stop(),
      () => this.#catalog.close()
    )
    // Times of the models at hand, so that the others can plan with this device; prompts need not wait for it.
    void this.#profileAll()
      .then(() => this.#profileAgain())
      .catch(() => {})
  }

  models(): Promise<ModelSummary[]> {
    return this.#catalog.summaries({ signal: this.#stopping.signal })
  }

  mesh(): MeshState {
    const leases = this.#leases.state(id => this.#serving.sessionsOf(id))
    const { open: sessions, droppedFrames } = this.#sessions
    const deployments = this.#deployments.state()
    const fetches = this.#fetches.state
    return { ...this.#parts.mesh.state(), leases, fetches, deployments, sessions, droppedFrames }
  }

  invite(): string {
    return this.#parts.mesh.members.invite()
  }

  get membership(): MembershipControl {
    return this.#parts.mesh.members
  }

  async scenario(needs: ScenarioNeeds, { signal }: { signal?: AbortSignal } = {}): Promise<ScenarioInput> {
    const until = this.#until(signal)
    const model = await this.#catalog.promptable(needs.model, { signal: until })
    const { promptTokens = DEFAULT_PROMPT_TOKENS, newTokens = DEFAULT_MAX_TOKENS } = needs
    const { objective = 'latency', privacy = 'prompt' } = needs
    const request = { model, promptTokens, newTokens, objective, privacy, placement: {} }
    return await this.#deployments.scenario(request, until)
  }

  async manifest(
    model: string | undefined,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<{ name: string; id: string; manifest: Manifest }> {
    return await this.#catalog.resolve(model, { signal: this.#until(signal) })
  }

  async tokenize(
    text: string,
    { model, signal }: { model?: string; signal?: AbortSignal } = {}
  ): Promise<number[]> {
    const until = this.#until(signal)
    const { tokenizer } = await this.#catalog.promptable(model, { signal: until })
    return await tokenizer.encode(text, { signal: until })
  }

  watchAnswers(begin: () => AnswerObserver): () => void {
    return this.#answers.watch(begin)
  }

  async *generate(
    request: GenerateRequest,
    { signal }: { signal?: AbortSignal } = {}
  ): AsyncGenerator<GenerateEvent> {
    const components = {
      catalog: this.#catalog,
      deployments: this.#deployments,
      now: () => performance.now()
    }
    const events = generate(components, request, { signal: this.#until(signal) })
    for await (const event of this.#answers.told(events)) {
      const notice = noticeOf(event)
      if (notice !== undefined) this.#parts.init.onNotice?.(notice)
      yield event
    }
  }

  async stop(): Promise<void> {
    if (this.#stopping.signal.aborted) return
    this.#stopping.abort(new Error('the node is stopping'))
    for (const step of this.#parts.undo) await step().catch(() => {})
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  #until(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.#stopping.signal : AbortSignal.any([signal, this.#stopping.signal])
  }

  #records(): { own: NodeRecord; peers: NodeRecord[] } {
    const { mesh } = this.#parts
    return {
      own: mesh.self,
      peers: mesh.peers.filter(({ connected }) => connected).map(({ record }) => record)
    }
  }

  /** What a peer calls a model, else what anybody of the mesh does: who prompts it need not hold a layer of it. */
  #modelName(modelId: string, peerId?: string): string {
    const { own, peers } = this.#records()
    const asked = peers.filter(record => record.peerId === peerId)
    const models = [...asked, own, ...peers].flatMap(record => record.models)
    return models.find(({ id }) => id === modelId)?.name ?? modelId.slice(0, 12)
  }

  /** Tells the peers what is free and held now. */
  async #announce(): Promise<void> {
    const { mesh, store, budgetBytes } = this.#parts
    const models = await heldModels(store)
    const leases = this.#leases
      .state(() => 0)
      .map(({ modelId, layers, source }) => ({ modelId, layers, source }))
    mesh.update({ models, leases, memory: { budgetBytes, freeBytes: this.#leases.freeBytes } })
  }

  /** Times a model's layers unless that is done; one model at a time, as they would slow each other. */
  async #profile(id: string, manifest: Manifest): Promise<void> {
    const { mesh, runtime } = this.#parts
    if (mesh.self.profiles[id] !== undefined) return
    const timed = this.#profiling.then(async () => {
      if (mesh.self.profiles[id] !== undefined) return
      const profile = await runtime.profile(manifest.shape, quantizationOf(manifest))
      mesh.update({ profiles: { ...mesh.self.profiles, [id]: profile } })
    })
    this.#profiling = timed.catch(() => {})
    await timed
  }

  /** Once more when the node's start is over, unless answers run: these teach the cost model by themselves. */
  async #profileAgain(): Promise<void> {
    const { mesh, runtime, store } = this.#parts
    const { signal } = this.#stopping
    await setTimeout(PROFILE_AGAIN_MS, undefined, { signal, ref: false })
    for (const { id, manifest } of await store.list()) {
      const before = mesh.self.profiles[id]
      if (before === undefined || this.#sessions.open > 0 || signal.aborted) continue
      const again = await runtime.profile(manifest.shape, quantizationOf(manifest), { signal })
      mesh.update({ profiles: { ...mesh.self.profiles, [id]: faster(before, again) } })
    }
  }

  async #profileAll(): Promise<void> {
    for (const { id, manifest } of await this.#parts.store.list()) {
      if (this.#stopping.signal.aborted) return
      if (!this.#parts.mesh.self.models.some(model => model.id === id)) continue
      await this.#profile(id, manifest).catch(error => {
        if (!this.#stopping.signal.aborted)
          this.#parts.init.onNotice?.(`timing a model failed: ${error.message}`)
      })
    }
  }

  async #directoryChanged(ms: number, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(ms))])
    await once(this.#parts.mesh.events, 'change', { signal: either }).catch(() => signal.throwIfAborted())
  }
}

function quantizationOf(manifest: Manifest): Quantization | undefined {
  return manifest.layers[1]?.tensors.find(tensor => tensor.quantization)?.quantization
}

/** Of a model without a layer here nobody needs to know. */
async function heldModels(store: ModelStore): Promise<NodeRecord['models']> {
  const models = await store.list()
  const held = await Promise.all(
    models.map(async ({ name, id, manifest }) => ({ name, id, layers: await store.heldLayers(manifest) }))
  )
  return held.filter(({ layers }) => layers.length > 0)
}

import type { Manifest } from '../../models/manifest.ts'
import { kvBytes, weightBytes } from '../../models/memory.ts'
import { RefusedError } from '../../protocols/errors.ts'
import type {
  LeaseHandlers,
  LoadProgress,
  LoadRequest,
  OpenRequest,
  ReserveReply,
  ReserveRequest
} from '../../protocols/lease/index.ts'
import type { StageLinks } from '../../protocols/stage/index.ts'
import type { Lease, LeaseTable } from './lease-table.ts'
import { hiddenFrame, type Sessions, tokenFrame } from './sessions.ts'
import type { ShardHandle, ShardPool } from './shard-pool.ts'
import { Stage } from './stage.ts'
import { missingLayers, obtainBlobs, obtainManifest, type WeightsComponents } from './weights.ts'

export interface ServingComponents extends WeightsComponents {
  leases: LeaseTable
  shards: ShardPool
  sessions: Sessions
  links: Pick<StageLinks, 'send'>
  /** What a peer calls a model, for the store of this node. */
  modelName: (peerId: string, modelId: string) => string
  termMs: number
}

/** What hangs on one lease of a source. */
interface Tenancy {
  lease: Lease
  manifest: Manifest
  shard: ShardHandle | undefined
  sessions: Set<string>
  maxTokens: number
  maxSessions: number
}

/** The serving role: grants memory to sources, loads the layers they plan for this device, runs their sessions. */
export class Serving implements LeaseHandlers {
  readonly #components: ServingComponents
  readonly #tenancies = new Map<string, Tenancy>()

  constructor(components: ServingComponents) {
    this.#components = components
  }

  /** Sessions that run under a lease. */
  sessionsOf(leaseId: string): number {
    return this.#tenancies.get(leaseId)?.sessions.size ?? 0
  }

  async reserve(
    peerId: string,
    request: ReserveRequest,
    { signal }: { signal: AbortSignal }
  ): Promise<ReserveReply> {
    const { leases, modelName, termMs } = this.#components
    const { modelId, range, maxTokens, sessions } = request
    const model = { id: modelId, name: modelName(peerId, modelId) }
    // From the manifest, not from the source's word: what a lease costs is for this node to know.
    const manifest = await obtainManifest(this.#components, model, [peerId], {
      signal: AbortSignal.timeout(termMs)
    })
    if (range[1] > manifest.layers.length) {
      throw new RefusedError(
        'bad-range',
        `${model.name} has ${manifest.layers.length} layers, not ${range[1]}`
      )
    }
    const cost = {
      source: peerId,
      modelId,
      range,
      weightBytes: weightBytes(manifest, range),
      kvBytes: kvBytes(manifest.shape, range, maxTokens) * sessions
    }
    const [lease] = (await leases.acquire([cost], { waitMs: request.waitMs, signal })) ?? []
    if (lease === undefined) {
      const reason = `layers [${range[0]}, ${range[1]}) need ${cost.weightBytes + cost.kvBytes} bytes, ${leases.freeBytes} are free`
      return { type: 'refused', code: 'memory', reason }
    }
    this.#tenancies.set(lease.id, {
      lease,
      manifest,
      shard: undefined,
      sessions: new Set(),
      maxTokens,
      maxSessions: sessions
    })
    return { type: 'granted', leaseId: lease.id, expiresInMs: termMs }
  }

  async load(
    _peerId: string,
    { leaseId, holders }: LoadRequest,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: LoadProgress) => void }
  ): Promise<void> {
    const { store, shards } = this.#components
    const tenancy = this.#tenancy(leaseId)
    const { lease, manifest } = tenancy
    const missing = await missingLayers(store, manifest, lease.range)
    await obtainBlobs(this.#components, missing, holders, {
      signal,
      onProgress: (done, total) => onProgress({ phase: 'weights', done, total })
    })
    const shard = await shards.acquire(lease.modelId, manifest, lease.range, {
      onProgress: fraction => onProgress({ phase: 'load', done: fraction, total: 1 })
    })
    // The lease may have ended meanwhile.
    if (this.#tenancies.get(leaseId) !== tenancy) {
      await shard.release()
      throw new RefusedError('expired', 'the lease ended while its layers were loaded')
    }
    tenancy.shard = shard
  }

  async open(peerId: string, request: OpenRequest): Promise<void> {
    const { leases, sessions, links } = this.#components
    const { sessionId, leaseId, maxTokens, previous, next, sampling } = request
    const tenancy = this.#tenancy(leaseId)
    if (tenancy.shard === undefined)
      throw new RefusedError('not-loaded', 'the lease has no loaded layers yet')
    if (maxTokens > tenancy.maxTokens) {
      throw new RefusedError(
        'context',
        `a session of ${maxTokens} tokens exceeds the lease's ${tenancy.maxTokens}`
      )
    }
    if (tenancy.sessions.size >= tenancy.maxSessions) {
      throw new RefusedError('sessions', `the lease is for ${tenancy.maxSessions} sessions at once`)
    }
    if (sessions.has(sessionId))
      throw new RefusedError('session-exists', `session ${sessionId} is open already`)
    tenancy.sessions.add(sessionId)
    leases.setIdle(leaseId, false)
    const session = await tenancy.shard.shard
      .open({ maxTokens, ...(sampling === undefined ? {} : { sampling }) })
      .catch(error => {
        tenancy.sessions.delete(sessionId)
        throw error
      })
    if (!tenancy.sessions.has(sessionId) || this.#tenancies.get(leaseId) !== tenancy) {
      await session.close()
      throw new RefusedError('closed', `session ${sessionId} was closed while it was opened`)
    }
    const stage = new Stage({
      session,
      hiddenSize: tenancy.manifest.shape.hiddenSize,
      maxTokens,
      deliver: (output, step) => {
        if (output.kind === 'hidden')
          return links.send(next, hiddenFrame(sessionId, step, output.hidden.data))
        if (output.kind === 'token') return links.send(peerId, tokenFrame(sessionId, step, output.token))
        return Promise.resolve()
      }
    })
    sessions.addStage(sessionId, { stage, previous, source: peerId })
  }

  async close(peerId: string, sessionId: string): Promise<void> {
    for (const { lease, sessions } of this.#tenancies.values()) {
      if (lease.source !== peerId || !sessions.delete(sessionId)) continue
      await this.#components.sessions.closeStage(sessionId)
      if (sessions.size === 0) this.#components.leases.setIdle(lease.id, true)
    }
  }

  renew(_peerId: string, leaseId: string): { expiresInMs: number } {
    const { leases, termMs } = this.#components
    if (!leases.renew(leaseId)) throw new RefusedError('expired', `lease ${leaseId} has expired`)
    return { expiresInMs: termMs }
  }

  async release(_peerId: string, leaseId: string): Promise<void> {
    this.#components.leases.release(leaseId)
    await this.evict(leaseId)
  }

  /** Ends the leases whose source has stopped renewing them. */
  async expire(): Promise<void> {
    await Promise.all(this.#components.leases.expire().map(({ id }) => this.evict(id)))
  }

  /** Lets go of all that hangs on a lease that is over; its source notices when it next uses or renews it. */
  async evict(leaseId: string): Promise<void> {
    const tenancy = this.#tenancies.get(leaseId)
    if (tenancy === undefined) return
    this.#tenancies.delete(leaseId)
    await Promise.all([...tenancy.sessions].map(id => this.#components.sessions.closeStage(id)))
    await tenancy.shard?.release()
  }

  #tenancy(leaseId: string): Tenancy {
    const tenancy = this.#tenancies.get(leaseId)
    if (tenancy === undefined) throw new RefusedError('expired', `lease ${leaseId} has expired`)
    return tenancy
  }
}

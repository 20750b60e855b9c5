import { logger } from '../../../models/log.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { hasState } from '../../../models/recurrence.ts'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import type { Pooling } from '../../../models/runtime/pooling.ts'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import { REQUEST_TIMEOUT_MS } from '../../../protocols/constants.ts'
import type { PlannedStage } from '../../api.ts'
import { CLOSE_TIMEOUT_MS, LOAD_READ_BYTES_PER_MS } from '../../constants.ts'
import type { LeaseStream, Peers } from '../../mesh/peers.ts'
import type { Lease } from '../../stage/lease-table.ts'
import type { StoredPrefix } from '../../stage/prefix-cache.ts'
import type { StageRoom } from '../../stage/room.ts'
import { hiddenFrame } from '../../stage/sessions.ts'
import type { ShardHandle } from '../../stage/shard-pool.ts'
import { type OpenedSession, Stage, type Step, type StepResult } from '../../stage/stage.ts'
import { stageAddress } from './places.ts'
import { orStageLost } from './stage-lost.ts'

const log = logger('edgeshard:source')

/** A session as one stage opens it. */
export interface HeldSession {
  sessionId: string
  slot: number
  keepTokens: number
  copyFrom?: number | undefined
  /** The number under which its first tokens are stored; absent: they are in a slot. */
  restore?: number | undefined
  /** What is stored of the slot before it is taken. */
  store?: StoredPrefix | undefined
  withholdTokens: number
  /** Its first tokens, which the stage computes when nothing else waits. */
  catchUpTokens?: number | undefined
  /** Where the stage draws the tokens. */
  sampling?: Sampling | undefined
  /** Hidden states are pooled by the last stage, in the place of drawing tokens. */
  pooling?: Pooling | undefined
  /** Whether the source is told what the model makes of the session's tokens, by the stage that draws and no other. */
  states?: boolean | undefined
  /** Whether what is computed has to be the same to the bit in whatever steps and company. */
  exact?: boolean | undefined
  /** What the request is called on every device that works on it. */
  requestId?: string | undefined
}

/**
 * Peer that sends to a stage, and peer that gets what comes out: the source, where the stage is the last one. Where both stages are the
 * source's own, `previous` is what `stageAddress` calls the one before.
 */
export interface Neighbours {
  previous: string
  next: string
}

/** A stage that is loaded and leased to this source, on this device or on a peer. */
export interface HeldStage {
  readonly planned: PlannedStage
  /** Resolves with the reason when it is over, unless this source ended it. */
  readonly ended: Promise<Error>
  /** True when a lease of this node's own holds it. */
  holds(leaseId: string): boolean
  /** @throws {StageLostError} where a peer cannot; {RefusedError} where this device has not kept what is to be restored */
  open(session: HeldSession, options: { signal: AbortSignal }): Promise<OpenedSession>
  /** Rejects where a peer does not confirm it in time. */
  close(sessionId: string): Promise<void>
  /** Gives it its neighbours of now. @throws {StageLostError} where a peer does not take it */
  relink(neighbours: Neighbours): Promise<void>
  /** Prolongs its lease; a lease that cannot be prolonged is over. @returns true when others wait for its memory */
  renew(): Promise<boolean>
  /** Gives its lease back. A peer that cannot be reached notices by itself. */
  release(options: { reachable: boolean }): Promise<void>
}

/** A stage that a peer computes. */
export class PeerStage implements HeldStage {
  readonly planned: PlannedStage
  readonly ended: Promise<Error>
  readonly #lease: LeaseStream
  readonly #leaseId: string
  readonly #slotBytes: number

  /** @param slotBytes of the KV cache of one of its slots */
  constructor(planned: PlannedStage, lease: LeaseStream, leaseId: string, slotBytes: number) {
    this.planned = planned
    this.ended = lease.ended
    this.#lease = lease
    this.#leaseId = leaseId
    this.#slotBytes = slotBytes
  }

  holds(): boolean {
    return false
  }

  async open(session: HeldSession, { signal }: { signal: AbortSignal }): Promise<OpenedSession> {
    // The first exact one has the stage try out its kernels, some runs over all of its weights.
    const tryingMs = session.exact ? this.planned.weightBytes / LOAD_READ_BYTES_PER_MS : 0
    // What is put into its slot again may come from a disk.
    const readingMs = session.restore === undefined ? 0 : this.#slotBytes / LOAD_READ_BYTES_PER_MS
    const timeoutMs = REQUEST_TIMEOUT_MS + tryingMs + readingMs
    const { exact = false, stored } = await orStageLost(this.planned, 'did not open a session', () =>
      this.#lease.open({ ...session, leaseId: this.#leaseId, ...critical(session) }, { signal, timeoutMs })
    )
    return { exact, stored }
  }

  async close(sessionId: string): Promise<void> {
    await this.#lease.close(sessionId, { timeoutMs: CLOSE_TIMEOUT_MS })
  }

  async relink(neighbours: Neighbours): Promise<void> {
    await orStageLost(this.planned, 'did not take its new neighbour', () =>
      this.#lease.relink({ ...neighbours, leaseId: this.#leaseId })
    )
  }

  async renew(): Promise<boolean> {
    // Ending the stream ends the deployment.
    const renewed = await this.#lease.renew(this.#leaseId).catch(error => {
      log.passOver('a lease was not renewed; its deployment ends', { leaseId: this.#leaseId })(error)
      this.#lease.end()
    })
    return renewed?.wanted ?? false
  }

  async release({ reachable }: { reachable: boolean }): Promise<void> {
    const timeoutMs = CLOSE_TIMEOUT_MS
    const unsaid = log.passOver('a lease was not given back; it ends with its stream', {
      leaseId: this.#leaseId
    })
    if (reachable) await this.#lease.release(this.#leaseId, { timeoutMs }).catch(unsaid)
    // Which ends the lease, too, once the peer hears of it.
    this.#lease.end()
  }
}

export interface OwnStageInit extends Neighbours {
  planned: PlannedStage
  manifest: Manifest
  lease: Lease
  /** Where its memory is. */
  room: StageRoom
  shard: ShardHandle
  slots: number
  contextTokens: number
}

/** A stage on the source itself: the first one, or the tail. */
export class OwnStage implements HeldStage {
  readonly planned: PlannedStage
  readonly #room: StageRoom
  readonly #peers: Pick<Peers, 'peerId' | 'send'>
  readonly #lease: Lease
  readonly #shard: ShardHandle
  readonly #stage: Stage
  #previous: string
  #next: string

  /** Allocates the KV caches; its lease and shard stay the caller's where that fails. */
  static async create(
    components: { peers: Pick<Peers, 'peerId' | 'send'> },
    init: OwnStageInit
  ): Promise<OwnStage> {
    const { slots, contextTokens, shard } = init
    const batch = await shard.shard.openBatch({
      slots,
      maxTokens: contextTokens,
      frameTokens: PREFILL_CHUNK_TOKENS
    })
    return new OwnStage(components, init, batch)
  }

  private constructor(
    { peers }: { peers: Pick<Peers, 'peerId' | 'send'> },
    { planned, manifest, lease, room, shard, contextTokens, previous, next }: OwnStageInit,
    batch: Awaited<ReturnType<ShardHandle['shard']['openBatch']>>
  ) {
    this.planned = planned
    this.#room = room
    this.#peers = peers
    this.#lease = lease
    this.#shard = shard
    this.#previous = previous
    this.#next = next
    this.#stage = new Stage({
      batch,
      turns: shard.turns,
      tenant: lease.id,
      hiddenSize: manifest.shape.hiddenSize,
      hasState: hasState(manifest.shape),
      maxTokens: contextTokens,
      frameTokens: PREFILL_CHUNK_TOKENS,
      prefixes: room.prefixes.of(lease.id, {
        shape: manifest.shape,
        range: planned.layers,
        frameTokens: PREFILL_CHUNK_TOKENS
      }),
      deliver: (result, step) => this.#deliver(result, step),
      onRowsFailed: (rows, error) => room.sessions.rowsFailed(rows, error)
    })
  }

  /** It lasts as long as what computes it. */
  get ended(): Promise<Error> {
    return this.#shard.ended
  }

  /** Prompts and tokens that were drawn go in here, where it is the first stage. */
  get stage(): Stage {
    return this.#stage
  }

  holds(leaseId: string): boolean {
    return this.#lease.id === leaseId
  }

  async open({ sessionId, ...options }: HeldSession): Promise<OpenedSession> {
    const { leases, sessions } = this.#room
    // Idle leases make room for others; see LeaseTable. Peers do the same by the sessions they see.
    leases.setIdle(this.#lease.id, false)
    const opened = await this.#stage.open(sessionId, options)
    // The first stage is fed by the prompt, not by frames.
    if (this.planned.layers[0] === 0) return opened
    const source = this.#peers.peerId
    const { requestId } = options
    const previous = this.#previous
    const isFedHere = previous !== source && previous.startsWith(`${source} `)
    sessions.serve(sessionId, { stage: this.#stage, previous, isFedHere, source, requestId })
    return opened
  }

  async close(sessionId: string): Promise<void> {
    await Promise.all([this.#room.sessions.close(sessionId), this.#stage.closeSession(sessionId)])
    if (this.#stage.idle) this.#room.leases.setIdle(this.#lease.id, true)
  }

  async relink({ previous, next }: Neighbours): Promise<void> {
    this.#previous = previous
    this.#next = next
    this.#stage.relinked()
  }

  async renew(): Promise<boolean> {
    this.#room.leases.renew(this.#lease.id)
    return this.#room.leases.waiting > 0
  }

  async release(): Promise<void> {
    await this.#stage.close()
    await this.#shard.release()
    this.#room.leases.release(this.#lease.id)
  }

  #deliver(result: StepResult, step: Step): Promise<void> {
    if (result.kind === 'hidden') {
      const frame = hiddenFrame(step, result.hidden)
      if (this.#next !== this.#peers.peerId) return this.#peers.send(this.#next, frame)
      this.#room.sessions.handOver(stageAddress(this.planned), frame)
    }
    if ('states' in result && result.states !== undefined)
      this.#room.sessions.acceptStates(step.rows, result.states)
    if (result.kind === 'tokens') this.#room.sessions.accept(step.rows, result.tokens, step.timings)
    if (result.kind === 'pooled') this.#room.sessions.acceptPooled(step.rows, result.pooled)
    return DELIVERED
  }
}

/** What a peer that does not know it must not pass over: it would draw tokens, or go on from what is elsewhere. */
function critical({ pooling, copyFrom, restore }: HeldSession): { critical?: string[] } {
  const named = [
    ...(pooling === undefined ? [] : ['pooling']),
    ...(copyFrom === undefined ? [] : ['copyFrom']),
    ...(restore === undefined ? [] : ['restore'])
  ]
  return named.length === 0 ? {} : { critical: named }
}

const DELIVERED = Promise.resolve()

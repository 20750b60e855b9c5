import type { Manifest } from '../../models/manifest.ts'
import type { StageLinks } from '../../protocols/stage/index.ts'
import { messageOf } from '../../protocols/text.ts'
import { CLOSE_TIMEOUT_MS, LEASE_RENEW_MS } from '../constants.ts'
import { StageLostError } from '../errors.ts'
import type { LeaseTable } from '../serve/lease-table.ts'
import { hiddenFrame, type Sessions } from '../serve/sessions.ts'
import { Stage } from '../serve/stage.ts'
import type { DeploymentState, PlannedStage, Predicted, Strategy } from '../types.ts'
import { Pipeline, type Reply, type ReplyRequest, type SlotSession } from './pipeline.ts'
import type { RecruitedStage } from './recruit.ts'
import type { SlowStage } from './slowness.ts'
import type { Progress } from './source-session.ts'

export interface DeploymentComponents {
  peerId: string
  leases: LeaseTable
  sessions: Sessions
  links: Pick<StageLinks, 'send'>
  suspects: () => Set<string>
}

export interface DeploymentInit {
  modelId: string
  manifest: Manifest
  predicted: Predicted
  stages: RecruitedStage[]
  /** Of each session. */
  contextTokens: number
  slots: number
  microBatches: number
  strategy: Strategy
  /** One of its stages holds up every step since some time ago. */
  onSlow: (deployment: Deployment, slow: SlowStage) => void
}

/** A model placed on devices and ready: its stages are loaded and leased to this source. */
export class Deployment {
  readonly #components: DeploymentComponents
  readonly #init: DeploymentInit
  readonly #renewal: NodeJS.Timeout
  readonly #locals: ReadonlyMap<number, Stage>
  readonly #pipeline: Pipeline
  #wanted = false
  #ended: Promise<void> | undefined

  /** Takes over the leases; when it cannot, they are given back. */
  static async start(components: DeploymentComponents, init: DeploymentInit): Promise<Deployment> {
    const owner: { pipeline?: Pipeline } = {}
    const locals = new Map<number, Stage>()
    try {
      for (const [at, recruited] of init.stages.entries()) {
        if (recruited.kind === 'local') locals.set(at, await localStage(components, init, at, owner))
      }
    } catch (error) {
      await giveBack(components, init.stages, locals)
      throw error
    }
    const deployment = new Deployment(components, init, locals)
    owner.pipeline = deployment.#pipeline
    return deployment
  }

  private constructor(
    components: DeploymentComponents,
    init: DeploymentInit,
    locals: ReadonlyMap<number, Stage>
  ) {
    this.#components = components
    this.#init = init
    this.#locals = locals
    const { slots, microBatches, strategy, predicted, stages } = init
    this.#pipeline = new Pipeline({
      first: locals.get(0)!,
      remote: stages.flatMap(({ kind, stage }) => (kind === 'remote' ? [stage] : [])),
      slots,
      microBatches,
      strategy,
      predicted,
      vocabSize: init.manifest.shape.vocabSize,
      suspects: components.suspects,
      unconfirmed: sessionId => this.#closeOnPeers(sessionId),
      onQuiet: () => this.#setIdle(true),
      onSlow: slow => init.onSlow(this, slow),
      open: (session, signal) => this.#openSession(session, signal),
      close: sessionId => this.#closeSession(sessionId)
    })
    this.#renewal = setInterval(() => void this.#renew(), LEASE_RENEW_MS)
    this.#renewal.unref()
    for (const recruited of stages) {
      if (recruited.kind !== 'remote') continue
      const { client, stage } = recruited
      void client.ended.then(({ message }) => {
        this.#pipeline.peerLost(stage.peerId, message)
        return this.release()
      })
    }
  }

  /** True when one of its stages on this device is held by that lease. */
  holds(leaseId: string): boolean {
    return this.#init.stages.some(stage => stage.kind === 'local' && stage.lease.id === leaseId)
  }

  /** True when nothing can be opened on it any more. */
  get ended(): boolean {
    return this.#ended !== undefined || this.#pipeline.failure !== undefined
  }

  /** True when other sources stand in line for the memory of one of its devices. */
  get wanted(): boolean {
    return this.#wanted
  }

  /** True while all slots are taken. */
  get full(): boolean {
    return this.active === this.#init.slots
  }

  /** Sessions that are open. */
  get active(): number {
    return this.#pipeline.active
  }

  /** Of every reply that is being drawn. */
  get progress(): Progress[] {
    return this.#pipeline.progress
  }

  get contextTokens(): number {
    return this.#init.contextTokens
  }

  get plan(): { stages: PlannedStage[] } {
    return { stages: this.#init.stages.map(({ stage }) => stage) }
  }

  get predicted(): Predicted {
    return this.#init.predicted
  }

  get state(): Omit<DeploymentState, 'objective'> {
    const { modelId, slots, microBatches, predicted } = this.#init
    return { modelId, plan: this.plan, predicted, slots, microBatches, sessions: this.active }
  }

  /** Resolves when a session has ended or the deployment has. */
  changed(signal: AbortSignal): Promise<void> {
    return this.#pipeline.changed(signal)
  }

  /**
   * Begins a reply, unless it is `full`.
   *
   * @throws {StageLostError} naming the peer that cannot
   */
  async open(request: ReplyRequest, signal: AbortSignal): Promise<Reply> {
    return await this.#pipeline.open(request, signal)
  }

  /** Ends every reply with an error; nothing can be opened any more. */
  fail(error: Error): void {
    this.#pipeline.fail(error)
  }

  /** Ends every reply and gives every lease back. */
  release(): Promise<void> {
    this.#ended ??= this.#release()
    return this.#ended
  }

  async #release(): Promise<void> {
    clearInterval(this.#renewal)
    this.#pipeline.fail(new Error('the model was taken off its devices'))
    await giveBack(this.#components, this.#init.stages, this.#locals, this.#lostPeer)
  }

  async #openSession({ sessionId, ...options }: SlotSession, signal: AbortSignal): Promise<void> {
    const { sessions, peerId } = this.#components
    const { stages } = this.#init
    // Idle leases make room for others; see LeaseTable. Peers do the same by the sessions they see.
    this.#setIdle(false)
    sessions.addOwner(sessionId, this.#pipeline)
    for (const [at, stage] of this.#locals) {
      await stage.open(sessionId, options)
      if (at > 0) sessions.serve(sessionId, { stage, previous: stages[at - 1]!.stage.peerId, source: peerId })
    }
    await Promise.all(
      stages.map(async recruited => {
        if (recruited.kind !== 'remote') return
        const { client, leaseId, stage } = recruited
        try {
          await client.open({ sessionId, leaseId, ...options }, { signal })
        } catch (error) {
          signal.throwIfAborted()
          const reason = messageOf(error)
          const message = `${stage.name} (${stage.peerId}) did not open a session: ${reason}`
          throw new StageLostError(message, stage.peerId)
        }
      })
    )
  }

  async #closeSession(sessionId: string): Promise<void> {
    const { sessions } = this.#components
    sessions.removeOwner(sessionId)
    await Promise.allSettled([
      sessions.close(sessionId),
      ...[...this.#locals.values()].map(stage => stage.closeSession(sessionId)),
      this.#closeOnPeers(sessionId)
    ])
  }

  /** Resolves to the ids of the peers that did not confirm it in time. */
  async #closeOnPeers(sessionId: string): Promise<Set<string>> {
    const unconfirmed = new Set<string>()
    await Promise.all(
      this.#init.stages.map(async recruited => {
        if (recruited.kind !== 'remote' || recruited.stage.peerId === this.#lostPeer) return
        const { client, stage } = recruited
        const closing = client.close(sessionId, { timeoutMs: CLOSE_TIMEOUT_MS })
        await closing.catch(() => unconfirmed.add(stage.peerId))
      })
    )
    return unconfirmed
  }

  /** The peer that ended the pipeline; nobody waits for what it has to say. */
  get #lostPeer(): string | undefined {
    const { failure } = this.#pipeline
    return failure instanceof StageLostError ? failure.peerId : undefined
  }

  #setIdle(idle: boolean): void {
    for (const stage of this.#init.stages) {
      if (stage.kind === 'local') this.#components.leases.setIdle(stage.lease.id, idle)
    }
  }

  async #renew(): Promise<void> {
    const { leases } = this.#components
    let wanted = leases.waiting > 0
    await Promise.all(
      this.#init.stages.map(async recruited => {
        if (recruited.kind === 'local') {
          leases.renew(recruited.lease.id)
          return
        }
        // A lease that cannot be renewed is over; ending the stream ends the deployment.
        const renewed = await recruited.client.renew(recruited.leaseId).catch(() => recruited.client.end())
        wanted ||= renewed?.wanted ?? false
      })
    )
    this.#wanted = wanted
  }
}

/** A stage on the source itself: the first one, or the tail. */
async function localStage(
  { links }: DeploymentComponents,
  { stages, manifest, slots, contextTokens }: DeploymentInit,
  at: number,
  owner: { pipeline?: Pipeline }
): Promise<Stage> {
  const recruited = stages[at]!
  if (recruited.kind !== 'local') throw new Error(`stage ${at} of the plan is not on the source`)
  const { shard, lease } = recruited
  return new Stage({
    batch: await shard.shard.openBatch({ slots, maxTokens: contextTokens }),
    turns: shard.turns,
    tenant: lease.id,
    hiddenSize: manifest.shape.hiddenSize,
    maxTokens: contextTokens,
    deliver: async (result, step) => {
      if (result.kind === 'tokens') owner.pipeline?.accept(step.rows, result.tokens, step.timings)
      if (result.kind === 'hidden')
        await links.send(stages[at + 1]!.stage.peerId, hiddenFrame(step, result.hidden))
    },
    onRowsFailed: (rows, error) => owner.pipeline?.rowsFailed(rows, error)
  })
}

async function giveBack(
  { leases }: DeploymentComponents,
  stages: readonly RecruitedStage[],
  locals: ReadonlyMap<number, Stage>,
  lostPeer?: string
): Promise<void> {
  await Promise.allSettled(
    stages.map(async (recruited, at) => {
      if (recruited.kind === 'local') {
        await locals.get(at)?.close()
        await recruited.shard.release()
        leases.release(recruited.lease.id)
      } else {
        const { client, leaseId, stage } = recruited
        const timeoutMs = CLOSE_TIMEOUT_MS
        if (stage.peerId !== lostPeer) await client.release(leaseId, { timeoutMs }).catch(() => {})
        // Which ends the lease, too, once the peer hears of it.
        client.end()
      }
    })
  )
}

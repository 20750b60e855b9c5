import type { Manifest } from '../../../models/manifest.ts'
import type { StageLinks } from '../../../protocols/stage/index.ts'
import type { DeploymentState, PlannedStage, Predicted, Strategy } from '../../api.ts'
import { CLOSE_TIMEOUT_MS, LEASE_RENEW_MS } from '../../constants.ts'
import { StageLostError } from '../../errors.ts'
import type { LeaseTable } from '../../stage/lease-table.ts'
import { hiddenFrame, type Sessions } from '../../stage/sessions.ts'
import { Stage } from '../../stage/stage.ts'
import { Pipeline, type Reply, type ReplyRequest, type SlotSession } from '../pipeline/pipeline.ts'
import type { SlowStage } from '../pipeline/slowness.ts'
import type { Progress } from '../pipeline/source-session.ts'
import type { RecruitedStage } from './recruit.ts'
import { orStageLost } from './stage-lost.ts'

const TAKEN_OFF = 'the model was taken off its devices'

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
  /** A peer has ended its lease, or the connection to it broke. */
  onLost: () => void = () => {}
  #wanted = false
  #released: Promise<void> | undefined

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
      remote: remoteStages(stages),
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
    for (const recruited of stages) this.#watch(recruited)
  }

  /** True when one of its stages on this device is held by that lease. */
  holds(leaseId: string): boolean {
    return this.#init.stages.some(stage => stage.kind === 'local' && stage.lease.id === leaseId)
  }

  /** True when nothing can be opened on it, for good or until it is repaired. */
  get ended(): boolean {
    return this.#released !== undefined || this.#pipeline.failure !== undefined
  }

  /** Index in the plan of the stage that ended it, where that is a peer's and all other peers are well. */
  get lostStage(): number | undefined {
    const unreachable = this.#unreachable
    const lost = this.plan.stages.flatMap(({ peerId }, at) => (unreachable.has(peerId) ? [at] : []))
    return this.#released === undefined && this.ended && lost.length === 1 ? lost[0] : undefined
  }

  /** True when other sources stand in line for the memory of one of its devices. */
  get wanted(): boolean {
    return this.#wanted
  }

  /** Why it has ended, unless it was released. */
  get failure(): Error | undefined {
    return this.#pipeline.failure
  }

  /** True while all slots are taken. */
  get full(): boolean {
    return this.active === this.#init.slots
  }

  /** Sessions that are open. */
  get active(): number {
    return this.#pipeline.active
  }

  get slots(): number {
    return this.#init.slots
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
    return this.#pipeline.predicted
  }

  get state(): Omit<DeploymentState, 'objective'> {
    const { modelId, slots, microBatches } = this.#init
    return { modelId, plan: this.plan, predicted: this.predicted, slots, microBatches, sessions: this.active }
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

  /**
   * Goes on with another device in the place of a lost one. Call when no session is open.
   *
   * @throws {StageLostError} when a neighbour is gone as well
   */
  async substitute(at: number, recruited: RecruitedStage, predicted: Predicted): Promise<void> {
    const { stages } = this.#init
    const lost = stages[at]!
    if (this.#released !== undefined) {
      await giveBack(this.#components, [recruited], new Map())
      throw new StageLostError(TAKEN_OFF, lost.stage.peerId)
    }
    stages[at] = recruited
    if (lost.kind === 'remote') lost.client.end()
    this.#watch(recruited)
    this.#locals.get(at - 1)?.relinked()
    await Promise.all([at - 1, at + 1].map(neighbour => this.#relink(neighbour)))
    this.#pipeline.resume(remoteStages(stages), { at, stages: stages.length, predicted })
  }

  /** Ends every reply with an error; nothing can be opened until it is repaired. */
  fail(error: Error): void {
    this.#pipeline.fail(error)
  }

  /** Ends every reply with an error and every session, so that the leases are idle: what they have loaded stays loaded. */
  async closeSessions(): Promise<void> {
    this.#pipeline.fail(new Error(TAKEN_OFF))
    await this.#pipeline.closeAll()
  }

  /** Ends every reply and gives every lease back. */
  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<void> {
    clearInterval(this.#renewal)
    this.#pipeline.fail(new Error(TAKEN_OFF))
    await giveBack(this.#components, this.#init.stages, this.#locals, this.#unreachable)
  }

  #watch(recruited: RecruitedStage): void {
    if (recruited.kind !== 'remote') return
    void recruited.client.ended.then(({ message }) => {
      if (!this.#init.stages.includes(recruited)) return
      this.#pipeline.peerLost(recruited.stage.peerId, message)
      this.onLost()
    })
  }

  /** Tells a stage who its neighbours are now. */
  async #relink(at: number): Promise<void> {
    const { stages } = this.#init
    const recruited = stages[at]
    if (recruited?.kind !== 'remote') return
    const { client, leaseId, stage } = recruited
    const previous = stages[at - 1]!.stage.peerId
    const next = (stages[at + 1] ?? stages[0]!).stage.peerId
    await orStageLost(stage, 'did not take its new neighbour', () =>
      client.relink({ leaseId, previous, next })
    )
  }

  async #openSession(
    { sessionId, keepTokens, intactFrom, ...options }: SlotSession,
    signal: AbortSignal
  ): Promise<void> {
    const { sessions, peerId } = this.#components
    const { stages } = this.#init
    // Idle leases make room for others; see LeaseTable. Peers do the same by the sessions they see.
    this.#setIdle(false)
    sessions.addOwner(sessionId, this.#pipeline)
    // The last stage that has to compute anew what is kept hands nothing of it on.
    const kept = (at: number) => ({
      keepTokens: at < intactFrom ? 0 : keepTokens,
      withholdTokens: at === intactFrom - 1 ? keepTokens : 0
    })
    for (const [at, stage] of this.#locals) {
      await stage.open(sessionId, { ...options, ...kept(at) })
      if (at > 0) sessions.serve(sessionId, { stage, previous: stages[at - 1]!.stage.peerId, source: peerId })
    }
    await Promise.all(
      stages.map(async (recruited, at) => {
        if (recruited.kind !== 'remote') return
        const { client, leaseId, stage } = recruited
        await orStageLost(stage, 'did not open a session', () =>
          client.open({ sessionId, leaseId, ...options, ...kept(at) }, { signal })
        )
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

  /** Tells all, waits for those that can answer; resolves to the ids of these that did not confirm it in time. */
  async #closeOnPeers(sessionId: string): Promise<Set<string>> {
    const unreachable = this.#unreachable
    const unconfirmed = new Set<string>()
    await Promise.all(
      this.#init.stages.map(async recruited => {
        if (recruited.kind !== 'remote') return
        const { client, stage } = recruited
        const closing = client
          .close(sessionId, { timeoutMs: CLOSE_TIMEOUT_MS })
          .catch(() => void unconfirmed.add(stage.peerId))
        if (!unreachable.has(stage.peerId)) await closing
      })
    )
    return unconfirmed
  }

  /** The peer that ended the pipeline, and who is silent: nobody waits for what they have to say. */
  get #unreachable(): ReadonlySet<string> {
    const { failure } = this.#pipeline
    const unreachable = new Set(this.#components.suspects())
    if (failure instanceof StageLostError) unreachable.add(failure.peerId)
    return unreachable
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

function remoteStages(stages: readonly RecruitedStage[]): PlannedStage[] {
  return stages.flatMap(({ kind, stage }) => (kind === 'remote' ? [stage] : []))
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
  unreachable: ReadonlySet<string> = new Set()
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
        if (!unreachable.has(stage.peerId)) await client.release(leaseId, { timeoutMs }).catch(() => {})
        // Which ends the lease, too, once the peer hears of it.
        client.end()
      }
    })
  )
}

import { EventEmitter } from 'node:events'
import type { DeploymentState, PlannedStage, Predicted, Strategy } from '../../api.ts'
import { LEASE_RENEW_MS } from '../../constants.ts'
import { StageLostError } from '../../errors.ts'
import type { Peers } from '../../mesh/peers.ts'
import type { StageRoom } from '../../stage/room.ts'
import type { Answer, AnswerRequest } from '../pipeline/answer.ts'
import type { MayCut } from '../pipeline/dropped-tokens.ts'
import type { SlotRequest } from '../pipeline/kv-slots.ts'
import { Pipeline } from '../pipeline/pipeline.ts'
import type { SlowStage } from '../pipeline/slowness.ts'
import type { AnswerTokens } from '../pipeline/source-session.ts'
import { Chain } from './chain.ts'
import { type HeldStage, OwnStage } from './held-stage.ts'

const TAKEN_OFF = 'the model was taken off its devices'

export interface DeploymentComponents {
  peers: Pick<Peers, 'peerId' | 'suspects' | 'send'>
  room: Pick<StageRoom, 'sessions'>
}

export interface DeploymentInit {
  modelId: string
  /** Tokens that the model has. */
  vocabSize: number
  /** Values of a token's hidden states. */
  hiddenSize: number
  /** Some of its layers have states. */
  hasState: boolean
  /** Says where KV caches of the model may be cut. */
  mayCut: MayCut
  predicted: Predicted
  /** The stages in the order of the plan. The first one is this node's own. */
  stages: readonly HeldStage[]
  /** Tokens that each session has room for. */
  contextTokens: number
  slots: number
  microBatches: number
  strategy: Strategy
  /** Running answers wait for short prompts that join; see `PipelineInit`. */
  promptsFirst: boolean
  /** One of its stages holds up every step since some time ago. */
  onSlow: (deployment: Deployment, slow: SlowStage) => void
}

/** A model placed on devices and ready: its stages are loaded and leased to this source, which takes them over. */
export class Deployment {
  readonly #init: DeploymentInit
  readonly #renewal: NodeJS.Timeout
  readonly #chain: Chain
  readonly #pipeline: Pipeline
  /** `lost`: a peer has ended its lease, or the connection to it broke. */
  readonly events = new EventEmitter<{ lost: [] }>()
  #wanted = false
  #used = false
  #released: Promise<void> | undefined

  constructor({ peers, room: { sessions } }: DeploymentComponents, init: DeploymentInit) {
    this.#init = init
    this.#chain = new Chain(peers.peerId, init.stages, sessions)
    const { slots, microBatches, strategy, promptsFirst, predicted, ...model } = init
    const { vocabSize, hiddenSize, hasState, mayCut } = model
    this.#pipeline = new Pipeline(
      { stages: this.#chain, sessions, peers },
      {
        ...{
          slots,
          microBatches,
          strategy,
          promptsFirst,
          predicted,
          vocabSize,
          hiddenSize,
          hasState,
          mayCut
        },
        onSlow: slow => init.onSlow(this, slow)
      }
    )
    this.#renewal = setInterval(() => void this.#renew(), LEASE_RENEW_MS)
    this.#renewal.unref()
    for (const stage of init.stages) this.#watch(stage)
  }

  /** True when one of its stages on this device is held by that lease. */
  holds(leaseId: string): boolean {
    return this.#chain.holds(leaseId)
  }

  /** True when nothing can be opened on it, for good or until it is repaired. */
  get ended(): boolean {
    return this.#released !== undefined || this.#pipeline.failure !== undefined
  }

  /** Peers that ended it, or are silent; none while it has not ended. */
  get lostPeerIds(): ReadonlySet<string> {
    return this.#released === undefined && this.ended ? this.#pipeline.unreachable : new Set()
  }

  /** Index in the plan of the stage that ended it, where that is a peer's and all other peers are well. */
  get lostStage(): number | undefined {
    const { lostPeerIds } = this
    const lost = this.plan.stages.flatMap(({ peerId }, at) => (lostPeerIds.has(peerId) ? [at] : []))
    return lost.length === 1 ? lost[0] : undefined
  }

  /** True when other sources stand in line for the memory of one of its devices. */
  get wanted(): boolean {
    return this.#wanted
  }

  /** True when a session was open on all of its stages: their leases make room for others now, when none is. */
  get used(): boolean {
    return this.#used
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

  /** How long each answer is that is being drawn. */
  get answers(): AnswerTokens[] {
    return this.#pipeline.answers
  }

  get contextTokens(): number {
    return this.#init.contextTokens
  }

  /** Tokens that a request would find in the KV caches of all stages. */
  cachedTokens(request: SlotRequest): number {
    return this.#pipeline.cachedTokens(request)
  }

  /** How many tokens the KV caches of all stages have of each conversation that others may come back to. */
  heldBeside(request?: SlotRequest): number[] {
    return this.#pipeline.heldBeside(request)
  }

  get plan(): { stages: PlannedStage[] } {
    return { stages: [...this.#chain.planned] }
  }

  get predicted(): Predicted {
    return this.#pipeline.predicted
  }

  get state(): Omit<DeploymentState, 'objective'> {
    const { modelId, slots, microBatches } = this.#init
    return { modelId, plan: this.plan, predicted: this.predicted, slots, microBatches, sessions: this.active }
  }

  /** Calls back whenever a session has ended or the deployment has. @returns what ends that */
  watch(onChange: () => void): () => void {
    return this.#pipeline.watch(onChange)
  }

  /** Resolves when a session has ended or the deployment has. */
  changed(signal: AbortSignal): Promise<void> {
    return this.#pipeline.changed(signal)
  }

  /**
   * Begins an answer, unless it is `full`.
   *
   * @throws {StageLostError} naming the peer that cannot
   */
  async open(request: AnswerRequest, signal: AbortSignal): Promise<Answer> {
    const answer = await this.#pipeline.open(request, signal)
    this.#used = true
    return answer
  }

  /**
   * Goes on with another device in the place of a lost one. Call when no session is open.
   *
   * @throws {StageLostError} when a neighbour is gone as well
   */
  async substitute(at: number, stage: HeldStage, predicted: Predicted): Promise<void> {
    if (this.#released !== undefined) {
      await stage.release({ reachable: true })
      throw new StageLostError(TAKEN_OFF, this.plan.stages[at]!.peerId)
    }
    this.#watch(stage)
    this.#used = false
    await this.#chain.substitute(at, stage)
    this.#pipeline.resume({ at, stages: this.#chain.length, predicted })
  }

  /** Ends every answer with an error; nothing can be opened until it is repaired. */
  fail(error: Error): void {
    this.#pipeline.fail(error)
  }

  /** Ends every answer with an error and every session, so that the leases are idle: what they have loaded stays loaded. */
  async closeSessions(): Promise<void> {
    this.#pipeline.fail(new Error(TAKEN_OFF))
    await this.#pipeline.closeAll()
  }

  /** Ends every answer and gives every lease back. */
  release(): Promise<void> {
    this.#released ??= this.#release()
    return this.#released
  }

  async #release(): Promise<void> {
    clearInterval(this.#renewal)
    this.#pipeline.fail(new Error(TAKEN_OFF))
    await this.#chain.release(this.#pipeline.unreachable)
  }

  #watch(stage: HeldStage): void {
    void stage.ended.then(error => {
      // Another one has its place.
      if (!this.#chain.has(stage)) return
      if (stage instanceof OwnStage) this.#pipeline.fail(error)
      else this.#pipeline.peerLost(stage.planned.peerId, error.message)
      this.events.emit('lost')
    })
  }

  async #renew(): Promise<void> {
    this.#wanted = await this.#chain.renew()
  }
}

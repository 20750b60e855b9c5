import { randomBytes } from 'node:crypto'
import type { Manifest } from '../../models/manifest.ts'
import type { Sampling } from '../../models/sampler.ts'
import type { StageLinks } from '../../protocols/stage/index.ts'
import { messageOf } from '../../protocols/text.ts'
import { LEASE_RENEW_MS } from '../constants.ts'
import { StageLostError } from '../errors.ts'
import type { LeaseTable } from '../serve/lease-table.ts'
import { hiddenFrame, type Sessions } from '../serve/sessions.ts'
import { Stage } from '../serve/stage.ts'
import type { PlannedStage, Predicted } from '../types.ts'
import { Pipeline } from './pipeline.ts'
import type { RecruitedStage } from './recruit.ts'

export interface DeploymentComponents {
  peerId: string
  leases: LeaseTable
  sessions: Sessions
  links: Pick<StageLinks, 'send'>
  suspects: () => Set<string>
}

export interface DeploymentInit {
  manifest: Manifest
  predicted: Predicted
  stages: RecruitedStage[]
  contextTokens: number
  objective: string
  privacy: string
}

/** A model placed on devices and ready: its stages are loaded and leased to this source, one session at a time. */
export class Deployment {
  readonly #components: DeploymentComponents
  readonly #init: DeploymentInit
  readonly #renewal: NodeJS.Timeout
  #ended = false

  constructor(components: DeploymentComponents, init: DeploymentInit, onEnd: () => void) {
    this.#components = components
    this.#init = init
    this.#renewal = setInterval(() => void this.#renew(), LEASE_RENEW_MS)
    this.#renewal.unref()
    for (const recruited of init.stages) {
      if (recruited.kind === 'remote') void recruited.client.ended.then(() => this.release().then(onEnd))
    }
  }

  /** True when one of its stages on this device is held by that lease. */
  holds(leaseId: string): boolean {
    return this.#init.stages.some(stage => stage.kind === 'local' && stage.lease.id === leaseId)
  }

  get ended(): boolean {
    return this.#ended
  }

  get plan(): { stages: PlannedStage[] } {
    return { stages: this.#init.stages.map(({ stage }) => stage) }
  }

  get predicted(): Predicted {
    return this.#init.predicted
  }

  /** True when a request with these needs can use this deployment as it is. */
  serves(request: { contextTokens: number; objective: string; privacy: string }): boolean {
    const { contextTokens, objective, privacy } = this.#init
    return (
      !this.#ended &&
      request.contextTokens <= contextTokens &&
      request.objective === objective &&
      request.privacy === privacy
    )
  }

  /**
   * Opens a session on every stage.
   *
   * @throws {StageLostError} naming the peer that cannot
   */
  async open({ sampling, signal }: { sampling: Sampling; signal: AbortSignal }): Promise<Pipeline> {
    const { sessions, suspects } = this.#components
    const { predicted } = this.#init
    const sessionId = randomBytes(16).toString('hex')
    const opened: (() => Promise<void>)[] = [async () => sessions.removeOwner(sessionId)]
    const onClose = async () => {
      await Promise.allSettled(opened.map(close => close()))
      this.#setIdle(true)
    }
    this.#setIdle(false)
    const owner: { pipeline?: Pipeline } = {}
    sessions.addOwner(sessionId, {
      receive: (peerId, frame) => owner.pipeline?.receive(peerId, frame),
      peerLost: (peerId, reason) => owner.pipeline?.peerLost(peerId, reason)
    })
    try {
      const first = await this.#openLocal(sessionId, 0, sampling, owner)
      opened.push(() => first.close())
      if (this.#lastIsTail()) {
        const tail = await this.#openLocal(sessionId, this.#init.stages.length - 1, sampling, owner)
        sessions.addStage(sessionId, {
          stage: tail,
          previous: this.#peerAt(-2),
          source: this.#components.peerId
        })
        opened.push(() => sessions.closeStage(sessionId))
      }
      await Promise.all(
        this.#remoteIndices().map(at => this.#openRemote(sessionId, at, sampling, signal, opened))
      )
      const remote = this.#remoteIndices().map(at => this.#init.stages[at]!.stage)
      owner.pipeline = new Pipeline({ sessionId, first, remote, predicted, signal, suspects, onClose })
      return owner.pipeline
    } catch (error) {
      await onClose()
      throw error
    }
  }

  /** Gives every lease back. */
  async release(): Promise<void> {
    if (this.#ended) return
    this.#ended = true
    clearInterval(this.#renewal)
    await Promise.allSettled(
      this.#init.stages.map(async recruited => {
        if (recruited.kind === 'local') {
          await recruited.shard.release()
          this.#components.leases.release(recruited.lease.id)
        } else {
          await recruited.client.release(recruited.leaseId).catch(() => {})
          recruited.client.end()
        }
      })
    )
  }

  /** Idle leases make room for others; see LeaseTable. Peers do the same by the sessions they see. */
  #setIdle(idle: boolean): void {
    for (const stage of this.#init.stages) {
      if (stage.kind === 'local') this.#components.leases.setIdle(stage.lease.id, idle)
    }
  }

  async #openLocal(
    sessionId: string,
    at: number,
    sampling: Sampling,
    owner: { pipeline?: Pipeline }
  ): Promise<Stage> {
    const recruited = this.#init.stages[at]!
    if (recruited.kind !== 'local') throw new Error(`stage ${at} of the plan is not on the source`)
    const { manifest, contextTokens } = this.#init
    const session = await recruited.shard.shard.open({ maxTokens: contextTokens, sampling })
    return new Stage({
      session,
      hiddenSize: manifest.shape.hiddenSize,
      maxTokens: contextTokens,
      deliver: async (output, step) => {
        if (output.kind === 'token') owner.pipeline?.accept(output.token)
        if (output.kind === 'hidden') {
          await this.#components.links.send(
            this.#peerAt(at + 1),
            hiddenFrame(sessionId, step, output.hidden.data)
          )
        }
      }
    })
  }

  async #openRemote(
    sessionId: string,
    at: number,
    sampling: Sampling,
    signal: AbortSignal,
    opened: (() => Promise<void>)[]
  ): Promise<void> {
    const recruited = this.#init.stages[at]!
    if (recruited.kind !== 'remote') return
    const { client, leaseId, stage } = recruited
    opened.push(() => client.close(sessionId))
    try {
      const { contextTokens: maxTokens } = this.#init
      const [previous, next] = [this.#peerAt(at - 1), this.#peerAt(at + 1)]
      await client.open({ sessionId, leaseId, maxTokens, previous, next, sampling }, { signal })
    } catch (error) {
      signal.throwIfAborted()
      const reason = messageOf(error)
      throw new StageLostError(
        `${stage.name} (${stage.peerId}) did not open a session: ${reason}`,
        stage.peerId
      )
    }
  }

  /** The peer of stage `at`; after the last one it is the source again, to which the token returns. */
  #peerAt(at: number): string {
    return this.#init.stages.at(at >= this.#init.stages.length ? 0 : at)!.stage.peerId
  }

  #remoteIndices(): number[] {
    return this.#init.stages.flatMap(({ kind }, at) => (kind === 'remote' ? [at] : []))
  }

  #lastIsTail(): boolean {
    return this.#init.stages.length > 1 && this.#init.stages.at(-1)!.kind === 'local'
  }

  async #renew(): Promise<void> {
    await Promise.allSettled(
      this.#init.stages.map(async recruited => {
        if (recruited.kind === 'local') this.#components.leases.renew(recruited.lease.id)
        // A lease that cannot be renewed is over; ending the stream ends the deployment.
        else await recruited.client.renew(recruited.leaseId).catch(() => recruited.client.end())
      })
    )
  }
}

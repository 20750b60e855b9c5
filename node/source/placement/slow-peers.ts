import { StageLostError } from '../../errors.ts'
import type { Peers } from '../../mesh/peers.ts'
import type { SlowStage } from '../pipeline/slowness.ts'
import type { DeployRequest } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import type { Distrust } from './distrust.ts'
import { worthLeaving } from './improvement.ts'
import type { Moves } from './moves.ts'
import type { Planning } from './planning.ts'

export interface SlowPeersComponents {
  peers: Pick<Peers, 'peerId'>
  planning: Planning
  distrust: Distrust
}

/** Leaves peers that have turned slow. */
export class SlowPeers {
  readonly #components: SlowPeersComponents
  /** What moves answers without a pause, where that is possible. */
  moves: Pick<Moves, 'spare'> | undefined

  constructor(components: SlowPeersComponents) {
    this.#components = components
  }

  /**
   * Has the answers of a deployment go over to other devices when these would finish them sooner than with a slow stage; where
   * there is no room for that, it fails as if the stage were lost.
   */
  async leave(
    deployment: Deployment,
    request: DeployRequest,
    { stage, way, beforeMs, recentMs }: SlowStage
  ): Promise<void> {
    const { peers, planning, distrust } = this.#components
    const { stages } = deployment.plan
    // A token that comes back late was sent late, perhaps, whatever its sender says of it.
    const own = stages[stage]!.peerId === peers.peerId
    const at = way && own ? (stage === 0 ? stages.length : stage) - 1 : stage
    const { peerId, name, layers } = stages[at]!
    if (peerId === peers.peerId) return
    const without = new Set([...request.avoid, peerId])
    const now = { answers: deployment.answers, stepMs: recentMs }
    if (!(await worthLeaving(planning, request, without, now))) return
    // It may have been lost meanwhile, or replaced.
    if (deployment.ended || deployment.plan.stages[at]?.peerId !== peerId) return
    const steps = `a token takes ${Math.round(recentMs)} ms instead of ${Math.round(beforeMs)} ms`
    const message = `stage slow: ${name} (${peerId}) with layers [${layers[0]}, ${layers[1]}): ${steps}`
    distrust.slow(peerId)
    if (await this.moves?.spare(deployment, peerId)) return
    if (deployment.ended || deployment.plan.stages[at]?.peerId !== peerId) return
    deployment.fail(new StageLostError(message, peerId))
  }
}

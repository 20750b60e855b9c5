import { logger } from '../../../models/log.ts'
import { messageOf } from '../../../protocols/text.ts'
import { HANDOVER_RETRY_MS } from '../../constants.ts'
import { delay } from '../../delay.ts'
import { StageHandedOverError } from '../../errors.ts'
import type { DeployComponents } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { fitsElsewhere } from './improvement.ts'
import type { Moves } from './moves.ts'
import { isDraining, type Placer, type ReadyRequest } from './placer.ts'
import { install, recruitSubstitute } from './repair.ts'
import type { Site } from './site.ts'

const log = logger('edgeshard:source')

/**
 * Moves what this source has placed on devices that are being drained to others, before these go, so that no answer is
 * cut and none draws another token:
 *
 * 1. where the others have the memory beside what runs, the answers go over to them between two tokens (`Moves.leave`);
 * 2. where another device has the memory for the stage alone, it loads the layers while the answers go on, and they stop and
 *    go on with it;
 * 3. where the model fits elsewhere once its memory is free, the answers stop, and go on where it is placed anew;
 * 4. where it fits nowhere else, they come to their end where they are.
 */
export class Handover {
  readonly #components: Pick<DeployComponents, 'planning' | 'recruiter'>
  readonly #placer: Placer
  readonly #moves: Pick<Moves, 'leave'>
  /** Sites that are being looked after. */
  readonly #moving = new Set<Site>()
  readonly #closing = new AbortController()

  constructor(
    components: Pick<DeployComponents, 'planning' | 'recruiter'>,
    placer: Placer,
    moves: Pick<Moves, 'leave'>
  ) {
    this.#components = components
    this.#placer = placer
    this.#moves = moves
  }

  /**
   * Begins to move what has to be moved, where that has not begun: call whenever the directory has changed, and whenever something
   * was placed: a device may have begun to be drained while it was loading.
   */
  look(sites: Iterable<Site>): void {
    if (this.#components.planning.draining.length === 0) return
    for (const site of sites) {
      if (this.#moving.has(site) || !this.#hasToMove(site.deployment)) continue
      this.#moving.add(site)
      void this.#move(site)
        .catch(log.passOver('a model was not handed over; it is placed anew when its device is gone'))
        .finally(() => this.#moving.delete(site))
    }
  }

  /** Moves nothing any more. */
  close(): void {
    this.#closing.abort(new Error('the node is stopping'))
  }

  #hasToMove(deployment: Deployment | undefined): deployment is Deployment {
    return deployment !== undefined && !deployment.ended && isDraining(this.#components.planning, deployment)
  }

  /** Goes on until nothing is left on devices that are being drained, or they are no more. */
  async #move(site: Site): Promise<void> {
    const { signal } = this.#closing
    for (;;) {
      const { deployment } = site
      const request = deployment && this.#placer.placedFor(deployment)
      if (!this.#hasToMove(deployment) || request === undefined) return
      // Nothing of the request that it was placed for is lost with it any more: no device that goes is taken again.
      const fresh = { known: [], begun: false, avoid: new Set<string>(), lost: undefined }
      const asked = { ...request, ...fresh, requestId: undefined }
      if (await this.#moves.leave(site, deployment)) continue
      if (site.deployment !== deployment) continue
      if (await this.#substituted(site, deployment, asked)) continue
      if (deployment.active === 0) {
        await this.#placedAnew(site, deployment, asked)
        // A request may have begun on it meanwhile.
        continue
      }
      const needs = { ...asked, contextTokens: deployment.contextTokens }
      if (await fitsElsewhere(this.#components.planning, needs, deployment.plan.stages)) {
        // The answers come back for a place by themselves.
        if (this.#hasToMove(deployment)) deployment.fail(this.#handedOver(deployment))
        return
      }
      // A device may come, an answer may end.
      await delay(HANDOVER_RETRY_MS, signal)
    }
  }

  /** @returns true where another device has the stage now */
  async #substituted(site: Site, deployment: Deployment, request: ReadyRequest): Promise<boolean> {
    const { signal } = this.#closing
    const { draining } = this.#components.planning
    const { stages } = deployment.plan
    const at = stages.findIndex(({ peerId }) => draining.includes(peerId))
    const { found } = await recruitSubstitute(this.#components, deployment, at, request, {
      signal,
      emit() {}
    })
    if (found === undefined) return false
    const isThere = () => site.deployment === deployment && deployment.plan.stages[at] === stages[at]
    if (!isThere() || !this.#hasToMove(deployment)) {
      await found.held.release({ reachable: true })
      return false
    }
    // Whoever has the turn may wait for these answers to end, so it hears of this first; and of those who come back for a place
    // this is the first in line.
    deployment.fail(this.#handedOver(deployment))
    const turn = await site.takeTurn(signal, { begun: true }).catch(async error => {
      await found.held.release({ reachable: true })
      throw error
    })
    try {
      if (isThere()) {
        await deployment.closeSessions()
        return await install(deployment, at, found, request)
      }
      await found.held.release({ reachable: true })
      return false
    } finally {
      turn.giveBack()
    }
  }

  /** No answer runs on it: it is placed on what other devices have free, or given back, so that its device can go. */
  async #placedAnew(site: Site, deployment: Deployment, request: ReadyRequest): Promise<void> {
    const { signal } = this.#closing
    const turn = await site.takeTurn(signal, { begun: true })
    try {
      if (site.deployment !== deployment || !this.#hasToMove(deployment) || deployment.active > 0) return
      const fits = await fitsElsewhere(this.#components.planning, request, deployment.plan.stages)
      if (fits) await this.#placer.ready(site, request, { turn, signal, emit() {} })
      else await site.clear()
    } catch (error) {
      log.debug('a model is not placed anew before it is asked for', () => ({ error: messageOf(error) }))
      if (site.deployment === deployment) await site.clear()
    } finally {
      turn.giveBack()
    }
  }

  #handedOver({ plan }: Deployment): StageHandedOverError {
    const { draining } = this.#components.planning
    const { peerId, name, layers } = plan.stages.find(stage => draining.includes(stage.peerId))!
    return new StageHandedOverError(
      `stage handed over: ${name} (${peerId}) with layers [${layers[0]}, ${layers[1]}) is being drained`,
      peerId
    )
  }
}

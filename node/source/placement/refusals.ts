import { logger } from '../../../models/log.ts'
import { PLAN_BUDGET_MS, WAIT_FOR_PEERS_MS } from '../../constants.ts'
import type { Peers } from '../../mesh/peers.ts'
import type { Refusal, ScenarioInput } from '../../plan/index.ts'
import type { PlanThread } from '../../plan/thread.ts'
import { refusalText } from '../../refusal-text.ts'
import { missingText } from './missing-peers.ts'
import { leastRoom } from './plan-room.ts'
import type { PlacementNeeds, Planning } from './planning.ts'

const log = logger('edgeshard:plan')

/** How long a refusal stands in a mesh that stays as it is: for the request that it was made ahead of, and its wait for peers. */
const REFUSED_MS = 2 * WAIT_FOR_PEERS_MS

export interface RefusalsComponents {
  peers: Pick<Peers, 'peerId' | 'known' | 'nameOf'>
  /** The devices that may be planned with, and those that are being drained. */
  devices: Pick<Planning, 'candidates' | 'draining'>
  /** Works out what would help. */
  planner: Pick<PlanThread, 'solve'>
  /** Milliseconds from any fixed moment. */
  now: () => number
}

/** Why requests are refused, in words, and until when that is said again without being worked out. */
export class Refusals {
  readonly #components: RefusalsComponents
  /** What was refused last. */
  #last: { of: string; message: string; untilMs: number } | undefined

  constructor(components: RefusalsComponents) {
    this.#components = components
  }

  /** What the refusal of a request hangs on: how much it needs, and what every device gives to models, whatever it holds now. */
  keyOf(needs: PlacementNeeds): string {
    const { model, objective, privacy, placement, exact } = needs
    const { source, peers } = this.#components.devices.candidates(needs)
    const sizes = [source, ...peers].map(({ record: { peerId, memory, processors } }) => [
      peerId,
      memory.budgetBytes,
      processors?.map(processor => processor.memory?.budgetBytes)
    ])
    const { contextTokens } = leastRoom(needs)
    return JSON.stringify([model.id, model.name, objective, privacy, placement, exact, contextTokens, sizes])
  }

  /** The message of a request with that key, where it was the last one and stands still. */
  standing(key: string): string | undefined {
    const last = this.#last
    return last?.of === key && this.#components.now() <= last.untilMs ? last.message : undefined
  }

  /** A request was refused; the same is said of the next one with that key. */
  keep(key: string, message: string): void {
    this.#last = { of: key, message, untilMs: this.#components.now() + REFUSED_MS }
  }

  /**
   * The message for a model that fits nowhere, without the devices that are missing.
   *
   * @param advisable the scenario to say with what it would fit, which takes as long as planning does some times over; absent: that
   * is not said
   */
  async messageOf(
    { model }: Pick<PlacementNeeds, 'model'>,
    refusal: Refusal,
    advisable?: ScenarioInput
  ): Promise<string> {
    const advised = advisable === undefined ? refusal : await this.#advised(advisable, refusal)
    return `${model.name} fits nowhere: ${this.reasonOf(advised)}`
  }

  /** A refusal's reason. Devices are called by their names, where they are what is wrong. */
  reasonOf(refusal: Refusal): string {
    const { peers } = this.#components
    const { advice, apart = [] } = refusal
    const text = refusalText(refusal)
    const ids =
      advice === undefined ? apart.flat() : [peers.peerId, ...peers.known.map(({ record }) => record.peerId)]
    return [...new Set(ids)].reduce((said, id) => said.replaceAll(id, peers.nameOf(id)), text)
  }

  /** A refusal's message with the devices that it was made without, as they are now. */
  withMissing(message: string): string {
    const { peers, devices } = this.#components
    const draining = devices.draining.map(peerId => peers.nameOf(peerId)).join(', ')
    const missing = missingText(peers)
    if (draining === '' && missing === '' && devices.candidates().peers.length === 0)
      return `${message}; no peer was found, see edgeshard peers`
    return [
      message,
      ...(draining === '' ? [] : [`being drained, and not counted: ${draining}`]),
      ...(missing === '' ? [] : [`not there any more: ${missing}`])
    ].join('; ')
  }

  /** The refusal of our own method with what would make the model fit. */
  async #advised(scenario: ScenarioInput, refusal: Refusal): Promise<Refusal> {
    const options = { explain: true, budgetMs: PLAN_BUDGET_MS }
    const explained = await this.#components.planner
      .solve(scenario, options)
      .catch(log.passOver('what would help a refused model was not worked out; it is refused all the same'))
    return explained?.feasible === false ? explained : refusal
  }
}

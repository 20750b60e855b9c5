import type { Manifest } from '../../models/manifest.ts'
import { CONTEXT_STEP_TOKENS, PLAN_BUDGET_MS, WAIT_FOR_PEERS_MS } from '../constants.ts'
import { PlanRefusedError, StageLostError } from '../errors.ts'
import { type Plan, parseScenario, plan, type ScenarioInput } from '../plan/index.ts'
import type { LinkState, Objective, Privacy } from '../types.ts'
import { type Candidate, snapshotScenario } from './scenario.ts'

/** What a request asks of a placement. */
export interface PlacementNeeds {
  model: { name: string; id: string; manifest: Manifest }
  promptTokens: number
  newTokens: number
  objective: Objective
  privacy: Privacy
}

export interface PlanningComponents {
  /** The devices as the directory knows them now. */
  candidates: () => { source: Candidate; peers: Candidate[] }
  /** The links between them, as measured. */
  linkStates: () => LinkState[]
  /** Measures the links to peers that were never measured; takes a moment right after a connect, else none. */
  measureLinks: (peerIds: string[], signal: AbortSignal) => Promise<void>
  /** Resolves when something in the directory changes, or after `ms`. */
  directoryChanged: (ms: number, signal: AbortSignal) => Promise<void>
  now: () => number
}

export interface PlanningHistory {
  /** Peers that refused this request: not asked again. */
  without: ReadonlySet<string>
  /** Peers that failed it: taken only where it cannot be placed without them. */
  avoid: ReadonlySet<string>
  /** Why this is not the first plan: thrown where there is no other. */
  failure?: Error | undefined
  /** The loss that made a new plan necessary. */
  lost?: StageLostError | undefined
}

/** Tokens that KV caches are reserved for: rounded up, so that the next, slightly longer request still fits. */
export function contextTokensFor({ model, promptTokens, newTokens }: PlacementNeeds): number {
  const steps = Math.ceil((promptTokens + newTokens) / CONTEXT_STEP_TOKENS)
  return Math.min(model.manifest.shape.contextLength, steps * CONTEXT_STEP_TOKENS)
}

/** The mesh as a scenario of the planner. */
export function scenarioFor(
  { candidates, linkStates }: PlanningComponents,
  needs: PlacementNeeds,
  accept: (peerId: string) => boolean = () => true
): ScenarioInput {
  const { source, peers } = candidates()
  const { model, promptTokens, newTokens, objective, privacy } = needs
  return snapshotScenario({
    modelId: model.id,
    modelName: model.name,
    manifest: model.manifest,
    source,
    peers: peers.filter(({ record }) => accept(record.peerId)),
    links: linkStates(),
    promptTokens,
    newTokens,
    contextTokens: contextTokensFor(needs),
    objective,
    privacy
  })
}

/**
 * The planner's answer over the devices there are now; before a refusal, late peers get a chance to come.
 *
 * @throws {PlanRefusedError} with what is needed and what there is; {StageLostError} where a loss cannot be replaced
 */
export async function planFor(
  components: PlanningComponents,
  needs: PlacementNeeds,
  { without, avoid, failure, lost }: PlanningHistory,
  { signal }: { signal: AbortSignal }
): Promise<Plan> {
  const { now, candidates, measureLinks, directoryChanged } = components
  const deadlineMs = now() + WAIT_FOR_PEERS_MS
  const over = (accept: (peerId: string) => boolean) =>
    plan(parseScenario(scenarioFor(components, needs, accept)), {
      now,
      budgetMs: PLAN_BUDGET_MS,
      explain: false
    })
  for (;;) {
    const { peers } = candidates()
    await measureLinks(
      peers.map(({ record }) => record.peerId),
      signal
    )
    let answer = over(peerId => !without.has(peerId) && !avoid.has(peerId))
    if (!answer.feasible && avoid.size > 0) answer = over(peerId => !without.has(peerId))
    if (answer.feasible) return answer
    if (failure !== undefined) throw failure
    const leftMs = deadlineMs - now()
    if (leftMs <= 0) {
      if (lost !== undefined) {
        throw new StageLostError(
          `${lost.message}; the rest cannot hold the model: ${answer.reason}`,
          lost.peerId
        )
      }
      const alone = peers.length === 0 ? '; no peer was found, see edgeshard peers' : ''
      throw new PlanRefusedError(`${needs.model.name} fits nowhere: ${answer.reason}${alone}`)
    }
    await directoryChanged(leftMs, signal)
  }
}

import type { Manifest } from '../../models/manifest.ts'
import { CONTEXT_STEP_TOKENS, PLAN_BUDGET_MS, WAIT_FOR_MEMORY_MS, WAIT_FOR_PEERS_MS } from '../constants.ts'
import { PlanRefusedError, StageLostError } from '../errors.ts'
import { type Plan, parseScenario, plan, type ScenarioInput } from '../plan/index.ts'
import type { LinkState, Objective, Privacy } from '../types.ts'
import type { PlacingHistory } from './place.ts'
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

export interface PlanningHistory extends PlacingHistory {
  /** Peers that failed the request before: taken only where it cannot be placed without them. */
  avoid: ReadonlySet<string>
  /** The loss that made a new plan necessary. */
  lost?: StageLostError | undefined
}

/** Tokens that KV caches are reserved for: rounded up, so that the next, slightly longer request still fits. */
export function contextTokensFor({ model, promptTokens, newTokens }: PlacementNeeds): number {
  const steps = Math.ceil((promptTokens + newTokens) / CONTEXT_STEP_TOKENS)
  return Math.min(model.manifest.shape.contextLength, steps * CONTEXT_STEP_TOKENS)
}

/** What of a device's memory a plan counts on: what no lease in use holds, or all that stages may have. */
type Memory = 'free' | 'budget'

/** The mesh as a scenario of the planner. */
export function scenarioFor(
  { candidates, linkStates }: PlanningComponents,
  needs: PlacementNeeds,
  { accept = () => true, memory = 'free' }: { accept?: (peerId: string) => boolean; memory?: Memory } = {}
): ScenarioInput {
  const { source, peers } = candidates()
  const counted = (candidate: Candidate): Candidate =>
    memory === 'free' ? candidate : { ...candidate, memoryBytes: candidate.record.memory.budgetBytes }
  const { model, promptTokens, newTokens, objective, privacy } = needs
  return snapshotScenario({
    modelId: model.id,
    modelName: model.name,
    manifest: model.manifest,
    source: counted(source),
    peers: peers.filter(({ record }) => accept(record.peerId)).map(counted),
    links: linkStates(),
    promptTokens,
    newTokens,
    contextTokens: contextTokensFor(needs),
    objective,
    privacy
  })
}

/** A plan, and how long its memory may be waited for: it is in use, or free as far as is known. */
export interface Placeable {
  plan: Plan
  waitMs: number
}

/**
 * The planner's answer over the memory that is free now; where that is too little, over the budgets, to be waited for.
 * Before a refusal, late peers get a chance to come.
 *
 * @throws {PlanRefusedError} with what is needed and what there is; {StageLostError} where a loss cannot be replaced
 */
export async function planFor(
  components: PlanningComponents,
  needs: PlacementNeeds,
  { refused, failed, avoid, failure, lost }: PlanningHistory,
  { signal }: { signal: AbortSignal }
): Promise<Placeable> {
  const { now, candidates, measureLinks, directoryChanged } = components
  const deadlineMs = now() + WAIT_FOR_PEERS_MS
  const over = (accept: (peerId: string) => boolean, memory: Memory) =>
    plan(parseScenario(scenarioFor(components, needs, { accept, memory })), {
      now,
      budgetMs: PLAN_BUDGET_MS,
      explain: false
    })
  for (;;) {
    const { source, peers } = candidates()
    await measureLinks(
      peers.map(({ record }) => record.peerId),
      signal
    )
    const present = (peerId: string) => !failed.has(peerId)
    const offering = (peerId: string) => present(peerId) && !refused.has(peerId)
    const among = (accept: (peerId: string) => boolean, memory: Memory) => {
      const answer = over(peerId => accept(peerId) && !avoid.has(peerId), memory)
      return answer.feasible || avoid.size === 0 ? answer : over(accept, memory)
    }
    let answer = refused.has(source.record.peerId) ? undefined : among(offering, 'free')
    if (answer?.feasible) return { plan: answer, waitMs: 0 }
    answer = among(present, 'budget')
    if (answer.feasible) return { plan: answer, waitMs: WAIT_FOR_MEMORY_MS }
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

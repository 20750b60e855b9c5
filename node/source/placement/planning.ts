import { availableParallelism } from 'node:os'
import { logger } from '../../../models/log.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { cpuQuota } from '../../../models/runtime/cpu-quota.ts'
import { orAborted } from '../../aborted.ts'
import type {
  LayerProfile,
  LinkState,
  Objective,
  PlacementOptions,
  PlannedStage,
  Privacy
} from '../../api.ts'
import {
  MAX_BATCH,
  PLAN_BUDGET_MS,
  PROFILE_PATIENCE_MS,
  WAIT_FOR_MEMORY_MS,
  WAIT_FOR_PEERS_MS
} from '../../constants.ts'
import { PlanRefusedError, StageLostError } from '../../errors.ts'
import type { Peers } from '../../mesh/peers.ts'
import {
  isAllowed,
  type Method,
  type Plan,
  type Predicted,
  parseScenario,
  predict,
  type Refusal,
  type ScenarioInput
} from '../../plan/index.ts'
import type { PlanThread } from '../../plan/thread.ts'
import type { Profiler } from '../../profile/profiler.ts'
import { besideFor } from '../../record-processors.ts'
import type { LeaseTable } from '../../stage/lease-table.ts'
import { type Candidate, placesOf, withAllMemory, withTimes } from './candidate.ts'
import { believedMemories } from './claims.ts'
import type { Corrections } from './corrections.ts'
import { DeviceTimes } from './device-times.ts'
import { FirstTokens } from './first-tokens.ts'
import { distinctPairs, FoundApart } from './found-apart.ts'
import { KnownTimes } from './known-times.ts'
import { LoadTimes } from './load-times.ts'
import { OwnLoads } from './own-loads.ts'
import type { PlacingHistory } from './place.ts'
import { isRoutable, stagePlanOf } from './places.ts'
import { fitsWhole, leastRoom, type Room, roomy } from './plan-room.ts'
import { Refusals } from './refusals.ts'
import { oneMemoryEach, snapshotScenario } from './scenario.ts'
import type { SettledTimes } from './settled-times.ts'
import { TriedPlans, triedFor } from './tried-plans.ts'

const log = logger('edgeshard:plan')

/** What a request asks of a placement. */
export interface PlacementNeeds {
  /** Whether its answers are computed to the bit: sequences have lanes of their own then. @default false */
  exact?: boolean | undefined
  /** What the request is called on every device that works on it. */
  requestId?: string | undefined
  model: { name: string; id: string; manifest: Manifest }
  /** Tokens that are in the KV caches before the prompt. @default 0 */
  cachedTokens?: number
  promptTokens: number
  newTokens: number
  /** A plan for more of them was refused just now: late peers had their chance, and why that one was refused is what is said. */
  isShortened?: boolean
  /** Late peers have their chance before or behind it: nobody waits for them here. */
  isHasty?: boolean
  /** Part of the answer is out, or others of its request have had a place: for want of others, devices that are being drained may be taken for the rest. */
  begun?: boolean | undefined
  objective: Objective
  privacy: Privacy
  placement: PlacementOptions
  /** Guesses at its tokens that are fed ahead; absent: none, or nothing is known of how many are right. */
  guesses?: ExpectedGuesses | undefined
  /** Tokens that the KV cache of each sequence must have room for, where that is more than the request needs. */
  contextTokens?: number
  /** Stages of the deployment that this one takes the place of: no session is open on them any more. */
  replaced?: readonly PlannedStage[] | undefined
}

/** What earlier answers say of the guesses at the next one. */
export interface ExpectedGuesses {
  /** Share that is right, 0 to 1. */
  acceptance: number
  /** Bytes of weights that a guess reads on the source; 0 where it is looked up. */
  draftBytes: number
}

export interface PlanningComponents {
  peers: Pick<
    Peers,
    'peerId' | 'self' | 'known' | 'links' | 'apart' | 'events' | 'measure' | 'glance' | 'nameOf'
  >
  /** This node's own memory, and that of the processor which computes beside the one that it uses. */
  leases: Pick<LeaseTable, 'freeBytes'>
  besideLeases?: Pick<LeaseTable, 'freeBytes'> | undefined
  /** Solves scenarios off the network's thread. */
  planner: Pick<PlanThread, 'begin' | 'solve'>
  /** What answers have taught of the cost model's constants. */
  corrections: Corrections
  /** What earlier runs have settled on. @default nothing */
  settled?: SettledTimes
  /** Makes sure that this device has timed a model's layers. */
  profiler: Pick<Profiler, 'time'>
  /** Milliseconds from any fixed moment. */
  now: () => number
}

export interface PlanningHistory extends PlacingHistory {
  /** Peers that are taken only where nothing fits without them, in the order in which they were left. */
  avoid: ReadonlySet<string>
  /** The loss that made a new plan necessary. */
  lost?: StageLostError | undefined
}

/** What a request still asks where so many of its tokens are in KV caches, which may be all of its prompt and what is known of its answer. */
export function behindCached<N extends PlacementNeeds>(needs: N, heldTokens: number): N {
  // Plans know no prompt of less than one.
  const cachedTokens = Math.min(heldTokens, needs.promptTokens - 1)
  return { ...needs, cachedTokens, promptTokens: needs.promptTokens - cachedTokens }
}

/** What a request takes one sequence, with its guesses where it has any. */
export function requestMsOf(
  { ttftMs, tpotMs, speculatedTpotMs }: Pick<Predicted, 'ttftMs' | 'tpotMs' | 'speculatedTpotMs'>,
  newTokens: number
): number {
  return ttftMs + (newTokens - 1) * (speculatedTpotMs ?? tpotMs)
}

/** Whether a request says itself by which method it is placed, or how it is run: another plan would not be what it asks for. */
export function isPrescribed({ placement }: Pick<PlacementNeeds, 'placement'>): boolean {
  const { method, microBatches, strategy } = placement
  return (method ?? microBatches ?? strategy) !== undefined
}

/** Predictions that differ by no more than that do not say which of two plans is better. */
const AS_GOOD_FACTOR = 1.02

/** Share of the budget that a second search has at least, behind one that has used it up. */
const LEAST_SHARE = 0.25

/** What of a device's memory a plan counts on: what no lease in use holds, or all that stages may have. */
type Memory = 'free' | 'budget'

interface SnapshotOptions {
  accept?: (peerId: string) => boolean
  memory?: Memory
  /** What a deployment for latency has room for; it is priced for one sequence. */
  room?: Room
  /** Counts in what answers have taught. @default true */
  corrected?: boolean
  /** Devices that cannot reach each other are linked through this one. @default false */
  relayed?: boolean
}

/** A plan, and the room that it is recruited with. */
export interface Placeable extends Room {
  plan: Plan
  /** How long its memory may be waited for: it is in use, or free as far as is known. */
  waitMs: number
}

/** The mesh as this source plans with it: the devices and links that there are now, and the planner over them. */
export class Planning {
  readonly corrections: Corrections
  /** The placements that answers have measured. */
  readonly tried: TriedPlans
  /** How long placements took to load. */
  readonly loads: LoadTimes
  /** How much later than planned first tokens came. */
  readonly firsts = new FirstTokens()
  /** What loads on this device take beside what begins with them. */
  readonly ownLoads: OwnLoads
  readonly now: () => number
  readonly #components: PlanningComponents
  readonly #times: DeviceTimes
  readonly #refusals: Refusals
  readonly #foundApart: FoundApart
  /** Links that are measured for a plan to come. */
  #ahead: Promise<void> = Promise.resolve()

  constructor(components: PlanningComponents) {
    const { peers, corrections, planner, now } = components
    this.#components = components
    this.corrections = corrections
    this.now = now
    this.tried = new TriedPlans(now)
    this.loads = new LoadTimes(components.settled)
    this.ownLoads = new OwnLoads(() => cpuQuota() ?? availableParallelism(), now)
    this.#times = new DeviceTimes({ peers, corrections, others: () => this.candidates().peers })
    this.#refusals = new Refusals({ peers, planner, now, devices: this })
    this.#foundApart = new FoundApart(now)
    peers.events.on('lost', peerId => this.#foundApart.forget(peerId))
  }

  /** The links between the devices, as measured. */
  get links(): LinkState[] {
    return this.#components.peers.links
  }

  /** Pairs of peers that are not connected, as they say themselves or an answer has found lately. */
  get apart(): (readonly [string, string])[] {
    return [...this.#components.peers.apart, ...this.#foundApart.pairs]
  }

  isApart(a: string, b: string): boolean {
    return this.apart.some(pair => pair.includes(a) && pair.includes(b))
  }

  /** An answer found two peers unable to reach each other, whatever they say. Where one of them is gone, that was why. */
  foundApart(pair: readonly [string, string]): void {
    if (pair.every(peerId => this.candidate(peerId) !== undefined)) this.#foundApart.add(pair)
  }

  /** Connected peers that are being drained: they grant nothing, and what is there has to go elsewhere. */
  get draining(): string[] {
    return this.#components.peers.known.flatMap(({ connected, record: { peerId, draining } }) =>
      connected && draining === true ? [peerId] : []
    )
  }

  /** The devices as the directory knows them now, but those that are silent, and as a rule those that are being drained. */
  candidates({ begun = false }: Pick<PlacementNeeds, 'begun'> = {}): {
    source: Candidate
    peers: Candidate[]
  } {
    const { peers, leases, besideLeases } = this.#components
    return {
      source: {
        record: peers.self,
        memoryBytes: leases.freeBytes,
        besideBytes: besideLeases?.freeBytes,
        rttMs: 0
      },
      peers: peers.known
        .filter(({ connected, suspect }) => connected && !suspect)
        .filter(({ record }) => begun || record.draining !== true)
        .map(({ record, rttMs }) => {
          const believed = { ...record, ...believedMemories(record) }
          return { record: believed, memoryBytes: believed.memory.freeBytes, rttMs }
        })
    }
  }

  /** This device's times of a model: as it has timed it, else likened to others', else what its bytes say. */
  ownTimes(model: Pick<PlacementNeeds['model'], 'id' | 'manifest'>): LayerProfile {
    return this.#times.own(model)
  }

  /** Devices' times of a model as they are planned with, in order; undefined for those that have never timed it. */
  believedProfiles(
    places: readonly { record: Candidate['record']; processor?: string | undefined }[],
    model: Pick<PlacementNeeds['model'], 'id' | 'manifest'>
  ): (LayerProfile | undefined)[] {
    return this.#times.believed(places, model)
  }

  /** A device that may be planned with. */
  candidate(peerId: string): Candidate | undefined {
    const { source, peers } = this.candidates({ begun: true })
    return [source, ...peers].find(({ record }) => record.peerId === peerId)
  }

  /** Begins what a plan over several devices will need, for a request whose prompt is still being read. */
  prepare(signal: AbortSignal): void {
    const { length: peers } = this.candidates().peers
    if (peers === 0) return
    this.#components.planner.begin(1 + peers)
    this.#ahead = this.measure(signal).catch(log.passOver('measuring links ahead ended; the plan does it'))
  }

  /** Measures the links to all devices that were never measured. */
  async measure(signal: AbortSignal): Promise<void> {
    // A link is not measured by two at once.
    await orAborted(this.#ahead, signal)
    const peerIds = this.candidates().peers.map(({ record }) => record.peerId)
    await this.#components.peers.measure(peerIds, { signal })
  }

  /** Looks roughly at links and round trips of some devices, where nothing is known of them: before running answers move there. */
  async glance(peerIds: readonly string[], signal: AbortSignal): Promise<void> {
    const others = peerIds.filter(peerId => peerId !== this.#components.peers.peerId)
    await this.#components.peers.glance(others, { signal })
  }

  /** The mesh as a scenario of the planner. */
  scenario(
    needs: PlacementNeeds,
    {
      accept = () => true,
      memory = 'free',
      room = leastRoom(needs),
      corrected = true,
      relayed = false
    }: SnapshotOptions = {}
  ): ScenarioInput {
    const { source, peers } = this.candidates(needs)
    const counted = (candidate: Candidate): Candidate =>
      memory === 'free' && !this.#isOnlyReplaced(candidate, needs)
        ? candidate
        : withAllMemory(candidate, needs.model.id)
    const { model, cachedTokens = 0, promptTokens, newTokens, objective, privacy, placement } = needs
    const { slots, contextTokens: maxTokens } = room
    const latency = objective === 'latency'
    const accepted = peers.filter(({ record }) => accept(record.peerId))
    const places = accepted.flatMap(candidate => placesOf(candidate, model.id))
    const profiles = this.believedProfiles(places, model)
    const believed = (peerId: string) =>
      places.flatMap(({ record, isBeside }, i) =>
        record.peerId === peerId ? [{ isBeside, profile: profiles[i] }] : []
      )
    return snapshotScenario({
      modelId: model.id,
      modelName: model.name,
      manifest: model.manifest,
      source: counted(source),
      untimed: this.ownTimes(model),
      peers: accepted.map(candidate => {
        const of = believed(candidate.record.peerId)
        return { ...counted(candidate), record: withTimes(candidate.record, model.id, of) }
      }),
      links: this.links,
      apart: distinctPairs(this.apart),
      relayed,
      cachedTokens,
      promptTokens,
      newTokens,
      room: { slots: latency ? slots : (placement.batch ?? MAX_BATCH), maxTokens },
      batch: latency ? 1 : (placement.batch ?? { max: MAX_BATCH }),
      cloud: placement.cloud,
      objective,
      privacy,
      exact: needs.exact,
      guesses: latency ? needs.guesses : undefined,
      ...(corrected && { corrections: this.corrections })
    })
  }

  /** The best plan of a scenario that is found within PLAN_BUDGET_MS. */
  async solve(scenario: ScenarioInput, method: Method = 'edgeshard'): Promise<Plan | Refusal> {
    const { planner } = this.#components
    const found = await planner.solve(scenario, { method, budgetMs: PLAN_BUDGET_MS })
    if (!found.feasible || isRoutable(found.stages)) return found
    // Between two stages of one device another one is hardly ever of use; where it is, devices are one processor each.
    const budgetMs = Math.max(LEAST_SHARE * PLAN_BUDGET_MS, PLAN_BUDGET_MS - found.solveMs)
    return await planner.solve(oneMemoryEach(scenario), { method, budgetMs })
  }

  /**
   * The plan over the memory that is free now; where that is too little, over the budgets, to be waited for.
   * Before a refusal, late peers get a chance to come.
   *
   * @throws {PlanRefusedError} with what is needed and what there is; {StageLostError} where a loss cannot be replaced
   */
  async plan(
    needs: PlacementNeeds,
    { refused, failed, avoid, failure, lost }: PlanningHistory,
    { signal }: { signal: AbortSignal }
  ): Promise<Placeable> {
    const { isShortened = false, isHasty = false } = needs
    const deadlineMs = this.now() + (isShortened || isHasty ? 0 : WAIT_FOR_PEERS_MS)
    const over = (accept: (peerId: string) => boolean, memory: Memory, relayed: boolean) =>
      roomy(needs, room =>
        this.solve(this.scenario(needs, { accept, memory, room, relayed }), needs.placement.method)
      )
    for (;;) {
      const refusedAs = (failure ?? lost) === undefined ? this.#refusals.keyOf(needs) : undefined
      const said = refusedAs === undefined ? undefined : this.#refusals.standing(refusedAs)
      if (said !== undefined) {
        const leftMs = deadlineMs - this.now()
        if (leftMs <= 0) throw new PlanRefusedError(this.#refusals.withMissing(said))
        await this.#changed(leftMs, signal)
        continue
      }
      // An answer that has lost a stage waits for its next token, not for a link that was never measured.
      if (lost === undefined && this.#hasChoice(needs)) {
        await this.measure(signal)
        log.of(needs.requestId).debug('links known')
        await this.#time(needs.model, signal)
      }
      const { source, peers } = this.candidates(needs)
      const present = (peerId: string) => !failed.has(peerId)
      const offering = (peerId: string) => present(peerId) && !refused.has(peerId)
      const among = async (accept: (peerId: string) => boolean, memory: Memory, relayed = false) => {
        const avoided = [...avoid].filter(
          id => accept(id) && peers.some(({ record }) => record.peerId === id)
        )
        // Who was left last is taken last: of those that an answer has lost one after the other, it is surest of that one.
        for (;;) {
          const found = await over(peerId => accept(peerId) && !avoided.includes(peerId), memory, relayed)
          if (found.result.feasible || avoided.shift() === undefined) return found
        }
      }
      const free = refused.has(source.record.peerId) ? undefined : await among(offering, 'free')
      if (free?.result.feasible) {
        const accept = (peerId: string) => offering(peerId) && !avoid.has(peerId)
        const options = { accept, room: free.room }
        // An answer that has lost a stage goes on where that is quickest done.
        const times = lost === undefined ? this.knownTimes(needs, free.result.batch, options) : undefined
        const known = times?.bestOf(free.result)
        const plan = known?.isMeasured ? known.plan : this.#orAsBefore(free.result, needs, options)
        return { plan, ...free.room, waitMs: 0 }
      }
      const { result, room } = await among(present, 'budget')
      if (result.feasible) return { plan: result, ...room, waitMs: WAIT_FOR_MEMORY_MS }
      signal.throwIfAborted()
      // Devices that cannot reach each other have this one hand on what they send: the last resort.
      if (result.apart !== undefined) {
        const now = refused.has(source.record.peerId) ? undefined : await among(offering, 'free', true)
        if (now?.result.feasible) return { plan: now.result, ...now.room, waitMs: 0 }
        const later = await among(present, 'budget', true)
        if (later.result.feasible) return { plan: later.result, ...later.room, waitMs: WAIT_FOR_MEMORY_MS }
      }
      if (failure !== undefined) throw failure
      const leftMs = deadlineMs - this.now()
      if (leftMs <= 0) {
        if (lost !== undefined) {
          throw new StageLostError(
            `${lost.message}; the rest cannot hold the model: ${this.#refusals.reasonOf(result)}`,
            lost.peerId
          )
        }
        const isAdvised = needs.placement.method === undefined && !isShortened
        const advisable = isAdvised
          ? this.scenario(needs, { accept: present, memory: 'budget', room })
          : undefined
        const message = await this.#refusals.messageOf(needs, result, advisable)
        const stands = refusedAs !== undefined && !isShortened && result.apart === undefined
        if (stands) this.#refusals.keep(refusedAs, message)
        throw new PlanRefusedError(this.#refusals.withMissing(message))
      }
      await this.#changed(leftMs, signal)
    }
  }

  /**
   * Times the model's layers here, for no longer than that is worth: what takes longer is done when nothing waits for it, and
   * times are assumed until then. Where they can be likened to another device's, nothing waits for it at all.
   */
  async #time(model: PlacementNeeds['model'], signal: AbortSignal): Promise<void> {
    if (this.#times.likened(model) !== undefined) return
    const over = new AbortController()
    const timer = setTimeout(
      () => over.abort(new Error('a plan waits for no more timing')),
      PROFILE_PATIENCE_MS
    )
    const timed = this.#components.profiler
      .time(model, { signal: over.signal })
      .catch(log.passOver('a model was not timed; its times are assumed'))
    try {
      await orAborted(Promise.race([timed, aborted(over.signal)]), signal)
    } finally {
      clearTimeout(timer)
    }
  }

  /**
   * What answers have measured of placements for a request; undefined where they have of none, or of none as it is run: a method
   * was asked for, or guesses ahead make other times of the same placement.
   */
  knownTimes(needs: PlacementNeeds, batch: number, options: SnapshotOptions): KnownTimes | undefined {
    if (isPrescribed(needs) || needs.guesses !== undefined) return undefined
    // Snapshots of a large mesh take their time.
    if (this.tried.known(triedFor(needs)).length === 0) return undefined
    const scenario = this.scenario(needs, options)
    const uncorrected = this.scenario(needs, { ...options, corrected: false })
    return new KnownTimes(this, { needs, scenario, uncorrected, batch })
  }

  /** False where this device computes all of it, or nobody does: no time of a layer or a link changes such a plan. */
  #hasChoice(needs: PlacementNeeds): boolean {
    const { id, manifest } = needs.model
    const { self } = this.#components.peers
    if (besideFor(self, id) !== undefined && !fitsWhole(needs, self.memory.budgetBytes)) return true
    const leastBytes = Math.min(...manifest.layers.map(({ bytes }) => bytes))
    return this.candidates().peers.some(({ record }) => record.memory.budgetBytes >= leastBytes)
  }

  /**
   * The stages that are replaced, where a plan is no better than them: among cuts that take the same time, as there are
   * many between devices that are alike, the planner's choice hangs on the last digit of a measured time. What stays
   * where it is need not be loaded.
   */
  #orAsBefore(plan: Plan, needs: PlacementNeeds, options: SnapshotOptions): Plan {
    const { replaced = [], newTokens, placement } = needs
    if (replaced.length === 0 || needs.objective !== 'latency' || placement.method !== undefined) return plan
    const problem = parseScenario(this.scenario(needs, options))
    const stages = replaced.map(stagePlanOf)
    const predicted = isAllowed(problem, stages) ? predict(problem, stages) : undefined
    if (predicted === undefined) return plan
    const [asBefore, planned] = [predicted, plan.predicted].map(each => requestMsOf(each, newTokens))
    if (asBefore! > AS_GOOD_FACTOR * planned!) return plan
    const requestMs = predicted.ttftMs + (newTokens - 1) * predicted.tpotMs
    return { ...plan, stages, predicted: { ...plan.predicted, ...predicted, requestMs } }
  }

  /**
   * True of a peer on which nothing is leased but stages that are replaced. These are idle, so all of its memory is free
   * to this source; its record says that only when it has heard of it, which is after the plan, as often as not.
   */
  #isOnlyReplaced({ record }: Candidate, { model, replaced = [] }: PlacementNeeds): boolean {
    const stages = replaced.filter(({ peerId }) => peerId === record.peerId)
    const { peerId } = this.#components.peers
    return (
      stages.length > 0 &&
      record.leases.every(
        ({ source, modelId, layers: [start, end] }) =>
          source === peerId &&
          modelId === model.id &&
          stages.some(({ layers }) => layers[0] === start && layers[1] === end)
      )
    )
  }

  /** Resolves when something in the directory changes, or after `ms`. */
  async #changed(ms: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const { events } = this.#components.peers
    await new Promise<void>((resolve, reject) => {
      const end = () => {
        clearTimeout(timer)
        events.off('change', end)
        signal.removeEventListener('abort', end)
        if (signal.aborted) reject(signal.reason)
        else resolve()
      }
      const timer = setTimeout(end, Math.ceil(ms))
      events.on('change', end)
      signal.addEventListener('abort', end)
    })
  }
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (!signal.aborted) await new Promise(resolve => signal.addEventListener('abort', resolve, { once: true }))
}

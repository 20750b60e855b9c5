import { EventEmitter } from 'node:events'
import { weightBytes } from '../../../models/runtime/memory.ts'
import { randomManifest } from '../../../models/runtime/random-weights.ts'
import type { LinkState, NodeRecord, Objective, PlannedStage } from '../../../node/api.ts'
import {
  METHODS,
  type Method,
  type Plan,
  parseScenario,
  plan,
  type Refusal
} from '../../../node/plan/index.ts'
import type { Problem } from '../../../node/plan/problem.ts'
import { type Observed, type Strategy, simulate } from '../../../node/plan/simulate.ts'
import { toSegments } from '../../../node/plan/to-plan.ts'
import { Corrections } from '../../../node/source/placement/corrections.ts'
import { worthMoving } from '../../../node/source/placement/improvement.ts'
import { type PlacementNeeds, Planning } from '../../../node/source/placement/planning.ts'
import { learnFrom, predictAnswer, predictPlacedRate } from '../../../node/source/placement/prediction.ts'
import type { SettledTimes } from '../../../node/source/placement/settled-times.ts'
import { prng } from '../../fixtures/prng.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'
import { shareBytes } from '../../fixtures/stored-model.ts'

const MODEL_ID = 'a'.repeat(64)
const manifest = randomManifest(
  {
    ...TINY_SHAPE,
    decoderLayers: 12,
    hiddenSize: 1024,
    ffnSize: 2816,
    heads: 16,
    kvHeads: 4,
    headSize: 64,
    contextLength: 1024
  },
  undefined
)
const PROMPT_TOKENS = 24
const NEW_TOKENS = 48
/** Sequences at once, where the objective is throughput. */
export const SEQUENCES = 6
/** What a device times of its turns is off by so much at most. */
const TIMING_ERROR = 0.15
/** A visit takes up to so much more or less than another one. */
const NOISE = 0.06

/** One way to run an answer, or a batch of them. */
export interface Candidate {
  method: Method
  stages: PlannedStage[]
  microBatches: number
  strategy: Strategy
}

/** What is waited for: ms a token of a lone answer, or of all sequences together. */
export interface Figure {
  predictedMs: number
  measuredMs: number
}

/** What the cost model does not know of a device or a hop. */
interface Hidden {
  factor: number
  turnMs: number
}

/**
 * A mesh by lot whose devices take other times than they say: their layers, and hops. What stages take beside layers they have
 * timed, as real ones do. What an answer takes is played event by event, with noise; what is predicted and learned of it is the
 * source's own work. What is hidden nobody can know before the first answer, so the first prediction says nothing of real meshes.
 */
export class HiddenMesh {
  readonly planning: Planning
  readonly #hidden = new Map<string, Hidden>()
  readonly #hopMs: number
  readonly #noise: () => number
  /** By objective. */
  readonly #running = new Map<Objective, Candidate>()
  #nowMs = 0

  constructor(seed: number, settled?: SettledTimes) {
    const random = prng(seed)
    const even = (low: number, high: number) => low + (high - low) * random()
    const spread = (low: number, high: number) => Math.exp(even(Math.log(low), Math.log(high)))
    const timing = prng(seed + 2e6)
    const ids = ['a', 'b', 'c', 'd', 'e'].slice(0, 3 + Math.floor(3 * random()))
    const records = ids.map((peerId, i) => {
      const decodeMs = spread(0.5, 3)
      const turnMs = decodeMs * even(0.3, 2)
      this.#hidden.set(peerId, { factor: spread(0.8, 1.5), turnMs })
      return {
        ...recordOf(peerId, decodeMs, shareBytes(manifest, i === 0 ? even(2, 6) : even(1, 4))),
        stageTimes: stageTimesOf(turnMs, timing)
      }
    })
    this.#hopMs = even(0, 0.8)
    const noise = prng(seed + 1e6)
    this.#noise = () => 1 + NOISE * (2 * noise() - 1)
    const links = ids.flatMap(from =>
      ids.flatMap((to): LinkState[] =>
        from === to ? [] : [{ from, to, mbps: spread(5, 500), rttMs: spread(0.3, 8), spread: 0, ageMs: 0 }]
      )
    )
    const [self, ...peers] = records
    this.planning = new Planning({
      peers: {
        peerId: 'a',
        self: self!,
        known: peers.map(record => ({
          ...{ record, state: 'connected', connected: true, direct: true, suspect: false },
          ...{ rttMs: null, lastSeenMs: 0 }
        })),
        links,
        apart: [],
        events: new EventEmitter(),
        measure: async () => {},
        glance: async () => {},
        nameOf: id => id
      },
      leases: { freeBytes: self!.memory.freeBytes },
      corrections: new Corrections(() => this.#nowMs, settled),
      planner: {
        begin() {},
        solve: async (scenario, options) => planned(parseScenario(scenario), options?.method)
      },
      profiler: { time: async () => {} },
      now: () => this.#nowMs
    })
  }

  needs(objective: Objective): PlacementNeeds {
    const placement = objective === 'throughput' ? { batch: SEQUENCES } : {}
    const model = { name: 'm', id: MODEL_ID, manifest }
    return {
      model,
      promptTokens: PROMPT_TOKENS,
      newTokens: NEW_TOKENS,
      objective,
      privacy: 'prompt',
      placement
    }
  }

  /** What the source runs now: what it ran before, or what it has found to be worth the move, by what it has measured and predicts. */
  async chosen(objective: Objective): Promise<Candidate> {
    const needs = this.needs(objective)
    const before = this.#running.get(objective)
    const slots = objective === 'latency' ? 1 : SEQUENCES
    const placed = before && { ...before, slots, contextTokens: PROMPT_TOKENS + NEW_TOKENS }
    if (placed !== undefined && !(await worthMoving(this.planning, needs, placed))) return before!
    const found = planned(parseScenario(this.planning.scenario(needs)), 'edgeshard')
    if (!found.feasible) throw new Error(found.reason)
    const known = this.planning.knownTimes(needs, found.batch, {})?.bestOf(found)
    const next = asCandidate('edgeshard', known?.plan ?? found)
    this.#running.set(objective, next)
    return next
  }

  /** What could be chosen: every method's placement, with every number of micro-batches and both strategies. */
  candidates(objective: Objective): Candidate[] {
    const plans = METHODS.flatMap(method => this.#plan(objective, method) ?? [])
    if (objective === 'latency') return plans
    const counts = Array.from({ length: SEQUENCES }, (_, i) => i + 1)
    return plans.flatMap(each =>
      counts.flatMap(microBatches =>
        (['noBubble', 'bubble'] as const).map(strategy => ({ ...each, microBatches, strategy }))
      )
    )
  }

  /** Runs it once; the source learns from what it sees of that, where `learns`. */
  run(objective: Objective, { stages, microBatches, strategy }: Candidate, learns: boolean): Figure {
    const needs = this.needs(objective)
    const batch = objective === 'latency' ? 1 : SEQUENCES
    const predicted =
      objective === 'latency'
        ? predictAnswer(this.planning, { needs, stages })?.tpotMs
        : 1000 / predictPlacedRate(this.planning, { needs, stages, batch, microBatches })!
    const observed = this.#play(objective, stages, { batch, microBatches, strategy })
    if (learns) this.#learn(needs, stages, observed, batch, microBatches)
    this.#nowMs += 1000
    const measuredMs = objective === 'latency' ? observed.tpotMs : 1000 / observed.steadyTokensPerSecond
    return { predictedMs: predicted!, measuredMs }
  }

  #plan(objective: Objective, method: Method): Candidate | undefined {
    const { planning } = this
    const cloud = planning.links[0]!.to
    const needs = this.needs(objective)
    const scenario = planning.scenario({ ...needs, placement: { ...needs.placement, cloud } })
    const found = planned(parseScenario(scenario), method)
    return found.feasible ? asCandidate(method, found) : undefined
  }

  #play(
    objective: Objective,
    stages: readonly PlannedStage[],
    run: { batch: number; microBatches: number; strategy: Strategy }
  ): Observed {
    const truth = this.#truth(objective)
    const segments = toSegments(
      truth,
      stages.map(({ peerId, layers }) => ({ device: peerId, layers }))
    )
    return simulate(truth, segments, { ...run, noise: this.#noise })
  }

  /** The mesh as it is: by its profiles, and what they hide. */
  #truth(objective: Objective): Problem {
    const said = parseScenario(this.planning.scenario(this.needs(objective), { corrected: false }))
    const devices = said.devices.map(device => {
      const { factor, turnMs } = this.#hidden.get(device.id)!
      const times = [...device.times].map(([kind, each]) => {
        const { decodeMs, decodeMsPerExtraSequence, prefillMsPerToken } = each
        return [
          kind,
          {
            decodeMs: factor * decodeMs,
            decodeMsPerExtraSequence: factor * decodeMsPerExtraSequence,
            prefillMsPerToken: factor * prefillMsPerToken,
            ...(each.decodeMsByBatch && {
              decodeMsByBatch: each.decodeMsByBatch.map(([at, ms]) => [at, factor * ms] as const)
            })
          }
        ] as const
      })
      return { ...device, turnMs, times: new Map(times) }
    })
    const links = said.links.map(row =>
      row.map(link => link && { ...link, delayMs: link.delayMs + this.#hopMs })
    )
    return { ...said, devices, links }
  }

  #learn(
    needs: PlacementNeeds,
    stages: PlannedStage[],
    { stages: measured, stepMs }: Observed,
    batch: number,
    microBatches: number
  ): void {
    const spentMs = measured.reduce((sum, { computeMs, waitMs }) => sum + computeMs + waitMs, 0)
    const links = stages.length > 1 ? stages.length : 0
    const answers = batch
    for (let i = 0; i < answers; i++)
      learnFrom(
        this.planning,
        { needs, stages, slots: batch, microBatches },
        {
          steps: NEW_TOKENS - 1,
          sequences: batch / microBatches,
          contextTokens: PROMPT_TOKENS + NEW_TOKENS / 2,
          stages: measured.map(each => ({ ...each })),
          linksMs: Array<number>(links).fill((stepMs - spentMs) / Math.max(1, links)),
          stepMs,
          doubted: 0,
          doubt: undefined,
          underWay: microBatches
        }
      )
  }
}

function asCandidate(method: Method, { stages, microBatches }: Plan): Candidate {
  return {
    method,
    stages: stages.map(({ device, layers }) => ({
      peerId: device,
      name: device,
      layers,
      weightBytes: weightBytes(manifest, layers)
    })),
    microBatches,
    strategy: 'noBubble'
  }
}

function stageTimesOf(turnMs: number, random: () => number): NonNullable<NodeRecord['stageTimes']> {
  const timed = () => turnMs * (1 + TIMING_ERROR * (2 * random() - 1))
  return { turnMs: timed(), sharedTurnMs: timed(), startMs: 500 }
}

function planned(problem: Problem, method: Method | undefined): Plan | Refusal {
  return plan(problem, { explain: false, ...(method && { method }) })
}

function recordOf(peerId: string, decodeMs: number, memoryBytes: number): NodeRecord {
  const times = {
    decodeMs,
    prefillMsPerToken: decodeMs / 4,
    decodeMsByBatch: { 1: decodeMs, 2: 1.2 * decodeMs, 4: 1.7 * decodeMs, 8: 2.8 * decodeMs }
  }
  return {
    peerId,
    name: peerId,
    version: '1',
    sequence: 1,
    hardware: { platform: 'linux', arch: 'x64', cpu: '', cores: 1, totalMemoryBytes: memoryBytes },
    profiles: {
      [MODEL_ID]: {
        embedding: { decodeMs: 0.01, prefillMsPerToken: 0.01 },
        decoder: times,
        head: { ...times, decodeMs: 2 * decodeMs }
      }
    },
    memory: { budgetBytes: memoryBytes, freeBytes: memoryBytes },
    models: [{ id: MODEL_ID, name: 'm', layers: [[0, manifest.layers.length]] }],
    leases: [],
    links: {}
  }
}

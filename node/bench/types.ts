import type { LayerRange } from '../../models/layers.ts'
import type {
  GenerateEvent,
  GenerateRequest,
  LinkState,
  MeshState,
  Objective,
  Privacy,
  ScenarioNeeds,
  Speculate,
  Strategy
} from '../api.ts'
import type { Method } from '../plan/problem.ts'
import type { ScenarioInput } from '../plan/scenario.ts'

/** The node that is asked, wherever it runs. What it refuses for want of room is an error of code `infeasible`. */
export interface BenchApi {
  generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent>
  mesh(): Promise<MeshState>
  scenario(needs: ScenarioNeeds): Promise<ScenarioInput>
  /** Tokens of a text as a raw prompt, the first one (BOS) included. */
  countTokens(text: string): Promise<number>
}

/** Sequences at once; `max`: as many as the devices have memory for. */
export type BatchOption = number | 'max'

export interface BenchOptions {
  model: string | undefined
  /** Prompts are cut out of it. */
  text: string
  promptTokens: number
  newTokens: number
  objectives: readonly Objective[]
  methods: readonly Method[]
  batches: readonly BatchOption[]
  strategies: readonly Strategy[]
  /** Micro-batches that throughput's sequences are cut into; absent: as planned. */
  microBatches?: number | undefined
  /** Measured rounds a row, after one that is not counted. */
  repeats: number
  /**
   * The most rounds before these in which `edgeshard` may learn what its placements take and try others, until it keeps to one;
   * other methods choose without having measured anything. @default 0
   */
  settle?: number | undefined
  /** Name or peer id of the device of the cloud-edge methods; absent: the one that decodes fastest. */
  cloud: string | undefined
  privacy: Privacy
  seed: number
  /** Absent: as the node was started. */
  speculate?: Speculate | undefined
  /** Model that drafts. */
  draft?: string | undefined
}

/** A figure over the repeats of a row. */
export interface Summary {
  median: number
  min: number
  max: number
}

/** What a rate rests on. */
export interface Counted {
  tokens: number
  /** Tokens of the sequence that has the fewest of them. */
  least: number
  /** Time in which they were drawn. */
  ms: number
  /** Whether all sequences decoded in that time; else it is that from the first token of all to the last. */
  together: boolean
}

/** What a row is about. */
export interface BenchCase {
  objective: Objective
  method: Method
  /** How a pipeline with several sequences is run; null where there is one. */
  strategy: Strategy | null
  batch: BatchOption
}

export interface BenchStage {
  peerId: string
  name: string
  layers: LayerRange
  /** Computing and waiting for the shard's turn, of one micro-batch's step. */
  computeMs: number
  waitMs: number
  /** Share of the time in which the device computed this stage, over the decode steps. */
  busy: number
}

export interface MeasuredRow extends BenchCase {
  outcome: 'measured'
  batch: number
  /** True where the batch was asked for as `max`. */
  largest: boolean
  microBatches: number
  stages: BenchStage[]
  /** Times of the hops in their order, the token's return last; empty for one stage. */
  linksMs: number[]
  ttftMs: Summary
  tpotMs: Summary
  /** While all sequences decode: from the last one's first token to the first one's last, unless `counted` says otherwise. */
  tokensPerSecond: Summary
  /** What `tokensPerSecond` rests on in the round with the fewest tokens of a sequence. */
  counted: Counted
  /** Rate from the first request to the last token, prefill included. */
  overallTokensPerSecond: Summary
  /** What the cost model says of this plan, batch and strategy; no time to the first token where several share it. */
  predicted: { ttftMs: number | null; tpotMs: number; tokensPerSecond: number }
  /** Predicted through measured. */
  ratio: { tpot: number; tokensPerSecond: number }
  /** Stages that were lost and replaced on the way. */
  recoveries: number
}

/** `infeasible`: the node says that it does not fit; `failed`: it was tried and broke. */
export interface RefusedRow extends BenchCase {
  outcome: 'infeasible' | 'failed'
  reason: string
}

export type BenchRow = MeasuredRow | RefusedRow

export interface BenchDevice {
  peerId: string
  name: string
  cpu: string
  budgetBytes: number
  /** Time of one decoder layer by the device's own measurement; null where it has none of this model. */
  decodeMs: number | null
}

export interface BenchReport {
  version: string
  model: string
  workload: { promptTokens: number; newTokens: number; repeats: number; seed: number }
  /** Peer ids. */
  source: string
  cloud: string | null
  devices: BenchDevice[]
  links: LinkState[]
  rows: BenchRow[]
}

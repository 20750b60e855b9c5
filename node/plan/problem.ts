/**
 * The planning problem and what planning yields, as plain data.
 *
 * Layers are counted over the whole model: 0 is the embedding, the last one norm and head. Ranges are
 * half-open, `[start, end)`. Devices are indices into `Problem.devices` inside the planner and ids outside.
 * A device that lists processors is several entries there, one for each: places that share its id and its links
 * (`places.ts`).
 */

/** What one layer kind costs on one device class. Points, ascending by batch or tokens, replace the line. */
export interface KindTimes {
  readonly decodeMs: number
  readonly decodeMsPerExtraSequence: number
  readonly prefillMsPerToken: number
  readonly decodeMsByBatch?: readonly Point[]
  readonly prefillMsByTokens?: readonly Point[]
}

/** `[batch or tokens, milliseconds]`, one measurement. */
export type Point = readonly [at: number, ms: number]

export interface Device {
  readonly id: string
  /** Which processor of the device this is; undefined where the device lists none. */
  readonly processor?: string | undefined
  /** What stages may fill with weights and KV cache. */
  readonly memoryBytes: number
  /** Times by layer kind; a kind that is not listed costs 0 ms. */
  readonly times: ReadonlyMap<string, KindTimes>
  /** What a step takes each stage on it beside its layers, whatever its batch. @default 0 */
  readonly turnMs?: number
  /**
   * What a step's frames, in and out, take it besides, on each of several stages: none pass where one has all layers. Less than
   * 0, and no more than `turnMs` less, where that one takes more beside its layers for another reason. @default 0
   */
  readonly frameMs?: number
}

/** One direction of one pair. The transfer occupies the link for its bits; the delay only postpones it. */
export interface Link {
  /** 0 where there is no link: nothing can be handed on this way. */
  readonly mbps: number
  /** latencyMs + hopOverheadMs of the scenario. */
  readonly delayMs: number
}

export interface Layer {
  readonly kind: string
  readonly weightBytes: number
  /** Bytes of this layer's output for one token of one sequence. */
  readonly activationBytes: number
  readonly kvBytesPerToken: number
  /** Bytes of what it remembers of a sequence however long that is. */
  readonly stateBytes: number
}

/** Guesses that the source sends down the pipeline before the token before them is back. */
export interface Speculation {
  /** Share of the guesses that are right, 0 to 1. */
  readonly acceptance: number
  /** Frames under way at once, 1 at least: so many is plain decoding. Undefined: as many as a source sends by itself (`windowOf`). */
  readonly window: number | undefined
  /** What a guess takes on the source, beside its stages. */
  readonly draftMs: number
}

export interface Workload {
  readonly promptTokens: number
  readonly newTokens: number
  /** Sequences at once. Equal for a fixed batch; throughput planning chooses within an open range. */
  readonly batch: { readonly min: number; readonly max: number }
  /** Tokens of KV cache reserved for every sequence. */
  readonly contextTokens: number
  /** Guesses that the source sends ahead; undefined: none. */
  readonly speculation: Speculation | undefined
}

/** Which layers must stay on the source: 0; 0 and 1; 0, 1 and the head. */
export type Privacy = 'embedding' | 'prompt' | 'sealed'
export type Metric = 'tpot' | 'request'
export type Objective = 'latency' | 'throughput'

export const METHODS = [
  'edgeshard',
  'edge-solo',
  'cloud-edge-even',
  'cloud-edge-opt',
  'edgeshard-even',
  'paper-dp'
] as const
export type Method = (typeof METHODS)[number]

export interface Problem {
  readonly devices: readonly Device[]
  /** Index of the device that was prompted; of its first processor, where it lists some. */
  readonly source: number
  /** Index of the device the cloud-edge baselines use. */
  readonly cloud: number | undefined
  /** `links[from][to]`, between processors of one device its own; the diagonal is never read. */
  readonly links: readonly (readonly Link[])[]
  readonly layers: readonly Layer[]
  readonly workload: Workload
  readonly privacy: Privacy
  /** So many leading layers stay on the source, where privacy asks for fewer. @default as privacy says */
  readonly keptLayers?: number
  readonly metric: Metric
  readonly objective: Objective
}

/** One device's contiguous part of a plan, by device index. */
export interface Segment {
  readonly device: number
  readonly start: number
  readonly end: number
}

/** A stage of a plan by device id, as it is printed. */
export interface StagePlan {
  readonly device: string
  /** Which of its processors computes it; absent where the device lists none. */
  readonly processor?: string
  readonly layers: readonly [start: number, end: number]
}

export interface Predicted {
  /** One sequence alone: one decode step through every stage, and the token's return. */
  readonly tpotMs: number
  /** One sequence alone: prefill through every stage, and the first token's return. */
  readonly ttftMs: number
  /** ttftMs + (newTokens - 1) * tpotMs. */
  readonly requestMs: number
  /** What `tpotMs` is with the workload's speculation; absent where it has none. */
  readonly speculatedTpotMs?: number
  /** No-bubble rate of `batch` sequences in `microBatches` micro-batches. */
  readonly tokensPerSecond: number
  /** The same when each round waits for the slowest micro-batch. */
  readonly bubbleTokensPerSecond: number
}

/** One sequence's decode step, part by part. */
export interface StepParts {
  /** Times of the stages, in their order: of their layers, and beside these (`Device.turnMs`; absent: 0). */
  readonly stages: readonly { readonly computeMs: number; readonly waitMs?: number }[]
  /** Times of the hops in their order, the token's return last; 0 where a hop stays on its device, empty for one stage. */
  readonly linksMs: readonly number[]
}

export interface LeftOut {
  readonly device: string
  /** Which of its processors; absent where the device lists none. */
  readonly processor?: string
  readonly reason: string
}

export interface Plan {
  readonly feasible: true
  readonly objective: Objective
  readonly method: Method
  readonly stages: readonly StagePlan[]
  readonly batch: number
  readonly microBatches: number
  readonly predicted: Predicted & StepParts
  /** Bound on the metric in ms (throughput: on 1000 / tokensPerSecond), computed without the plan. */
  readonly lowerBoundMs: number
  /** (value - lowerBoundMs) / lowerBoundMs. */
  readonly gap: number
  /** gap <= 1e-9. */
  readonly optimal: boolean
  readonly solveMs: number
  readonly left: readonly LeftOut[]
  /** What the plan would gain from more of, each computed by planning again; the largest gain first. */
  readonly binds?: readonly string[]
  /** The one change of memory or a link that would help most. */
  readonly advice?: string
}

export interface Refusal {
  readonly feasible: false
  readonly objective: Objective
  readonly method: Method
  readonly reason: string
  /** What would make it fit: memory on a device, fewer tokens. */
  readonly advice?: string
  /** Pairs of devices without a link, between which layers would have to be handed on. */
  readonly apart?: readonly (readonly [string, string])[]
  readonly solveMs: number
}

/** How many leading layers must be on the source. */
export function pinnedPrefix(problem: Problem): number {
  const { layers, privacy, keptLayers = 0 } = problem
  return Math.min(layers.length, Math.max(keptLayers, privacy === 'embedding' ? 1 : 2))
}

/** Whether the last layer must be on the source. */
export function pinsHead(problem: Problem): boolean {
  return problem.privacy === 'sealed'
}

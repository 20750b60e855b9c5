import type { Constraint } from '../models/grammar/constraint.ts'
import type { LayerRange } from '../models/layers.ts'
import type { Manifest } from '../models/manifest.ts'
import type { Pooling } from '../models/runtime/pooling.ts'
import type { AcceptedRequest } from './accepted-request.ts'
import type { AnswerObserver } from './answers.ts'
import type { MembershipControl, PairingControl, PeerName } from './membership-state.ts'
import type { MeshState } from './mesh-state.ts'
import type { Method } from './plan/problem.ts'
import type { ScenarioInput } from './plan/scenario.ts'

export type { Constraint } from '../models/grammar/constraint.ts'
export type {
  LayerProfile,
  LinkEstimate,
  NodeRecord,
  ProcessorState,
  StageTimes
} from '../protocols/directory/record.ts'
export type * from './membership-state.ts'
export type * from './mesh-state.ts'

export type Objective = 'latency' | 'throughput'

/** `prompt`: embedding and first decoder layer stay on the source. `sealed`: norm, head and sampling too. */
export type Privacy = 'prompt' | 'sealed'

/** How micro-batches follow each other: each as soon as its tokens are back, or all together. */
export type Strategy = 'no-bubble' | 'bubble'

/**
 * Whether tokens are guessed ahead, which changes none of them: `ngram` by what was said before, `draft` by a smaller model
 * of the same vocabulary on the source, `auto` by whichever of the two is better, where there is such a model, `mtp` by the layer
 * that the model came with, where it was imported with that.
 */
export type Speculate = 'off' | 'ngram' | 'draft' | 'auto' | 'mtp'

/** What became of the guesses of an answer. */
export interface Guesses {
  /** Tokens that were fed before it was known that they follow. */
  sent: number
  /** Those that do. */
  held: number
  /** Those that do not, or were fed behind one that does not, or behind the answer's end. */
  dropped: number
}

/** How a model is placed and run, where the planner is not to choose: for comparisons. */
export interface PlacementOptions {
  /** @default 'edgeshard' */
  method?: Method
  /** Peer id of the device that cloud-edge methods send layers to. */
  cloud?: string
  /** Sequences at once, for the throughput objective. @default as many as serve it best */
  batch?: number
  /** Number of groups in which they decode. @default what the plan says */
  microBatches?: number
  /** @default 'no-bubble' */
  strategy?: Strategy
}

export interface ChatMessage {
  role: string
  content: string
  /** What the assistant thought before it; whether a model reads that again is up to its template. */
  reasoning?: string
  /** Calls of tools that the assistant made. */
  toolCalls?: ToolCall[]
  /** In a tool's turn: the call that it answers. */
  toolCallId?: string
  /** In a tool's turn: the tool. */
  name?: string
}

/** A call of a tool, which whoever asked is to carry out. */
export interface ToolCall {
  id: string
  name: string
  /** An object of JSON, as text. */
  arguments: string
}

/** A tool that a model may call. */
export interface ToolDefinition {
  name: string
  description?: string
  /** JSON schema of the arguments. */
  parameters?: Record<string, unknown>
}

/** A conversation for a model's chat template. */
export interface ChatInput {
  kind: 'chat'
  messages: ChatMessage[]
  /** Tools that may be called, in the template's own words, or in a generic form where it has none for tools. */
  tools?: ToolDefinition[]
  /** Tools have to be called, or this one; a grammar sees to it. @default what the model likes */
  choice?: 'required' | { name: string }
  /** Whether the model is to think first, or how hard, where its template can say so. */
  thinking?: boolean | 'low' | 'medium' | 'high'
  /** Variables for the template besides. */
  templateArguments?: Record<string, unknown>
  /** False: the reply ends behind its first call. @default true */
  parallel?: boolean
  /** Thoughts and calls come as events of their own; otherwise all of the reply is text. */
  split?: boolean
}

/** Ranks of requests that wait for their turn on a placed model, the last one goes first. */
export const PRIORITIES = ['low', 'normal', 'high'] as const

export type Priority = (typeof PRIORITIES)[number]

/** What a person or a program asks of the mesh. Absent numbers take the node's defaults (node/constants.ts). */
export interface GenerateRequest {
  /** Name or id of a model that this node or a peer holds; absent: the default model. */
  model?: string
  /** A prompt as it is, as text or as token ids, or a conversation. */
  input: { kind: 'raw'; text: string } | { kind: 'ids'; ids: number[] } | ChatInput
  /** Most tokens of the answer. @default as many as the model's context has room for */
  maxTokens?: number
  temperature?: number
  /** 0 stands for the likeliest token alone. */
  topP?: number
  seed?: number
  topLogprobs?: number
  /** Draws from so many of the likeliest tokens; 0: from all. @default 0 */
  topK?: number
  /** Draws from tokens that are at least so likely, as a share of the likeliest one's probability. @default 0 */
  minP?: number
  /** Divides the logits of tokens that the reply has, 0.01 to 100. @default 1 */
  repetitionPenalty?: number
  /** Is taken off the logit of a token once for each time that the reply has it, -2 to 2. @default 0 */
  frequencyPenalty?: number
  /** Is taken off the logits of tokens that the reply has, -2 to 2. @default 0 */
  presencePenalty?: number
  /**
   * Penalties count the last so many tokens of the reply, 0 to 4096. The prompt's tokens never count: they do not leave this
   * device, and an answer does not depend on who draws its tokens.
   *
   * @default 4096
   */
  penaltyWindow?: number
  /** Is added to the logits of tokens, by id: -100 to 100, of 512 tokens at most. */
  logitBias?: Readonly<Record<number, number>>
  stop?: string[]
  /** Ids of further tokens that end the reply, which are no part of it; 64 at most. */
  stopTokenIds?: number[]
  /** Tokens of the reply before which neither a token nor a stop string ends it. @default 0 */
  minTokens?: number
  /** What the answer has to look like; the same at every device that draws it. Nothing is guessed ahead then. */
  constraint?: Constraint
  /** Goes on behind the model's own end-of-turn tokens. @default false */
  ignoreEos?: boolean
  objective?: Objective
  privacy?: Privacy
  placement?: PlacementOptions
  /** @default what the node was started with */
  speculate?: Speculate
  /** Name or id of the model that drafts. @default what the node was started with, else one that is found */
  draft?: string
  /**
   * What the request belongs to: a prompt goes on from the KV cache of an earlier one of the same name as far as both begin
   * alike, and no other request does. Compared as it is, so a client may name whatever it keeps to itself. Without a name
   * a cache serves only who repeats all of its prompt and answer.
   */
  conversation?: string
  /**
   * The same to the bit whatever else the devices compute, wherever the model is cut, from a KV cache or a fresh prompt, and
   * after a loss: every token is computed as if others were beside it, which takes longer where one answer runs alone. On
   * devices of one kind; the answer says in `exact` whether their kernels keep it.
   *
   * @default false
   */
  exact?: boolean
  /**
   * Other devices draw the answer too, behind those that it runs on, so that it goes on there within a token's time when one of
   * these dies. They hold the model once more, as far as they have the memory for it beside; the answer says which they were.
   *
   * @default what the node was started with
   */
  standby?: boolean
  /**
   * Before and behind whom it takes its turn where several wait for one on this node: `high` before those `normal` ones that came
   * up to half a minute earlier, `low` behind those that come up to half a minute later. Over HTTP it is its key's.
   *
   * @default 'normal'
   */
  priority?: Priority
  /**
   * How long the model stays loaded behind this request, in ms; negative: until others need its memory, 0: not at all.
   *
   * @default what the node was started with
   */
  keepAliveMs?: number
}

/**
 * How a model is placed that is loaded before it is asked, as the request will say that is to find it loaded, and how long it
 * stays. Absent ones take the defaults of a request.
 */
export interface LoadOptions
  extends Pick<
    GenerateRequest,
    'maxTokens' | 'objective' | 'privacy' | 'speculate' | 'draft' | 'exact' | 'keepAliveMs'
  > {}

/** Texts, or token ids, of each of which a vector is to be made. */
export interface EmbedRequest
  extends Pick<
    GenerateRequest,
    'model' | 'objective' | 'privacy' | 'placement' | 'exact' | 'keepAliveMs' | 'priority'
  > {
  inputs: Exclude<GenerateRequest['input'], ChatInput>[]
  /** Values of a vector; only as many as the model has. */
  dimensions?: number
  /** An input that the model's context has no room for is cut at its end. @default false: it is refused */
  truncate?: boolean
}

export interface EmbedResult {
  /** For each input the pooled hidden states of its tokens behind the model's last norm: (hidden), of length 1. */
  vectors: Float32Array[]
  /** Tokens of all inputs. */
  promptTokens: number
  pooling: Pooling
  /** Whether the model came with a word on how its hidden states are pooled. */
  isPoolingKnown: boolean
  /** Devices that made them: those of the first plan in its order, and behind them those that came later. */
  devices: PeerName[]
}

/** A stage of a plan as it is recruited: a peer, and the layers that it computes. */
export interface PlannedStage {
  peerId: string
  name: string
  /** The kind of its processors that computes it, where several of them have memory of their own; absent: the one that it uses. */
  processor?: string
  layers: LayerRange
  /** Bytes of weights of the range. */
  weightBytes: number
  /** Peer id of the source, where what comes out goes to the next stage through it: the two cannot reach each other. */
  via?: string
  /** The class of bits of what computes it, `gpu` say; absent: a CPU's. */
  bitsClass?: string
}

/** What the cost model says of one sequence alone. */
export interface Predicted {
  /** Its prompt, and the way back of the first token. Of an answer that runs: with chunks of the prompt on several stages at once. */
  ttftMs: number
  /** Fetching and loading its stages, before that; absent where they were loaded. */
  loadMs?: number
  /**
   * What the request had taken when its stages were asked for: reading its prompt, measuring, planning, waiting. No guess, for it is
   * over when the rest is predicted. Stages that were loaded while the prompt was read count as asked for `loadMs` before that was
   * over. Absent where the answer went on from elsewhere.
   */
  waitedMs?: number
  tpotMs: number
  /** What a token takes with guesses ahead: a scenario's, or those of a draft that earlier answers have counted. Absent where there are none. */
  speculatedTpotMs?: number
  /** The decode step in the order of the plan's stages: of their layers, and beside these where answers have shown that. */
  stages: readonly { readonly computeMs: number; readonly waitMs?: number }[]
  /** The decode step in the order of the plan's hops, the token's return last; empty where there is one stage. */
  linksMs: readonly number[]
}

/** Means over the decode steps of one answer, in ms. */
export interface MeasuredStep {
  /** Steps that the means are over. */
  steps: number
  /** Sessions that shared a step. */
  sequences: number
  /** Tokens in the answer's KV cache before a step. */
  contextTokens: number
  /** Computing, and waiting for the shard's turn, in the order of the plan's stages. */
  stages: { computeMs: number; waitMs: number }[]
  /**
   * Times from one stage's send to the next one's arrival, in the order of the plan's hops, the token's return last, by
   * the devices' own clocks. Only where these agree is each of them right; their sum always is, as it ends where it began.
   */
  linksMs: number[]
}

/**
 * `stop`: an end-of-turn token or a stop string. `length`: maxTokens, the context or the mesh's memory is used up. `error`: devices were
 * lost and the rest cannot hold the model; the text so far is whole.
 */
export type FinishReason = 'stop' | 'length' | 'error'

export interface GenerateResult {
  text: string
  /** What the model thought before it, where the reply was split. */
  reasoning?: string
  /** Calls of tools, where the reply was split; each one's arguments are whole. */
  toolCalls?: ToolCall[]
  /** Generated ids without the end-of-turn token. */
  tokens: number[]
  promptTokens: number
  /** Tokens of the prompt that a turn before had left in the KV caches. */
  cachedTokens: number
  finishReason: FinishReason
  /** The stop string that ended it. */
  stopString?: string
  /** Why it ended early, where `finishReason` is `error`. */
  error?: string
  /** Time from the request to the first token. */
  ttftMs: number
  /** Mean time between two tokens after the first; 0 when there is only one. */
  tpotMs: number
  /** The plan in force at its end. */
  plan: { stages: PlannedStage[] }
  /** What the first plan predicted. */
  predicted: Predicted
  /** What the decode steps of the last plan took, stage by stage. */
  measured: MeasuredStep
  /** Absent where nothing was guessed ahead. */
  guesses?: Guesses
  recoveries: number
  /** What stood by for it last, where it was to and there was the memory: stages with their weights, beside those of the plan. */
  standby?: { stages: PlannedStage[] }
  /** When it went on on other devices without a pause, the first one first; absent where it did not. */
  moves?: Move[]
  /** Its parts that had a plan each, in their order; absent where the first plan had all of it. */
  stretches?: Stretch[]
  /**
   * Layers went on at another class of bits than they had been computed in, behind a loss: tokens may be others than without
   * it. Absent where that was not so.
   */
  otherClass?: true
  /** Where the request was to be exact: whether the kernels of every device that had a part in it keep that. */
  exact?: boolean
}

/** A part of an answer that one plan had: from its placing until it was placed anew, or went over to other devices. */
export interface Stretch {
  plan: { stages: PlannedStage[] }
  predicted: Predicted
  /** Absent where its stages could not be asked any more. */
  measured?: MeasuredStep
  /** Tokens that were drawn in it. */
  tokens: number
  /** Mean time between two of them; 0 where it is one. What came between two stretches is in neither. */
  tpotMs: number
}

/**
 * What a running request reports, in order: progress, a plan, text as it arrives, one result. A stage that is lost on
 * the way is a recovery, followed by progress, the next plan and, with the next token, what it took.
 */
export type GenerateEvent =
  | { type: 'progress'; phase: 'plan' | 'weights' | 'load'; peer: string; done: number; total: number }
  /**
   * Of a conversation that is split: tokens of its prompt, how its tools were put, and what of `templateArguments` (or
   * `thinking`) the template does not read.
   */
  | { type: 'prompt'; tokens: number; tools: 'template' | 'generic' | null; unread: string[] }
  | { type: 'plan'; plan: { stages: PlannedStage[] }; predicted: Predicted }
  /**
   * Tokens of the prompt, `done` of `total`, are through all stages, `cached` of which the KV caches had; `ms` since the
   * stages began with it. Of a long prompt again and again, and once where it is through.
   */
  | { type: 'prefill'; done: number; total: number; cached: number; ms: number }
  | { type: 'recovery'; peerId: string; reason: string }
  | { type: 'recovered'; peerId: string; spent: RecoveryTimes }
  /** It goes on on other devices, which had built up its KV caches beside those that it ran on. */
  | { type: 'moved'; move: Move }
  /**
   * `text` is whole characters; tokens whose text is still incomplete come with the next event. `drawnAtMs`: when the node had
   * each token, by a clock of its own that begins anywhere; they may arrive together where the reader is late. Absent from a
   * node of before.
   */
  | { type: 'text'; text: string; tokens: number[]; logprobs: TokenLogprob[]; drawnAtMs?: number[] }
  /** The same of a thought. */
  | { type: 'reasoning'; text: string; tokens: number[]; logprobs: TokenLogprob[]; drawnAtMs?: number[] }
  /** A call begins; calls are counted from 0. */
  | { type: 'call'; index: number; id: string; name: string }
  /** The next piece of its arguments. */
  | { type: 'arguments'; index: number; text: string }
  /** Its arguments are whole. A call that never gets there is none: all of it follows as text, as it was written. */
  | { type: 'called'; index: number }
  | { type: 'done'; result: GenerateResult }

/** An answer that went over to other devices between two tokens. */
export interface Move {
  /** `drained`: a device is to go; `faster`: tokens come sooner there; `lost`: a device died, and others stood by. */
  reason: 'drained' | 'faster' | 'lost'
  from: PlannedStage[]
  to: PlannedStage[]
  /** Tokens of the answer that were drawn before it. */
  tokens: number
  /**
   * Predicted: what a token took and takes, what the answers under way were to save together, and what the move was to cost
   * them, in ms.
   */
  predicted: { beforeMs: number; afterMs: number; savedMs: number; costMs: number }
  /**
   * Measured, in ms: until the stages were loaded; until their KV caches held what was known; from the last token before to
   * the first one after.
   */
  spent: { loadMs: number; catchUpMs: number; gapMs: number }
}

/** What a lost stage cost an answer, in ms. */
export interface RecoveryTimes {
  /** Time from the last token to the news that the stage is lost. */
  detectMs: number
  planMs: number
  /** Reserving, fetching weights and loading; for others' answers on the same deployment, waiting for that. */
  recruitMs: number
  /** Computing the KV cache again, and the next token. */
  rebuildMs: number
}

export interface TokenLogprob {
  id: number
  logprob: number
  /** UTF-8 of the token, which may be part of a character. */
  bytes?: number[]
  top: { id: number; logprob: number; bytes?: number[] }[]
}

/** A model that this node can be prompted with. */
export interface ModelSummary {
  name: string
  id: string
  architecture: string
  precision: string
  decoderLayers: number
  contextLength: number
  /** Weights of the whole model. */
  weightBytes: number
  /** Peers (this node included) that hold layers, and which. */
  holders: { peerId: string; name: string; layers: LayerRange[] }[]
}

/** The request that the mesh is planned for; absent ones take the defaults of a request. */
export interface ScenarioNeeds {
  model?: string
  promptTokens?: number
  newTokens?: number
  objective?: Objective
  privacy?: Privacy
  /** What guesses tokens ahead; a plan counts on it where earlier answers have counted its guesses. @default as the node was started */
  speculate?: Speculate
  /** Name or id of the model that drafts. */
  draft?: string
}

/** How far a node is with being drained. */
export interface DrainState {
  /** False: nobody drains it. */
  draining: boolean
  /** Its own answers that are under way, or requests that are not over, where these are more. */
  answers: number
  /** Sessions of others' answers that run here. */
  sessions: number
  /** Devices that have leases here. */
  sources: PeerName[]
  /** Models of which a layer is on this device alone: they cannot be placed while it is away. */
  onlyHere: string[]
}

/** Whether a node can answer prompts now, and why not: in words that name no device and no model. */
export interface Readiness {
  ready: boolean
  reasons: string[]
}

/** One device's running node: what the HTTP server and the command line need of it. */
export interface EdgeNode {
  readonly peerId: string
  readonly name: string
  readonly addresses: string[]
  models(): Promise<ModelSummary[]>
  mesh(): MeshState
  /** A ticket that lets another device join this node's mesh, once. @throws {NotOwnerError} where this one is not in it */
  invite(): Promise<string>
  readonly membership: MembershipControl
  readonly pairing: PairingControl
  /**
   * Answers a prompt. Ends early, everywhere in the mesh, when `signal` aborts.
   *
   * @param options `requestId`: what the logs of all devices call it, up to 64 of `[A-Za-z0-9_-]`; absent: a new UUID;
   * `accepted`: of a request of several answers
   *
   * @throws {RequestError} for what the client asked wrongly, {PlanRefusedError} when nothing can hold the model,
   * {StageLostError} naming the peer when a stage dies or falls silent.
   */
  generate(
    request: GenerateRequest,
    options?: { signal?: AbortSignal; requestId?: string; accepted?: AcceptedRequest | undefined }
  ): AsyncGenerator<GenerateEvent>
  /** Accepts a request of several answers, each of which is generated with it. @throws {StoppingError} where nothing is taken any more */
  accept(): AcceptedRequest
  /**
   * Makes a vector of each input. Ends early, everywhere in the mesh, when `signal` aborts.
   *
   * @param options as of `generate`
   * @throws as `generate`
   */
  embed(request: EmbedRequest, options?: { signal?: AbortSignal; requestId?: string }): Promise<EmbedResult>
  /**
   * Places a model, or the default one, before it is asked: resolves when its tokenizer is there and its stages are loaded as a
   * request of these options has them, at once where they are. It counts as no answer, whoever watches these; a request that
   * comes meanwhile uses the same placement. Ends early, and gives back what it holds, when `signal` aborts or the node is drained.
   *
   * @param options `requestId`: as of `generate`
   * @throws as `generate`, and {RequestError} where the model is not to stay loaded
   */
  load(
    model: string | undefined,
    options?: LoadOptions & { signal?: AbortSignal; requestId?: string }
  ): Promise<void>
  /** Calls `begin` for each answer from now on, to watch it; the function ends that. For metrics. */
  watchAnswers(begin: () => AnswerObserver): () => void
  /** Whether the default model can be placed now, on this device and those that are connected; asks none of them for long. */
  readiness(): Promise<Readiness>
  /** This mesh as a scenario of the planner: what `plan` would be solved for a request of these needs. */
  scenario(needs: ScenarioNeeds, options?: { signal?: AbortSignal }): Promise<ScenarioInput>
  /** Resolves a model, `undefined` as the one that answers by default, and its manifest, from the store or from a peer. */
  manifest(
    model: string | undefined,
    options?: { signal?: AbortSignal }
  ): Promise<{ name: string; id: string; manifest: Manifest }>
  /**
   * How long a model that is placed stays loaded from now on without requests, in ms, until one says otherwise; negative:
   * until others need its memory, 0: not at all. What runs goes on.
   */
  keepAlive(model: string | undefined, ms: number, options?: { signal?: AbortSignal }): Promise<void>
  /** Tokens of a request's prompt, as its model would read it. */
  countTokens(
    request: Pick<GenerateRequest, 'model' | 'input'>,
    options?: { signal?: AbortSignal }
  ): Promise<number>
  /** The chat template of a model, or of the default one, as it came with it; null: it has none. */
  chatTemplate(model: string | undefined, options?: { signal?: AbortSignal }): Promise<string | null>
  /** Ids of a text as a raw prompt of that model, or of the default one. */
  tokenize(text: string, options?: { model?: string; signal?: AbortSignal }): Promise<number[]>
  /**
   * Takes no prompts any more (StoppingError), promises no memory to others, tells them so, and waits until all answers that
   * run here have ended or gone on elsewhere, or the signal aborts: before `stop`, so that no answer is cut.
   *
   * @param options `handOver`: waits also until the others have given their leases back, for half a minute at most
   * @returns whether nothing runs here any more; false where the signal has aborted, or `undrain` was called
   */
  drain(options: { signal: AbortSignal; handOver?: boolean }): Promise<boolean>
  /** Takes `drain` back. */
  undrain(): void
  /** What a drain waits for. */
  readonly draining: DrainState
  /** Ends answers under way and leaves the mesh; once more does nothing. */
  stop(): Promise<void>
  /** `stop`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

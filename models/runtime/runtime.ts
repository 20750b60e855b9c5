import type { ByTimedKind } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import type { Manifest, ModelShape, Quantization } from '../manifest.ts'
import type { Pooling } from './pooling.ts'
import type { SampledToken, Sampling } from './sampler.ts'
import type { SavedTokens } from './saved-tokens.ts'
import type { TokenMask } from './token-mask.ts'

export type { SampledToken } from './sampler.ts'

/** Hidden states (tokens, hidden), row-major, on SharedArrayBuffer memory so that no thread copies them. */
export interface HiddenStates {
  readonly tokens: number
  readonly data: Float32Array<SharedArrayBuffer>
}

export interface ShardSpec {
  manifest: Manifest
  /** The layers to hold; the source may hold two ranges (its first layers and the head). */
  range: LayerRange
  /** Folder that holds the layers' files under their SHA-256. */
  blobsDir: string
  /**
   * Sequences with any number of tokens each that one run computes together, 1 to MAX_LANES (models/onnx/lanes.ts). A step
   * of more takes several runs; each further one costs every run some 10 microseconds a layer.
   *
   * @default 1
   */
  lanes?: number
}

export interface OpenSessionOptions {
  /** Prompt and reply together; the KV cache is allocated for so many. */
  maxTokens: number
  /** How the head draws tokens; required where the range holds the head and pools nothing. */
  sampling?: Sampling
  /** The head draws nothing and pools the hidden states after its norm; its steps follow each other from the first token on. */
  pooling?: Pooling
  /**
   * Computes every token by products and attention of two rows at least, so that logits and KV cache are the same to the
   * bit in whatever steps and company a sequence is computed, where the device's kernels keep that (`ShardSession.exact`).
   *
   * @default false: a lone token takes the kernels for one row, which are faster and round otherwise
   */
  exact?: boolean
  /** Steps of this session alone come with what the model made of their tokens (`states`), where the range ends with the head. */
  states?: boolean | undefined
}

export interface ForwardInput {
  /** Tokens already in the KV cache: the position of the first token of this input. */
  position: number
  /** Token ids where the range starts with the embedding, hidden states elsewhere. */
  input: Int32Array | HiddenStates
  /**
   * Draw a token after the last position, or say what is pooled so far, where the range ends with the head (false for all but
   * the last chunk).
   */
  sample: boolean
  /** Tokens that may be drawn. @default all of them */
  mask?: TokenMask | undefined
  /** What another model made of the token before each, (tokens, hidden), where a layer joins it (`Block.joins`). */
  previous?: Float32Array | undefined
}

/**
 * Hidden states for the next stage, a token, what was pooled (hidden), of length 1, or nothing (a prefill chunk that reached the head without sampling).
 * Hidden states of a single token are the session's own memory: the step after the next one overwrites them. `states`, where
 * the session was opened for them: of each token after the last norm, (tokens, hidden).
 */
export type ForwardOutput =
  | { kind: 'hidden'; hidden: HiddenStates; computeMs: number }
  | { kind: 'token'; token: SampledToken; states?: Float32Array; computeMs: number }
  | { kind: 'pooled'; pooled: Float32Array; computeMs: number }
  | { kind: 'none'; states?: Float32Array; computeMs: number }

/** One request's KV cache on one shard. Calls on a session are answered in order. */
export interface ShardSession {
  /** Whether it is computed to the bit: it was asked for, and the kernels here were found to keep it. */
  readonly exact: boolean
  /** What its slot held before it, where that was to be saved and could be. */
  readonly saved?: SavedTokens | undefined
  forward(step: ForwardInput): Promise<ForwardOutput>
  /** Forgets every token from `length` on. */
  trim(length: number): Promise<void>
  close(): Promise<void>
}

export interface BatchOptions {
  /** Sequences that the KV cache has room for. */
  slots: number
  /** Prompt and reply together, of each sequence. */
  maxTokens: number
  /**
   * Tokens of one sequence that a step has at most: layers with a window keep little more then than it and that take, and a
   * sequence cannot go back far. Absent: they keep all.
   */
  frameTokens?: number
}

export interface OpenSlotOptions {
  /** As in OpenSessionOptions. */
  sampling?: Sampling
  /** As in OpenSessionOptions; such a session has steps of its own only. */
  pooling?: Pooling
  /** Which slot to take. @default the first that is free */
  slot?: number
  /** Tokens of the slot's last session to go on from; exact ones only if that was exact. @default 0 */
  keepTokens?: number
  /** The slot, taken or not, whose first `keepTokens` tokens are copied. @default the session's own */
  copyFrom?: number | undefined
  /** What the first `keepTokens` tokens are taken from, in the place of a slot; saved by a session of this batch. */
  restore?: SavedTokens | undefined
  /** Tokens of the slot's last session of which what is in the KV cache is saved before; needs `slot`. @default none */
  saveTokens?: number | undefined
  /** As in OpenSessionOptions. */
  exact?: boolean
  /** As in OpenSessionOptions. */
  states?: boolean | undefined
}

/** One token of each of several sequences. */
export interface DecodeInput {
  /** Tokens already in each one's KV cache. */
  positions: number[]
  /** One token id, or one row of hidden states, of each. */
  input: Int32Array | HiddenStates
  /** Tokens that may be drawn for each. @default all of them */
  masks?: (TokenMask | undefined)[]
}

/** Row i belongs to the i-th session that was named. Where its logits are not finite, no token is drawn. */
export type DecodeOutput =
  | { kind: 'hidden'; hidden: HiddenStates; computeMs: number }
  | { kind: 'tokens'; tokens: (SampledToken | undefined)[]; computeMs: number }

/** Neighbouring tokens of one sequence in a step of several sequences. */
export interface StepPart {
  /** Tokens before the first of them. What the KV cache holds from there on is forgotten. */
  position: number
  /** One or more. */
  tokens: number
  /** Behind so many of them, the last ones, a token is drawn, where the range ends with the head. */
  draws: number
  /** Tokens that may be drawn behind the last one. @default all of them */
  mask?: TokenMask | undefined
}

/** Any number of tokens of each of several sequences. */
export interface RaggedStep {
  parts: StepPart[]
  /** The token ids, or rows of hidden states, of the first part, behind it those of the second, and so on. */
  input: Int32Array | HiddenStates
}

/**
 * Hidden states of all rows in the order of the input, or what was drawn behind the rows of each part: nothing where no
 * draw was asked for, undefined where the logits are not finite.
 */
export type RaggedOutput =
  | { kind: 'hidden'; hidden: HiddenStates; computeMs: number }
  | { kind: 'drawn'; drawn: (SampledToken | undefined)[][]; computeMs: number }

/** Sequences that share a KV cache of several slots, and are computed in common runs. */
export interface ShardBatch {
  /** Takes a free slot; it is free again when the session closes. */
  open(options?: OpenSlotOptions): Promise<ShardSession>
  /**
   * A step of several sessions of this batch, in as few runs as the shard's lanes allow. Where it fails no part has been
   * appended: each session ends at its part's position. So does one of whose logits some are not finite.
   */
  step(sessions: readonly ShardSession[], step: RaggedStep): Promise<RaggedOutput>
  /**
   * A step of one token of each of several sessions, behind each of which one is drawn; what a session holds behind its
   * position is forgotten.
   */
  decode(sessions: readonly ShardSession[], step: DecodeInput): Promise<DecodeOutput>
  /** Frees the cache and closes every session still open. */
  close(): Promise<void>
}

/** The weights of a layer range, loaded. */
export interface Shard {
  readonly manifest: Manifest
  readonly range: LayerRange
  /** Resolves with the reason when what holds it has ended by itself: all of it is lost. */
  readonly ended: Promise<Error>
  open(options: OpenSessionOptions): Promise<ShardSession>
  openBatch(options: BatchOptions): Promise<ShardBatch>
  /** Frees weights and every session still open. */
  release(): Promise<void>
}

/** Time of one layer: a step of one token, of one token of each of several sequences, and one token of a prompt. */
export interface LayerTimes {
  decodeMs: number
  /** Milliseconds by batch size. */
  decodeMsByBatch: Record<string, number>
  prefillMsPerToken: number
  /** Milliseconds to load one of several. */
  loadMs?: number
  /** Milliseconds of prompts by their tokens: of a short one, and of a chunk. Not of heads, which take a prompt's last token. */
  prefillMsByTokens?: Record<string, number>
  /** Milliseconds of a step by tokens before it, the first of them where `decodeMs` was taken. Only of layers that attend. */
  decodeMsByContext?: Record<string, number>
  /** Milliseconds of one token of a prompt by tokens before it, likewise. */
  prefillMsPerTokenByContext?: Record<string, number>
}

/** Times of one layer at more measured points: milliseconds by prompt length. */
export interface DetailedTimes extends LayerTimes {
  decodeMsPerExtraSequence: number
  prefillMsByTokens: Record<string, number>
}

/** The worker threads that hold the ONNX sessions. Errors that they report carry the file or layer they are about. */
export interface Runtime {
  load(
    spec: ShardSpec,
    options?: { signal?: AbortSignal; onProgress?: (fraction: number) => void }
  ): Promise<Shard>
  /**
   * Times one layer of each kind, and of each block, on this device, with random weights, one layer at a time.
   *
   * @param quantization how the layers' weights are packed; absent: float32.
   * @param options `thorough`: more numbers of sequences, in twice the time; a GPU times as many in any case. @default false
   */
  profile(
    shape: ModelShape,
    quantization?: Quantization,
    options?: { signal?: AbortSignal; thorough?: boolean }
  ): Promise<ByTimedKind<LayerTimes>>
  /** Like `profile`, at several batch sizes, contexts and prompt lengths. */
  profileInDetail(
    shape: ModelShape,
    quantization?: Quantization,
    options?: { signal?: AbortSignal }
  ): Promise<ByTimedKind<DetailedTimes>>
  /** Ends the workers; what is pending rejects. */
  stop(): Promise<void>
}

import { allocateHidden } from './hidden.ts'
import { KvCache } from './kv-cache.ts'
import { hiddenBytes } from './memory.ts'
import { POSITIONS, pastName, presentName, rotatesInside, SEQLENS_K, TOTAL_LENGTH } from './onnx/attention.ts'
import { Tensor } from './onnx/session.ts'
import { HIDDEN, INPUT, LOG_SUM, LOGITS, NO_COPY, ROWS } from './onnx/shard-graph.ts'
import type { ForwardInput, HiddenStates, OpenSessionOptions, SampledToken } from './runtime.ts'
import {
  ContextOverflowError,
  InferenceError,
  PositionError,
  RuntimeInputError,
  SessionClosedError
} from './runtime-errors.ts'
import { sampleToken, samplingProblem } from './sampler.ts'
import type { ShardExecutor } from './shard-executor.ts'

/** What a step leaves: hidden states (in decode the number of the sequence's own buffer), a token or nothing. */
export type StepOutput =
  | { kind: 'hidden'; hidden: HiddenStates | number; computeMs: number }
  | { kind: 'token'; token: SampledToken; computeMs: number }
  | { kind: 'none'; computeMs: number }

/**
 * One request's sequence on a shard, in the worker: its KV cache and the tensors that every step uses again. A decode
 * step allocates no memory of the model's sizes.
 */
export class Sequence {
  /** Where decode steps put their hidden states, in turn: (1, hidden) each. Empty where the range ends with the head. */
  readonly decodeOutputs: HiddenStates[]
  closed = false
  #length = 0
  readonly #shard: ShardExecutor
  readonly #options: OpenSessionOptions
  readonly #feeds: Record<string, Tensor> = {}
  readonly #fetches: Record<string, Tensor | null> = { [NO_COPY]: null }
  /** Tokens in the cache after a step, less one: (1). */
  readonly #seqlens = new Int32Array(1)
  readonly #total = new Int32Array(1)
  /** Position of a decode step's token, for the RotaryEmbedding operator: (1, 1). */
  readonly #position = new BigInt64Array(1)
  /** The head's row, of which there is one in a decode step: (1). */
  readonly #row = new Int32Array(1)
  readonly #logits: Float32Array
  readonly #logSum: Float32Array
  readonly #decode: { positions: Tensor; row: Tensor; logits: Tensor; logSum: Tensor; outputs: Tensor[] }
  readonly #empty: { row: Tensor; logits: Tensor; logSum: Tensor }
  #turn = 0

  constructor(shard: ShardExecutor, options: OpenSessionOptions) {
    this.#shard = shard
    this.#options = options
    const { shape } = shard.manifest
    checkOptions(shard, options)
    this.decodeOutputs = endsWithHead(shard) ? [] : [0, 1].map(() => allocateHidden(1, shape.hiddenSize))
    this.#logits = new Float32Array(endsWithHead(shard) ? shape.vocabSize : 0)
    this.#logSum = new Float32Array(endsWithHead(shard) ? 1 : 0)
    this.#decode = {
      positions: new Tensor('int64', this.#position, [1, 1]),
      row: new Tensor('int32', this.#row, [1]),
      logits: new Tensor('float32', this.#logits, [this.#logSum.length, shape.vocabSize]),
      logSum: new Tensor('float32', this.#logSum, [this.#logSum.length, 1]),
      outputs: this.decodeOutputs.map(({ data }) => new Tensor('float32', data, [1, 1, shape.hiddenSize]))
    }
    this.#empty = {
      row: new Tensor('int32', new Int32Array(0), [0]),
      logits: new Tensor('float32', new Float32Array(0), [0, shape.vocabSize]),
      logSum: new Tensor('float32', new Float32Array(0), [0, 1])
    }
    this.#wireCache(new KvCache(shape, shard.range, options.maxTokens))
  }

  /**
   * Computes the shard's layers for the tokens of one step and appends them to the KV cache. A step that fails leaves
   * the cache's length as it was.
   */
  async forward({ position, input, sample }: ForwardInput): Promise<StepOutput> {
    this.#check(position, input)
    const tokens = tokensOf(input)
    const { shape } = this.#shard.manifest
    const toHead = endsWithHead(this.#shard)
    this.#feeds[INPUT] =
      input instanceof Int32Array
        ? new Tensor('int32', input, [1, tokens])
        : new Tensor('float32', input.data, [1, tokens, shape.hiddenSize])
    this.#placeStep(position, tokens)
    let hidden: HiddenStates | number = 0
    if (toHead) {
      this.#row[0] = tokens - 1
      const { row, logits, logSum } = sample ? this.#decode : this.#empty
      this.#feeds[ROWS] = row
      this.#fetches[LOGITS] = logits
      this.#fetches[LOG_SUM] = logSum
    } else hidden = this.#wireHidden(tokens)

    const start = performance.now()
    await this.#shard.run(this.#feeds, this.#fetches)
    if (this.closed) throw new SessionClosedError('the session was closed while a step ran')
    this.#length = position + tokens
    if (!toHead) return { kind: 'hidden', hidden, computeMs: performance.now() - start }
    if (!sample) return { kind: 'none', computeMs: performance.now() - start }
    const token = this.#sample()
    return { kind: 'token', token, computeMs: performance.now() - start }
  }

  trim(length: number): void {
    if (!Number.isInteger(length) || length < 0 || length > this.#length) {
      throw new RuntimeInputError(`cannot trim to ${length} tokens: the session has ${this.#length}`)
    }
    this.#length = length
  }

  #wireCache(cache: KvCache): void {
    const { shape } = this.#shard.manifest
    const dims = [1, shape.kvHeads, cache.maxTokens, shape.headSize]
    const layers = cache.view()
    for (const { layer, key, value } of layers) {
      const tensors = { key: new Tensor('float32', key, dims), value: new Tensor('float32', value, dims) }
      for (const part of ['key', 'value'] as const) {
        // The same memory as past and present: the run appends to it in place.
        this.#feeds[pastName(part, layer)] = tensors[part]
        this.#fetches[presentName(part, layer)] = tensors[part]
      }
    }
    if (layers.length === 0) return
    const { cos, sin } = this.#shard.rotary(cache.maxTokens)
    Object.assign(this.#feeds, {
      cos,
      sin,
      [SEQLENS_K]: new Tensor('int32', this.#seqlens, [1]),
      [TOTAL_LENGTH]: new Tensor('int32', this.#total, [])
    })
  }

  #placeStep(position: number, tokens: number): void {
    if (this.#feeds[SEQLENS_K] === undefined) return
    this.#seqlens[0] = position + tokens - 1
    this.#total[0] = position + tokens
    if (rotatesInside(this.#shard.manifest.shape)) return
    if (tokens === 1) {
      this.#position[0] = BigInt(position)
      this.#feeds[POSITIONS] = this.#decode.positions
    } else {
      const positions = BigInt64Array.from({ length: tokens }, (_, i) => BigInt(position + i))
      this.#feeds[POSITIONS] = new Tensor('int64', positions, [1, tokens])
    }
  }

  /** Decode steps write two buffers in turn; a prefill chunk gets its own, as several may be on their way. */
  #wireHidden(tokens: number): HiddenStates | number {
    if (tokens === 1) {
      this.#turn = 1 - this.#turn
      this.#fetches[HIDDEN] = this.#decode.outputs[this.#turn]!
      return this.#turn
    }
    const { hiddenSize } = this.#shard.manifest.shape
    const hidden = allocateHidden(tokens, hiddenSize)
    this.#fetches[HIDDEN] = new Tensor('float32', hidden.data, [1, tokens, hiddenSize])
    return hidden
  }

  #sample(): SampledToken {
    const logSum = this.#logSum[0]!
    if (!Number.isFinite(logSum)) {
      const [start, end] = this.#shard.range
      throw new InferenceError(
        `layers [${start}, ${end}) gave logits that are not finite at position ${this.#length - 1}: ` +
          'the hidden states that came in, or the weights, are damaged'
      )
    }
    return sampleToken(this.#logits, logSum, this.#options.sampling!, this.#length - 1)
  }

  #check(position: number, input: ForwardInput['input']): void {
    if (this.closed) throw new SessionClosedError('the session is closed')
    const { shape } = this.#shard.manifest
    const [start] = this.#shard.range
    if (input instanceof Int32Array) {
      if (start !== 0) throw new RuntimeInputError(`layer ${start} takes hidden states, not tokens`)
      const bad = input.find(id => id < 0 || id >= shape.vocabSize)
      if (bad !== undefined) throw new RuntimeInputError(`token ${bad} is not in [0, ${shape.vocabSize})`)
    } else {
      if (start === 0) throw new RuntimeInputError('layer 0 takes tokens, not hidden states')
      const bytes = hiddenBytes(shape, input.tokens)
      if (!(input.data instanceof Float32Array) || input.data.byteLength !== bytes) {
        throw new RuntimeInputError(`hidden states of ${input.tokens} tokens must have ${bytes} bytes`)
      }
    }
    const tokens = tokensOf(input)
    if (tokens === 0) throw new RuntimeInputError('a step needs at least one token')
    if (position !== this.#length) {
      const message = `a step at position ${position} was sent to a session of ${this.#length} tokens`
      throw new PositionError(message, this.#length, position)
    }
    const { maxTokens } = this.#options
    if (position + tokens > maxTokens) {
      const message = `${position} + ${tokens} tokens do not fit a session of ${maxTokens}`
      throw new ContextOverflowError(message, maxTokens)
    }
  }
}

function tokensOf(input: ForwardInput['input']): number {
  return input instanceof Int32Array ? input.length : input.tokens
}

function endsWithHead({ manifest, range }: ShardExecutor): boolean {
  return range[1] === manifest.layers.length
}

function checkOptions(shard: ShardExecutor, { maxTokens, sampling }: OpenSessionOptions): void {
  const { contextLength } = shard.manifest.shape
  if (!Number.isInteger(maxTokens) || maxTokens < 1 || maxTokens > contextLength) {
    const message = `a session of ${maxTokens} tokens is not in 1..${contextLength}, the model's context`
    throw new ContextOverflowError(message, contextLength)
  }
  if (!endsWithHead(shard)) return
  if (sampling === undefined) throw new RuntimeInputError('a session on the head needs to know how to sample')
  const problem = samplingProblem(sampling)
  if (problem !== undefined) throw new RuntimeInputError(problem)
}

import { joinsStates } from '../guessing.ts'
import type { Tensor } from '../onnx/session.ts'
import { HIDDEN, INPUT, PREVIOUS } from '../onnx/shard-graph.ts'
import { hasState } from '../recurrence.ts'
import { decoderLayers } from './decoder-layers.ts'
import { NotFiniteError, RuntimeInputError, SessionClosedError } from './errors.ts'
import { exactRows } from './exact-rows.ts'
import { HeadBuffers, selectNormed } from './head-buffers.ts'
import { allocateHidden } from './hidden.ts'
import type { KvCache } from './kv-cache.ts'
import { SAMPLED_ROWS, slotTokens } from './memory.ts'
import { Pool } from './pooling.ts'
import { mainTensor } from './processor.ts'
import type { ReplyHistory } from './reply-history.ts'
import type { ForwardInput, HiddenStates, OpenSessionOptions, SampledToken } from './runtime.ts'
import { historyFor, type Sampling } from './sampler.ts'
import type { ShardExecutor } from './shard-executor.ts'
import { SlotTensors } from './slot-tensors.ts'
import { States } from './states.ts'
import {
  checkInput,
  checkMaxTokens,
  checkPosition,
  checkPrevious,
  checkSampling,
  tokensOf
} from './step-checks.ts'
import { runRanges } from './step-runs.ts'
import type { TokenMask } from './token-mask.ts'

/** What a step leaves: hidden states (in decode the number of the sequence's own buffer), a token or nothing. */
export type StepOutput =
  | { kind: 'hidden'; hidden: HiddenStates | number; computeMs: number }
  | { kind: 'token'; token: SampledToken; states?: Float32Array; computeMs: number }
  | { kind: 'pooled'; pooled: Float32Array; computeMs: number }
  | { kind: 'none'; states?: Float32Array; computeMs: number }

/** Tokens [start, end) of a step, which one run computes, and the rows that it has for them. */
interface RunRows {
  start: number
  end: number
  rows: number
}

/** A slot of a KV cache that sequences share. */
export interface Slot {
  cache: KvCache
  index: number
  head: HeadBuffers | undefined
}

/**
 * The rows that a run of so many rows selects for the token behind the step's last one: that one, twice where there are
 * several. Products of one row add in another order than products of more, so the last decoder layer has to see
 * several rows here as it does on a device that ends before the head; otherwise a cut would change bits.
 */
function sampledRows(tokens: number, rows: number): number[] {
  return rows === 1 ? [0] : Array(SAMPLED_ROWS).fill(tokens - 1)
}

/**
 * One request's sequence on a shard, in the worker: its KV cache and the tensors that every step uses again. A decode
 * step allocates no memory of the model's sizes.
 */
export class Sequence {
  /** Outputs of decode steps, in turn: (1, hidden) each. Empty where the range ends with the head. */
  readonly decodeOutputs: HiddenStates[]
  readonly maxTokens: number
  /** Computed as `exactRows` says. */
  readonly exact: boolean
  closed = false
  #length = 0
  readonly #shard: ShardExecutor
  readonly #sampling: Sampling | undefined
  /** What it has drawn; undefined where nothing depends on that. */
  readonly #reply: ReplyHistory | undefined
  readonly #tensors: SlotTensors
  /** Where the head pools. */
  readonly #pool: Pool | undefined
  /** A layer of the shard joins what another model made of the tokens: its steps come with that, and are of no other sequence. */
  readonly joins: boolean
  /** Its steps come with the states after the head's norm. */
  readonly #givesStates: boolean
  readonly #head: HeadBuffers | undefined
  /** Where it shares no slot of others. */
  readonly #own: Slot | undefined
  readonly #slot: Slot
  readonly #outputTensors: Tensor[]
  #turn = 0

  /** @param slot `own`: nobody else's, so that it is given back with the sequence */
  constructor(
    shard: ShardExecutor,
    { maxTokens, sampling, pooling, exact = false, states = false }: OpenSessionOptions,
    slot: Slot & { own?: boolean }
  ) {
    const { shape } = shard.manifest
    this.maxTokens = maxTokens
    this.#shard = shard
    this.#sampling = sampling
    this.#reply = sampling && historyFor(sampling)
    const pools = pooling !== undefined && shard.endsWithHead
    this.#pool = pools ? new Pool(pooling, shape.hiddenSize) : undefined
    this.joins = decoderLayers(shape, shard.range).length > 0 && joinsStates(shape)
    this.#givesStates = states && shard.endsWithHead
    // What makes rows exact would change a state.
    this.exact = exact && !hasState(shape)
    this.#own = slot.own === true ? slot : undefined
    this.#slot = slot
    const { cache, index, head } = slot
    this.#tensors = new SlotTensors(shard, cache, [index, index + 1])
    this.#head = head
    const rows = this.rowsOf(1)
    const outputs = shard.endsWithHead ? [] : [0, 1].map(() => allocateHidden(rows, shape.hiddenSize))
    this.decodeOutputs = outputs.map(hidden => firstRows(hidden, 1, shape.hiddenSize))
    const dims = [1, rows, shape.hiddenSize]
    this.#outputTensors = outputs.map(({ data }) => mainTensor(data, dims))
  }

  /**
   * A sequence with a KV cache of its own.
   *
   * @param frameTokens that a step has at most; undefined: layers with a window keep all tokens
   * @throws {ContextOverflowError} or {RuntimeInputError} for options that make no sense.
   */
  static async open(
    shard: ShardExecutor,
    options: OpenSessionOptions,
    frameTokens?: number
  ): Promise<Sequence> {
    checkOptions(shard, options)
    const cache = await shard.allocate(slotTokens(options.maxTokens), 1, frameTokens)
    const { vocabSize } = shard.manifest.shape
    const head = shard.endsWithHead ? new HeadBuffers(vocabSize, SAMPLED_ROWS) : undefined
    return new Sequence(shard, options, { cache, index: 0, head, own: true })
  }

  /** Tokens in the KV cache. */
  get length(): number {
    return this.#length
  }

  /** Whether its steps pool hidden states and draw nothing: none of them may be of other sequences, too. */
  get pools(): boolean {
    return this.#pool !== undefined
  }

  /** Throws what is wrong with a step of `tokens` tokens at `position`, if anything is. */
  check(position: number, tokens: number): void {
    if (this.closed) throw new SessionClosedError('the session is closed')
    this.checkRoom(this.#length, position, tokens)
  }

  /** The same for a session that may be closed, and of which only `length` tokens are kept. */
  checkRoom(length: number, position: number, tokens: number): void {
    checkPosition(position, tokens, length, this.maxTokens)
  }

  /**
   * Computes the shard's layers for the tokens of one step and appends them to the KV cache. A step that fails leaves
   * the cache's length as it was.
   */
  async forward({ position, input, sample, mask, previous }: ForwardInput): Promise<StepOutput> {
    const { shape } = this.#shard.manifest
    checkInput(shape, this.#shard.range[0], input)
    const tokens = tokensOf(input)
    if (this.joins) checkPrevious(shape, tokens, previous)
    this.check(position, tokens)
    const { cache, index } = this.#slot
    cache.check(index, position, tokens)
    if (this.#pool !== undefined) checkPooled(this.#pool, position)
    await this.begin(position, tokens)
    if (this.#pool !== undefined) return await this.#pooled(this.#pool, { position, input, sample })
    const head = this.#head
    if (head === undefined) {
      const { hidden, wire } = this.#hiddenOf(tokens, sample)
      const computeMs = await this.#run({ position, input, previous }, wire)
      this.append(tokens)
      return { kind: 'hidden', hidden, computeMs }
    }
    const states = this.#givesStates ? new States(shape.hiddenSize) : undefined
    const computeMs = await this.#run({ position, input, previous }, ({ start, end, rows }) => {
      const sampled = sample && end === tokens ? sampledRows(end - start, rows) : []
      if (states === undefined) head.select(this.#tensors, sampled)
      else states.select(this.#tensors, head, { tokens: end - start, rows, sampled })
    })
    const made = states && { states: states.all }
    if (!sample) {
      this.append(tokens)
      return { kind: 'none', ...made, computeMs }
    }
    const last = position + tokens - 1
    const began = performance.now()
    const token = this.sample(head, 0, last, mask)
    const drawMs = performance.now() - began
    if (token === undefined) {
      throw new NotFiniteError(
        `the logits at position ${last} are not finite: the hidden states that came in, or the weights, are damaged`
      )
    }
    this.append(tokens)
    return { kind: 'token', token, ...made, computeMs: computeMs + drawMs }
  }

  /**
   * Computes a step that has begun, in as many runs as its tokens take.
   *
   * @param wire says what is to come of a run, of the rows that it has
   * @returns milliseconds
   */
  async #run(
    { position, input, previous }: Pick<ForwardInput, 'position' | 'input' | 'previous'>,
    wire: (run: RunRows) => void
  ): Promise<number> {
    const { hiddenSize } = this.#shard.manifest.shape
    const { feeds, fetches } = this.#tensors
    let ms = 0
    for (const [start, end] of runRanges(tokensOf(input), this.#shard.mostTokens)) {
      const rows = this.rowsOf(end - start)
      feeds[INPUT] = inputOf(rowsIn(input, start, end, hiddenSize), rows, hiddenSize)
      if (this.joins && previous !== undefined) {
        const own = previous.subarray(start * hiddenSize, end * hiddenSize)
        feeds[PREVIOUS] = inputOf({ tokens: end - start, data: own }, rows, hiddenSize)
      }
      this.#tensors.place([position + start], rows)
      wire({ start, end, rows })
      const began = performance.now()
      await this.#shard.run(feeds, fetches)
      ms += performance.now() - began
    }
    return ms
  }

  async #pooled(
    pool: Pool,
    { position, input, sample }: Pick<ForwardInput, 'position' | 'input' | 'sample'>
  ): Promise<StepOutput> {
    if (position === 0) pool.clear()
    const { hiddenSize } = this.#shard.manifest.shape
    const tokens = tokensOf(input)
    const pooled: { states: Float32Array; count: number }[] = []
    const computeMs = await this.#run({ position, input }, ({ start, end, rows }) => {
      const count = end - start
      const taken = pool.rowsOf(count, rows, sample && end === tokens)
      pooled.push({ states: selectNormed(this.#tensors, taken, hiddenSize), count })
    })
    for (const { states, count } of pooled) pool.add(states, count)
    this.append(tokens)
    if (!sample) return { kind: 'none', computeMs }
    const vector = pool.vector()
    if (vector === undefined) {
      throw new NotFiniteError(
        'the pooled hidden states are not finite, or zeros: what came in, or the weights, are damaged'
      )
    }
    return { kind: 'pooled', pooled: vector, computeMs }
  }

  /** Draws from row `index` of what a run left in `head`, of what `mask` allows; undefined when that is no numbers. */
  sample(head: HeadBuffers, index: number, position: number, mask?: TokenMask): SampledToken | undefined {
    return head.sample(index, this.#sampling!, position, { reply: this.#reply, mask })
  }

  /** A run of so many tokens is about to change what the slot has, from `position` on. */
  async begin(position: number, tokens: number): Promise<void> {
    if (position < this.#length) await this.trim(position)
    const { cache, index } = this.#slot
    await cache.begin(index, { position, tokens, exact: this.exact })
  }

  /** Counts tokens that a run has put into the KV cache. */
  append(tokens: number): void {
    if (this.closed) throw new SessionClosedError('the session was closed while a step ran')
    this.#length += tokens
    this.#slot.cache.end(this.#slot.index, this.#length)
  }

  /** Starts with the first `tokens` tokens that are in the slot. */
  async goOn(tokens: number): Promise<void> {
    await this.#slot.cache.takeBack(this.#slot.index, tokens)
    this.#length = tokens
  }

  /** The slot goes on as if so many tokens had been computed, whatever it has: for what is timed, and need not be right. */
  pretend(tokens: number): void {
    this.#length = tokens
    this.#slot.cache.pretend(this.#slot.index, tokens)
  }

  /**
   * Forgets every token from `length` on.
   *
   * @throws {RuntimeInputError} where there are not so many, or a layer has a state that is not kept there
   */
  async trim(length: number): Promise<void> {
    if (!Number.isInteger(length) || length < 0 || length > this.#length) {
      throw new RuntimeInputError(`cannot trim to ${length} tokens: the session has ${this.#length}`)
    }
    this.#slot.cache.check(this.#slot.index, length)
    await this.goOn(length)
  }

  /** Gives back a KV cache of its own; it may not be used any more. */
  free(): void {
    this.#own?.cache.free()
    this.#own?.head?.free()
  }

  /**
   * Decode steps write two buffers in turn. A prefill chunk gets its own, as several may be on their way; so does a
   * known token that is fed again after a loss, without a token being drawn behind it.
   */
  #hiddenOf(
    tokens: number,
    sample: boolean
  ): { hidden: HiddenStates | number; wire: (run: RunRows) => void } {
    const { fetches } = this.#tensors
    if (tokens === 1 && sample) {
      this.#turn = 1 - this.#turn
      const output = this.#outputTensors[this.#turn]!
      return {
        hidden: this.#turn,
        wire: () => {
          fetches[HIDDEN] = output
        }
      }
    }
    const { hiddenSize } = this.#shard.manifest.shape
    const [start, end] = runRanges(tokens, this.#shard.mostTokens).at(-1)!
    const all = allocateHidden(start + this.rowsOf(end - start), hiddenSize)
    return {
      hidden: firstRows(all, tokens, hiddenSize),
      // A row for nobody lies where the next run's first one is put.
      wire: ({ start, rows }) => {
        const own = all.data.subarray(start * hiddenSize, (start + rows) * hiddenSize)
        fetches[HIDDEN] = mainTensor(own, [1, rows, hiddenSize])
      }
    }
  }

  /** Rows that a step of so many tokens computes: kernels for one row round otherwise than those for more. */
  rowsOf(tokens: number): number {
    return this.exact ? exactRows(this.#shard.manifest.shape, tokens) : tokens
  }
}

/** @throws {ContextOverflowError} or {RuntimeInputError} for options that make no sense. */
export function checkOptions(
  shard: ShardExecutor,
  { maxTokens, sampling, pooling }: OpenSessionOptions
): void {
  checkMaxTokens(shard.manifest.shape, maxTokens)
  if (pooling === undefined) checkSampling(shard, sampling)
}

/** @throws {RuntimeInputError} unless a step at `position` follows what is pooled, or begins anew */
function checkPooled({ tokens }: Pool, position: number): void {
  if (position === 0 || position === tokens) return
  throw new RuntimeInputError(`a step at ${position} does not follow the ${tokens} tokens that are pooled`)
}

/** Tokens [start, end) of a step: the memory itself, not a copy. */
function rowsIn(
  input: ForwardInput['input'],
  start: number,
  end: number,
  hiddenSize: number
): ForwardInput['input'] {
  if (input instanceof Int32Array) return input.subarray(start, end)
  return { tokens: end - start, data: input.data.subarray(start * hiddenSize, end * hiddenSize) }
}

/** The input of so many rows: what is too little has its last row again. */
function inputOf(
  input: Int32Array | { tokens: number; data: Float32Array },
  rows: number,
  hiddenSize: number
): Tensor {
  const tokens = input instanceof Int32Array ? input.length : input.tokens
  const of = (row: number) => Math.min(row, tokens - 1)
  if (input instanceof Int32Array) {
    const ids = rows === tokens ? input : Int32Array.from({ length: rows }, (_, row) => input[of(row)]!)
    return mainTensor(ids, [1, rows])
  }
  if (rows === tokens) return mainTensor(input.data, [1, rows, hiddenSize])
  const data = new Float32Array(rows * hiddenSize)
  for (let row = 0; row < rows; row++) {
    data.set(input.data.subarray(of(row) * hiddenSize, (of(row) + 1) * hiddenSize), row * hiddenSize)
  }
  return mainTensor(data, [1, rows, hiddenSize])
}

function firstRows({ data, tokens }: HiddenStates, count: number, hiddenSize: number): HiddenStates {
  return tokens === count ? { data, tokens } : { data: data.subarray(0, count * hiddenSize), tokens: count }
}

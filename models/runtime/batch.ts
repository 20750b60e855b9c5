import { Tensor } from '../onnx/session.ts'
import { HIDDEN, INPUT } from '../onnx/shard-graph.ts'
import { NoFreeSlotError, RuntimeInputError } from './errors.ts'
import { HeadBuffers } from './head-buffers.ts'
import { allocateHidden } from './hidden.ts'
import { KvCache } from './kv-cache.ts'
import { SAMPLED_ROWS, slotTokens } from './memory.ts'
import type { BatchOptions, DecodeInput, DecodeOutput, HiddenStates, OpenSlotOptions } from './runtime.ts'
import { Sequence } from './sequence.ts'
import type { ShardExecutor } from './shard-executor.ts'
import { SlotTensors } from './slot-tensors.ts'
import { checkInput, checkMaxTokens, tokensOf } from './step-checks.ts'

/** More slots than this would not make a step's share of the weights any smaller. */
const MAX_SLOTS = 256

/**
 * Sequences in the slots of one KV cache, in the worker: each is prefilled alone, and any of them decode together in
 * one run, which reads the weights once. A run covers the slots from the first to the last that take part; those in
 * between compute a token that is not read, which they put behind their last one.
 */
export class Batch {
  readonly #shard: ShardExecutor
  readonly #maxTokens: number
  readonly #cache: KvCache
  readonly #head: HeadBuffers | undefined
  readonly #slots: (Sequence | undefined)[]
  /** The tensors of runs over a range of slots, by `start-end`. */
  readonly #tensors = new Map<string, { slots: SlotTensors; input: Tensor; output: Tensor | undefined }>()
  /** Input and output rows of all slots: ids (slots) or hidden states (slots, hidden). */
  readonly #input: Int32Array | Float32Array
  readonly #output: Float32Array

  constructor(shard: ShardExecutor, { slots, maxTokens }: BatchOptions) {
    const { shape } = shard.manifest
    checkMaxTokens(shape, maxTokens)
    if (!Number.isInteger(slots) || slots < 1 || slots > MAX_SLOTS) {
      throw new RuntimeInputError(`${slots} slots are not in 1..${MAX_SLOTS}`)
    }
    this.#shard = shard
    this.#maxTokens = maxTokens
    this.#cache = new KvCache(shape, shard.range, slotTokens({ slots, maxTokens }), slots)
    this.#head = shard.endsWithHead
      ? new HeadBuffers(shape.vocabSize, Math.max(slots, SAMPLED_ROWS))
      : undefined
    this.#slots = new Array(slots).fill(undefined)
    this.#input = shard.range[0] === 0 ? new Int32Array(slots) : new Float32Array(slots * shape.hiddenSize)
    this.#output = new Float32Array(shard.endsWithHead ? 0 : slots * shape.hiddenSize)
  }

  /**
   * A new sequence in a slot that is free: the first one unless `slot` names it. It starts with the first `keepTokens`
   * tokens that the slot's last sequence left in the KV cache.
   */
  open({ sampling, slot, keepTokens = 0 }: OpenSlotOptions): Sequence {
    const free = (sequence: Sequence | undefined) => sequence === undefined || sequence.closed
    const index = slot ?? this.#slots.findIndex(free)
    if (!Number.isInteger(index) || index >= this.#slots.length) {
      throw new RuntimeInputError(`slot ${index} is none of ${this.#slots.length}`)
    }
    if (index < 0) throw new NoFreeSlotError(`all ${this.#slots.length} slots are taken`)
    const last = this.#slots[index]
    if (!free(last)) throw new NoFreeSlotError(`slot ${index} is taken`)
    if (keepTokens > (last?.length ?? 0)) {
      throw new RuntimeInputError(`slot ${index} holds ${last?.length ?? 0} tokens, not ${keepTokens}`)
    }
    const options = { maxTokens: this.#maxTokens, ...(sampling === undefined ? {} : { sampling }) }
    const sequence = new Sequence(this.#shard, options, { cache: this.#cache, index, head: this.#head })
    if (keepTokens > 0) sequence.append(keepTokens)
    this.#slots[index] = sequence
    return sequence
  }

  /**
   * One token of each sequence, in one run. A run that fails leaves every length as it was, and logits that are not
   * finite that of their sequence.
   */
  async decode(sequences: readonly Sequence[], { positions, input }: DecodeInput): Promise<DecodeOutput> {
    const { shape } = this.#shard.manifest
    checkInput(shape, this.#shard.range[0], input)
    if (sequences.length !== positions.length || sequences.length !== tokensOf(input)) {
      throw new RuntimeInputError(
        `${sequences.length} sessions, ${positions.length} positions and ${tokensOf(input)} tokens differ`
      )
    }
    // One that was closed meanwhile still has its slot: the others must not lose their step for it.
    const indices = sequences.map((sequence, i) => {
      sequence.checkRoom(positions[i]!, 1)
      return this.#slots.indexOf(sequence)
    })
    if (new Set(indices).size < indices.length)
      throw new RuntimeInputError('a session occurs twice in a step')
    const start = Math.min(...indices)
    const end = Math.max(...indices) + 1
    const { slots, input: inputTensor, output } = this.#tensorsOf(start, end)
    slots.place(
      this.#slots.slice(start, end).map(sequence => sequence?.length ?? 0),
      1
    )
    this.#scatter(input, indices)
    slots.feeds[INPUT] = inputTensor
    this.#head?.select(
      slots,
      indices.map(index => index - start)
    )
    if (output !== undefined) slots.fetches[HIDDEN] = output
    const began = performance.now()
    await this.#shard.run(slots.feeds, slots.fetches)
    const head = this.#head
    if (head === undefined) {
      const hidden = this.#gather(indices)
      for (const sequence of sequences) if (!sequence.closed) sequence.append(1)
      return { kind: 'hidden', hidden, computeMs: performance.now() - began }
    }
    const tokens = sequences.map((sequence, i) => sequence.sample(head, i, positions[i]!))
    sequences.forEach((sequence, i) => {
      if (tokens[i] !== undefined && !sequence.closed) sequence.append(1)
    })
    return { kind: 'tokens', tokens, computeMs: performance.now() - began }
  }

  /** Gives the KV cache back; none of its sequences may be used any more. */
  free(): void {
    this.#cache.free()
    this.#head?.free()
  }

  #tensorsOf(start: number, end: number): { slots: SlotTensors; input: Tensor; output: Tensor | undefined } {
    const key = `${start}-${end}`
    let tensors = this.#tensors.get(key)
    if (tensors === undefined) {
      const { hiddenSize } = this.#shard.manifest.shape
      const batch = end - start
      const dims = [batch, 1, hiddenSize]
      const part = (data: Float32Array) => data.subarray(start * hiddenSize, end * hiddenSize)
      tensors = {
        slots: new SlotTensors(this.#shard, this.#cache, [start, end]),
        input:
          this.#input instanceof Int32Array
            ? new Tensor('int32', this.#input.subarray(start, end), [batch, 1])
            : new Tensor('float32', part(this.#input), dims),
        output: this.#head === undefined ? new Tensor('float32', part(this.#output), dims) : undefined
      }
      this.#tensors.set(key, tensors)
    }
    return tensors
  }

  /** Puts row i of the input where slot indices[i] reads it. */
  #scatter(input: DecodeInput['input'], indices: number[]): void {
    const { hiddenSize } = this.#shard.manifest.shape
    indices.forEach((index, i) => {
      if (input instanceof Int32Array) this.#input[index] = input[i]!
      else this.#input.set(input.data.subarray(i * hiddenSize, (i + 1) * hiddenSize), index * hiddenSize)
    })
  }

  /** The rows of the slots, in shared memory, in the order in which they were asked for. */
  #gather(indices: number[]): HiddenStates {
    const { hiddenSize } = this.#shard.manifest.shape
    const hidden = allocateHidden(indices.length, hiddenSize)
    indices.forEach((index, i) => {
      hidden.data.set(this.#output.subarray(index * hiddenSize, (index + 1) * hiddenSize), i * hiddenSize)
    })
    return hidden
  }
}

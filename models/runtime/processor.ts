import type { Block } from '../manifest.ts'
import type { Graph } from '../onnx/model.ts'
import { type OnnxSession, Tensor } from '../onnx/session.ts'

/**
 * What computes the sessions of a worker, and where the tensors lie that outlive a run. Nothing else knows which kind it
 * is, and no other file of the runtime makes tensors.
 */
export interface Processor {
  /** Whether neighbouring slots of a memory may be one tensor; otherwise each slot is a tensor of its own. */
  readonly joinsSlots: boolean
  /** Tokens of one sequence that a run may have: a step of more takes several, one behind the other. Infinity: any number. */
  readonly mostTokens: number
  /** Whether runs may compute the query heads of a group as rows of one head (onnx/grouped-attention.ts). */
  readonly groupsHeads: boolean
  /** Why layers of a block are not computed here; undefined where they are. */
  refusal(block: Block): string | undefined
  /** @throws {InferenceError} when ONNX Runtime refuses the graph or a weight file. */
  load(graph: Graph, weightsDir: string): Promise<OnnxSession>
  /** Zeros for `slots` sequences, which runs read and write in place: a KV cache, or any other state of a sequence. */
  allocate(slots: number, dims: SlotDims): Promise<SlotMemory>
  /** Numbers that many runs read and none writes, row-major. */
  constant(data: Float32Array, dims: readonly number[]): Promise<Constant>
}

/** A tensor that lies where it is computed with, until it is freed. */
export interface Constant {
  readonly tensor: Tensor
  /** No run may use it any more. */
  free(): void
}

/** What one sequence has in a memory: any number of dimensions of parts, the rows of each, and the numbers of a row. */
export type SlotDims = readonly [...parts: number[], rows: number, width: number]

/** Float32 numbers (slots, ...parts, rows, width), row-major, that last from run to run. */
export interface SlotMemory {
  /** Slots [start, end), the same memory in every call; more than one only where the processor joins slots. */
  tensor(start: number, end: number): Tensor
  /** Puts the first `rows` rows of each part of one slot into another one; what the other has behind them may change. */
  copy(from: number, to: number, rows: number): Promise<void>
  /** A copy of the first `rows` rows of each part of a slot, part by part; undefined where nothing is taken out of this memory. */
  save(slot: number, rows: number): Promise<Float32Array<SharedArrayBuffer> | undefined>
  /** Puts the first `rows` rows of each part of what was saved into a slot; what the slot has behind them may change. */
  restore(slot: number, saved: Float32Array, rows: number): Promise<void>
  /** Brings `rows` rows of each part of a slot, from row `from` on, to its front; what is behind them may change. */
  toFront(slot: number, from: number, rows: number): Promise<void>
  /** Fills every slot with such values, again and again. */
  fill(values: Float32Array): Promise<void>
  /** Gives the memory back now, not when garbage is next collected. No run may use it any more. */
  free(): void
}

/** What a run is given from, or writes to, main memory: the numbers themselves, not a copy. */
export function mainTensor(data: Float32Array | Int32Array | BigInt64Array, dims: readonly number[]): Tensor {
  if (data instanceof Float32Array) return new Tensor('float32', data, dims)
  return data instanceof Int32Array ? new Tensor('int32', data, dims) : new Tensor('int64', data, dims)
}

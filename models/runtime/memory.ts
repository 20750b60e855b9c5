import { blockOf, cacheSizes, layerSizes, sizesOf, turningOf, turnings } from '../blocks.ts'
import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { Block, LayerFile, Manifest, ModelShape, TensorEntry } from '../manifest.ts'
import { isPrepared, rotatesInside } from '../onnx/attention.ts'
import { groupOf } from '../onnx/grouped-attention.ts'
import { MAX_LANES } from '../onnx/lanes.ts'
import { attends, recurrenceSizes, stateTensors } from '../recurrence.ts'
import type { Recurrence } from '../recurrence-schema.ts'
import { decoderLayers } from './decoder-layers.ts'
import { GROUPED_FROM_TOKENS, MAX_GROUPED_ROWS } from './grouped-rows.ts'
import { PREFILL_CHUNK_TOKENS } from './hidden.ts'
import { KEPT_STATES } from './kept-states.ts'
import { layerTokens } from './kv-cache.ts'
import { sessionRanges } from './session-ranges.ts'
import { cacheTokens, windowOf } from './window-cache.ts'

const FLOAT_BYTES = 4

/**
 * What a loaded shard, or a part of a large one, takes however small its layers are: its thread (17 MiB with a V8 of its
 * own, 23 MiB where memory does not come in huge pages) and its graph, 8 MiB with 8 layers. Not part of what a lease
 * costs, which bounds weights and KV caches: `besidesBytes` counts it for all shards of a device together.
 */
export const SHARD_BYTES = 32 * 1024 * 1024
/** So many shards and parts take SHARD_BYTES out of no budget; every further one has to have it free. */
export const FREE_SHARDS = 8
/**
 * A shard is loaded in parts of at least so many bytes of weights, which a step takes some 10 ms to read: it goes from one
 * part's thread to the next, which takes a tenth of a millisecond.
 */
export const PART_BYTES = 256 * 1024 * 1024
/** A shard has so many parts at most: more threads at once hardly load faster, for they wait for disk and memory. */
export const MAX_PARTS = 4
/** The working memory that SHARD_BYTES has in it already: the first regions of ONNX Runtime's allocator. */
const FREE_WORKING_BYTES = 2 * 1024 * 1024
/**
 * ONNX Runtime keeps what a step has needed in regions that double in size. With steps of 1 to 32 tokens in any order it
 * came to hold 1.40 times what is alive at once (test/bench/memory.ts).
 */
const REGIONS_FACTOR = 1.5
/** Kernels for products in blocks pack this many rows together. */
const PACKED_ROWS = 16
/**
 * What a layer of experts takes beside its weights: a session of its own, and each expert a branch. Measured with experts of
 * a few kilobytes: 165 KiB each, and 350 KiB a session.
 */
const BRANCH_BYTES = 176 * 1024
const SESSION_BYTES = 1024 * 1024
/** A tensor of a parsed manifest, which a lease keeps. */
const MANIFEST_TENSOR_BYTES = 512

/** What a lease makes room for. */
export interface StageRoomNeeds {
  /** Sequences at once. */
  slots: number
  /** Tokens of each. */
  maxTokens: number
  /** Tokens of one sequence that a step has at most. @default PREFILL_CHUNK_TOKENS */
  frameTokens?: number | undefined
  /** Layers with a window keep all tokens. */
  keepsAll?: true
}

/** Bytes of memory that a lease costs. */
export interface LeaseBytes {
  /** Weights as they are held, the same for all leases on one range of a model. */
  weightBytes: number
  /** KV caches and working memory, each lease's own. */
  ownBytes: number
}

/**
 * What a lease on a layer range costs: the one place where planner, source and serving peer count it. A step of more
 * tokens than `frameTokens` has to be refused, for it would take more.
 */
export function leaseBytes(manifest: Manifest, range: LayerRange, room: StageRoomNeeds): LeaseBytes {
  return {
    weightBytes: heldBytes(manifest, range),
    ownBytes: kvCacheBytes(manifest.shape, range, room) + workingBytes(manifest, range, room)
  }
}

/** Bytes of the weight files of a layer range, or of all layers: what is fetched, read and stored. */
export function weightBytes(
  manifest: Manifest,
  [start, end]: LayerRange = [0, manifest.layers.length]
): number {
  return manifest.layers.slice(start, end).reduce((sum, layer) => sum + layer.bytes, 0)
}

/** Bytes that the weights of a layer range take once they are loaded, on any processor at most. */
export function heldBytes(manifest: Manifest, [start, end]: LayerRange): number {
  return manifest.layers.slice(start, end).reduce((sum, layer) => sum + layerHeldBytes(layer), 0)
}

/**
 * Floats that a kernel keeps beside the scale of a block, its weights staying as many bytes as they are in the file: the
 * sum of the block's weights, in 8 bits on some processors a second one. MLAS (ONNX Runtime 1.30, qnbitgemm.cpp)
 * has them on x64 from AVX2 on; measured with AVX2, decoder layers take 1.20 times their files in 4 bits and blocks of 32, 1.06 in
 * blocks of 128, 1.33 in blocks of 16, and 1.11 in 8 bits and blocks of 32 (`npm run bench:memory`). KleidiAI, on ARM, packs scales in 2 bytes and sums by row, which is less;
 * where no kernel packs, weights stay as they are.
 */
const SUMS_OF_BLOCK = { 4: 1, 8: 2 } as const

/** Bytes of one layer's weights once they are loaded. The embedding is looked up in, not packed. */
function layerHeldBytes({ kind, bytes, tensors }: LayerFile): number {
  if (kind === 'embedding') return bytes
  const experts = tensors.find(({ name }) => name === 'router')?.shape[0] ?? 0
  const packed = tensors.reduce(
    (sum, tensor) => sum + packingBytes(tensor, tensor.name.startsWith('expert_') ? experts : 1),
    0
  )
  return bytes + packed + (experts > 0 ? SESSION_BYTES + experts * BRANCH_BYTES : 0)
}

/**
 * What packing adds to a tensor of the file, (rows) of a norm, (rows, columns) or (rows, blocks, bytes of a block), that
 * is packed in `count` equal parts.
 */
function packingBytes({ quantization, shape }: TensorEntry, count: number): number {
  const [rows = 0, columns = 0, blockBytes = 0] = shape
  if (shape.length === 1) return 0
  const padding = count * Math.ceil(rows / count / PACKED_ROWS) * PACKED_ROWS - rows
  if (quantization === undefined) return padding * columns * FLOAT_BYTES
  const sums = SUMS_OF_BLOCK[quantization.bits] * FLOAT_BYTES
  return columns * (rows * sums + padding * (blockBytes + FLOAT_BYTES + sums))
}

/** Parts that a shard of so many bytes of weights is loaded in at most, whatever threads a device has. */
export function mostParts(weightBytes: number): number {
  return Math.max(1, Math.min(MAX_PARTS, Math.floor(weightBytes / PART_BYTES)))
}

/** What loaded shards of together so many parts take beside weights and leases, as far as they have to have it free. */
export function besidesBytes(parts: number): number {
  return SHARD_BYTES * Math.max(0, parts - FREE_SHARDS)
}

/**
 * Bytes of the KV cache of one sequence of up to `maxTokens` tokens on a layer range (float32 keys and values).
 *
 * @param frameTokens that a step has at most: layers with a window keep what that needs; absent: they keep all tokens
 */
export function kvBytes(
  shape: ModelShape,
  range: LayerRange,
  maxTokens: number,
  frameTokens?: number
): number {
  return decoderLayers(shape, range).reduce((sum, layer) => {
    const tokens = layerTokens(shape, layer, cacheTokens(windowOf(shape, layer), maxTokens, frameTokens))
    return sum + tokens * kvBytesPerToken(shape, layer)
  }, 0)
}

/**
 * Tokens that each slot of a KV cache has room for: one more than its sequence may have, for a full one puts the row there
 * that is computed for nobody, beside others that decode or as the second one of a lone token.
 */
export function slotTokens(maxTokens: number): number {
  return maxTokens + 1
}

/** Bytes of the KV cache of `slots` sequences of up to `maxTokens` tokens each, on a layer range. */
export function kvCacheBytes(
  shape: ModelShape,
  range: LayerRange,
  { slots, maxTokens, frameTokens = PREFILL_CHUNK_TOKENS, keepsAll }: StageRoomNeeds
): number {
  const ofSlot = kvBytes(shape, range, slotTokens(maxTokens), keepsAll ? undefined : frameTokens)
  return slots * (ofSlot + stateBytes(shape, range))
}

/** Bytes of the states of one sequence on a layer range, however long it is: with it those that are kept as they were. */
export function stateBytes(shape: ModelShape, range: LayerRange): number {
  return (1 + KEPT_STATES) * liveStateBytes(shape, range)
}

/** Bytes of the states of one sequence that steps change: without what is kept beside. */
export function liveStateBytes(shape: ModelShape, range: LayerRange): number {
  const tensors = decoderLayers(shape, range).flatMap(layer => stateTensors(shape, layer))
  return tensors.reduce((sum, { dims }) => sum + FLOAT_BYTES * dims.reduce((product, n) => product * n, 1), 0)
}

/** Bytes that one token takes in the KV cache of decoder layer `layer`: none where it has a state instead. */
export function kvBytesPerToken(shape: ModelShape, layer: number): number {
  if (!attends(shape, layer)) return 0
  const { heads, key, value } = cacheSizes(shape, layer)
  return heads * (key + value) * FLOAT_BYTES
}

/**
 * Bytes that a stage on a layer range takes beside weights and KV caches, as far as SHARD_BYTES does not cover them: what
 * the largest step has alive at once, its inputs and outputs, logits, rotary tables, and the manifest. No range of a model takes
 * more than all of its layers.
 */
export function workingBytes(manifest: Manifest, range: LayerRange, room: StageRoomNeeds): number {
  const { shape, layers } = manifest
  const { slots, maxTokens, frameTokens = PREFILL_CHUNK_TOKENS } = room
  const tokens = Math.max(slots, frameTokens)
  const capacity = slotTokens(maxTokens)
  const kinds = new Set(layersOf(range).map(layer => layerKind(layer, shape.decoderLayers)))
  // A step's hidden states as they come and go, of decode steps twice for each slot on top; between sessions twice more.
  const between =
    sessionRanges(shape, range).length > 1 ? 2 * mostParts(heldBytes(manifest, range)) * tokens : 0
  let floats = (2 * tokens + 4 * slots + between) * shape.hiddenSize
  let stepFloats = 4 * tokens * shape.hiddenSize
  if (kinds.has('decoder')) {
    floats += capacity * turnings(shape).reduce((sum, { rotated }) => sum + rotated, 0)
    // GroupQueryAttention of ONNX Runtime keeps, in a step of single tokens, the weight of each cached token for each head.
    const heads = Math.max(...decoderLayers(shape, range).map(layer => layerSizes(shape, layer).heads))
    const ofLatents = latentFloats(shape, range, { slots, tokens, capacity })
    const attending =
      Math.max(slots * heads * capacity, ofLatents) + maskFloats(shape, range, { slots, capacity })
    const step = tokens * decoderFloats(manifest, range) + attending
    // One of zeros, where sequences begin, and that of a lane that is not used.
    floats += (2 * liveStateBytes(shape, range)) / FLOAT_BYTES
    // Each part keeps what it has needed.
    stepFloats += mostParts(heldBytes(manifest, range)) * step
  }
  if (kinds.has('head')) {
    const rows = drawnRows(slots)
    floats += rows * shape.vocabSize
    // Where hidden states are pooled, or handed on, all of a step's rows go through the norm, and are copied for their reader.
    floats += tokens * shape.hiddenSize
    stepFloats +=
      rows * (HEAD_TEMPORARIES * shape.vocabSize + 4 * shape.hiddenSize) + tokens * shape.hiddenSize
  }
  const tensors = layers.reduce((sum, layer) => sum + layer.tensors.length, 0)
  const bytes = FLOAT_BYTES * (floats + REGIONS_FACTOR * stepFloats) + MANIFEST_TENSOR_BYTES * tensors
  return Math.max(0, Math.ceil(bytes) - FREE_WORKING_BYTES)
}

/**
 * Floats that attention over latent vectors has alive at once beside what each token of a step takes: of each slot the vectors
 * that are attended to, once more, and of each token for each head its score of them, twice and as a share.
 */
function latentFloats(
  shape: ModelShape,
  range: LayerRange,
  { slots, tokens, capacity }: { slots: number; tokens: number; capacity: number }
): number {
  return Math.max(
    0,
    ...decoderLayers(shape, range).map(layer => {
      if (blockOf(shape, layer).attention.latent === undefined) return 0
      const { heads, headSize } = layerSizes(shape, layer)
      return layerTokens(shape, layer, capacity) * (slots * headSize + (3 * heads + 2) * tokens)
    })
  )
}

/** Floats of what hides tokens where query heads are computed as rows (grouped-rows.ts): of each lane for each size of a group. */
function maskFloats(
  shape: ModelShape,
  range: LayerRange,
  { slots, capacity }: { slots: number; capacity: number }
): number {
  if (capacity <= GROUPED_FROM_TOKENS) return 0
  const groups = new Set(decoderLayers(shape, range).map(layer => groupOf(shape, layer)))
  groups.delete(1)
  const rows = [...groups].reduce((sum, group) => sum + group, 0) * MAX_GROUPED_ROWS
  return Math.min(slots, MAX_LANES) * rows * capacity
}

/** Rows that the head computes at least: a product of one row adds in another order. */
export const SAMPLED_ROWS = 2

/** Rows that a run selects for the head at most: a token and one that is guessed behind it, of each sequence. */
export function drawnRows(slots: number): number {
  return SAMPLED_ROWS * slots
}

/** Where the head's blocks are shifted: the product, and what the shifts add. The sum is the logits. */
const HEAD_TEMPORARIES = 2

/** Floats that a decoder layer has alive at once for each token of a step, of the widest of a range's layers. */
function decoderFloats({ shape, layers }: Manifest, range: LayerRange): number {
  const { hiddenSize } = shape
  return Math.max(
    ...decoderLayers(shape, range).map(layer => {
      const { heads, kvHeads, headSize } = layerSizes(shape, layer)
      const { latent } = blockOf(shape, layer).attention
      const qkv = (heads + 2 * kvHeads) * headSize
      const attended = heads * Math.max(headSize, latent?.value ?? 0, (latent?.unturned ?? 0) + headSize)
      const shifted = layers[layer]!.tensors.some(({ quantization }) => quantization?.shifted === true)
      const block = blockOf(shape, layer)
      const { widest: unit, floats: feeding } = feedForwardFloats(shape, block, shifted)
      const widest = Math.max(hiddenSize, unit, attended)
      const turning = turningOf(shape, block)
      const inside = turning === undefined || rotatesInside({ headSize }, turning, block.attention)
      const plain = !isPrepared(block.attention) && inside
      // As they come out of the product, turned, and where they are taken apart as parts and normalised.
      const gated = block.attention.outputGate ? 3 * attended : 0
      const attending = attends(shape, layer) ? (plain ? 3 : 5) * qkv + attended + gated : 0
      const mixing =
        block.recurrence === undefined ? attending : recurrentFloats(block.recurrence, hiddenSize)
      // The stream, its sum and norm; and the inputs of a product as 8 bits with a scale and a sum a block of 16.
      return 4 * hiddenSize + Math.max(mixing, feeding) + widest / 2
    })
  )
}

/**
 * Floats that a recurrence has alive at once for each token: what goes in and its parts, what is convolved, keys as often as there
 * are values, and what comes out as it is, normalised and gated.
 */
function recurrentFloats(spec: Recurrence, hiddenSize: number): number {
  const {
    inputs,
    channels,
    rates,
    width,
    matrices: [heads, rows] = [0, 0]
  } = recurrenceSizes(spec, hiddenSize)
  return 2 * inputs + 2 * channels + 5 * rates + 4 * heads * rows + 5 * width
}

/** Floats that a feed-forward part has alive at once for each token, and the widest row that it makes a product of. */
function feedForwardFloats(
  shape: ModelShape,
  block: Block,
  shifted: boolean
): { widest: number; floats: number } {
  const { hiddenSize } = shape
  const { ffnSize } = sizesOf(shape, block)
  if (block.feedForward.kind === 'none') return { widest: 0, floats: 0 }
  // Both products in one and apart; with shifts three times both: the product, what is added, and the sum. Where there is one,
  // what is above 0, and its square, are no more.
  const { limit, upPlusOne } = block.feedForward
  // What keeps both within a limit, and adds to one, may hold both once more.
  const unit = (size: number) => ((shifted ? 6 : 4) + (limit !== undefined || upPlusOne ? 2 : 0)) * size
  if (block.feedForward.kind === 'gated') return { widest: ffnSize, floats: unit(ffnSize) }
  const { experts, used, shared, beside } = block.feedForward
  // All tokens may go to one expert: its inputs and results. Then each one's results in the order of experts, again one
  // behind the other and in that of tokens; and what the router says of each expert, as scores, shares, and 64-bit marks.
  const routed = unit(ffnSize) + 3 * hiddenSize + 3 * used * hiddenSize + (2 + 3 * used) * experts
  // What computes every token; beside a dense unit what it has made, and three norms of the stream.
  const size = beside ? shape.ffnSize : (shared?.size ?? 0)
  const ofAll = size === 0 ? 0 : unit(size) + 3 * hiddenSize
  const kept = beside ? 4 * hiddenSize : 0
  return { widest: Math.max(ffnSize, size), floats: kept + Math.max(routed, ofAll + hiddenSize) }
}

/** Bytes of the hidden states of `tokens` tokens. */
export function hiddenBytes({ hiddenSize }: ModelShape, tokens: number): number {
  return tokens * hiddenSize * FLOAT_BYTES
}

import { blockOf, cacheSizes } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import type { Tensor } from '../onnx/session.ts'
import { attends } from '../recurrence.ts'
import { decoderLayers } from './decoder-layers.ts'
import type { Processor, SlotDims, SlotMemory } from './processor.ts'
import { StateCache } from './state-cache.ts'

/**
 * Keys and values of one decoder layer, each (slots, heads, tokens, key or value) by the layer's own sizes, row-major. Where both
 * are made of the same, `key` has it and there is no `value`.
 */
export interface LayerCache {
  layer: number
  key: Tensor
  value: Tensor | undefined
}

interface LayerMemory {
  layer: number
  key: SlotMemory
  value: SlotMemory | undefined
}

/**
 * What the decoder layers of a range know of `slots` sequences of up to `maxTokens` tokens, allocated once: keys and values of those
 * that attend, and the states of the others.
 */
export class KvCache {
  readonly slots: number
  readonly maxTokens: number
  /** Of layers that have one. */
  readonly states: StateCache | undefined
  readonly #layers: LayerMemory[]

  private constructor(
    layers: LayerMemory[],
    states: StateCache | undefined,
    maxTokens: number,
    slots: number
  ) {
    this.#layers = layers
    this.states = states
    this.maxTokens = maxTokens
    this.slots = slots
  }

  static async allocate(
    processor: Processor,
    shape: ModelShape,
    range: LayerRange,
    maxTokens: number,
    slots = 1
  ): Promise<KvCache> {
    const made: SlotMemory[] = []
    const memory = async (dims: SlotDims) => {
      const allocated = await processor.allocate(slots, dims)
      made.push(allocated)
      return allocated
    }
    try {
      const layers: LayerMemory[] = []
      for (const layer of attendingLayers(shape, range)) {
        const { heads, key, value } = cacheSizes(shape, layer)
        const tokens = layerTokens(shape, layer, maxTokens)
        const keys = await memory([heads, tokens, key])
        layers.push({
          layer,
          key: keys,
          value: value === 0 ? undefined : await memory([heads, tokens, value])
        })
      }
      const states = await StateCache.allocate(processor, shape, range, slots)
      return new KvCache(layers, states, maxTokens, slots)
    } catch (error) {
      for (const memory of made) memory.free()
      throw error
    }
  }

  /** Gives the memory back now. No run may use the cache any more. */
  free(): void {
    for (const memory of this.#memories()) memory.free()
    this.states?.free()
  }

  /** Puts the first tokens' keys and values of one slot into another one; states cannot be. */
  async copy(from: number, to: number, tokens: number): Promise<void> {
    for (const memory of this.#memories()) await memory.copy(from, to, tokens)
  }

  /** Fills all of it with such values, again and again: as if any tokens had been computed. */
  async fill(values: Float32Array): Promise<void> {
    for (const memory of this.#memories()) await memory.fill(values)
    await this.states?.fill(values)
  }

  /** Slots [start, end) of every layer. */
  view(start = 0, end = this.slots): LayerCache[] {
    return this.#layers.map(({ layer, key, value }) => ({
      layer,
      key: key.tensor(start, end),
      value: value?.tensor(start, end)
    }))
  }

  /** Whether it holds no layer, for none of its range looks at other tokens. */
  get isEmpty(): boolean {
    return this.#layers.length === 0 && this.states === undefined
  }

  #memories(): SlotMemory[] {
    return this.#layers.flatMap(({ key, value }) => (value === undefined ? [key] : [key, value]))
  }
}

/** Products over so many tokens, or a multiple of TOKENS_STEP more, add in the same order however many of them count. */
const LEAST_TOKENS = 128
const TOKENS_STEP = 64

/**
 * Tokens that decoder layer `layer` has room for in each slot where a sequence may have so many. Over latent vectors attention
 * is plain products, which go over whole steps of tokens.
 */
export function layerTokens(shape: ModelShape, layer: number, tokens: number): number {
  if (blockOf(shape, layer).attention.latent === undefined) return tokens
  return Math.max(LEAST_TOKENS, Math.ceil(tokens / TOKENS_STEP) * TOKENS_STEP)
}

function attendingLayers(shape: ModelShape, range: LayerRange): number[] {
  return decoderLayers(shape, range).filter(layer => attends(shape, layer))
}

import { blockOf, type CacheSizes, cacheSizes } from '../blocks.ts'
import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'

/**
 * Keys and values of one decoder layer, each (slots, heads, tokens, key or value) by the layer's own sizes, row-major. Where both
 * are made of the same, `key` has it and `value` is empty.
 */
export interface LayerCache {
  layer: number
  /** Tokens that each slot has room for. */
  tokens: number
  key: Float32Array<ArrayBuffer>
  value: Float32Array<ArrayBuffer>
}

/**
 * The KV cache of the decoder layers of a range: `slots` sequences of up to `maxTokens` tokens, allocated once. A slot
 * lies contiguous in every layer, so one slot, or neighbouring ones, are views.
 */
export class KvCache {
  readonly slots: number
  readonly maxTokens: number
  readonly #layers: LayerCache[]
  readonly #sizes: ReadonlyMap<number, CacheSizes>

  constructor(shape: ModelShape, range: LayerRange, maxTokens: number, slots = 1) {
    this.slots = slots
    this.maxTokens = maxTokens
    const layers = decoderLayers(shape, range)
    this.#sizes = new Map(layers.map(layer => [layer, cacheSizes(shape, layer)]))
    this.#layers = layers.map(layer => {
      const { heads, key, value } = this.#sizes.get(layer)!
      const tokens = layerTokens(shape, layer, maxTokens)
      const of = (size: number) => new Float32Array(slots * heads * tokens * size)
      return { layer, tokens, key: of(key), value: of(value) }
    })
  }

  /**
   * Gives the memory back now, not when garbage is next collected: the thread may hold others' layers for hours, or nothing.
   * No run may use the cache any more.
   */
  free(): void {
    for (const { key, value } of this.#layers) for (const { buffer } of [key, value]) buffer.transfer(0)
  }

  /** Puts the first tokens of one slot into another one. */
  copy(from: number, to: number, tokens: number): void {
    for (const { layer, tokens: capacity, ...data } of this.#layers) {
      for (const part of ['key', 'value'] as const) {
        const size = this.#sizes.get(layer)![part]
        const slotSize = data[part].length / this.slots
        for (let head = 0; head < slotSize; head += capacity * size) {
          const start = from * slotSize + head
          data[part].copyWithin(to * slotSize + head, start, start + tokens * size)
        }
      }
    }
  }

  /** Views of slots [start, end) of every layer. */
  view(start = 0, end = this.slots): LayerCache[] {
    const part = (data: Float32Array<ArrayBuffer>) => {
      const slotSize = data.length / this.slots
      return data.subarray(start * slotSize, end * slotSize)
    }
    return this.#layers.map(({ key, value, ...layer }) => ({ ...layer, key: part(key), value: part(value) }))
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

/** The decoder layers in a range of all layers. */
export function decoderLayers(shape: ModelShape, range: LayerRange): number[] {
  return layersOf(range).filter(layer => layerKind(layer, shape.decoderLayers) === 'decoder')
}

import { layerSizes } from '../blocks.ts'
import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'

/** Keys and values of one decoder layer, each (slots, kvHeads, maxTokens, headSize) by the layer's own sizes, row-major. */
export interface LayerCache {
  layer: number
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
  readonly #layers: (LayerCache & { headSize: number })[]

  constructor(shape: ModelShape, range: LayerRange, maxTokens: number, slots = 1) {
    this.slots = slots
    this.maxTokens = maxTokens
    this.#layers = decoderLayers(shape, range).map(layer => {
      const { kvHeads, headSize } = layerSizes(shape, layer)
      const size = slots * kvHeads * maxTokens * headSize
      return { layer, headSize, key: new Float32Array(size), value: new Float32Array(size) }
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
    for (const { key, value, headSize } of this.#layers) {
      for (const data of [key, value]) {
        const slotSize = data.length / this.slots
        const lane = this.maxTokens * headSize
        for (let head = 0; head < slotSize; head += lane) {
          const start = from * slotSize + head
          data.copyWithin(to * slotSize + head, start, start + tokens * headSize)
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
    return this.#layers.map(({ layer, key, value }) => ({ layer, key: part(key), value: part(value) }))
  }
}

/** The decoder layers in a range of all layers. */
export function decoderLayers(shape: ModelShape, range: LayerRange): number[] {
  return layersOf(range).filter(layer => layerKind(layer, shape.decoderLayers) === 'decoder')
}

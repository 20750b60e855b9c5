import { layerSizes } from '../blocks.ts'
import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import type { Tensor } from '../onnx/session.ts'
import type { Processor, SlotMemory } from './processor.ts'

/** Keys and values of one decoder layer, each (slots, kvHeads, maxTokens, headSize) by the layer's own sizes, row-major. */
export interface LayerCache {
  layer: number
  key: Tensor
  value: Tensor
}

interface LayerMemory {
  layer: number
  key: SlotMemory
  value: SlotMemory
}

/** The KV cache of the decoder layers of a range: `slots` sequences of up to `maxTokens` tokens, allocated once. */
export class KvCache {
  readonly slots: number
  readonly maxTokens: number
  readonly #layers: LayerMemory[]

  private constructor(layers: LayerMemory[], maxTokens: number, slots: number) {
    this.#layers = layers
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
    try {
      const layers: LayerMemory[] = []
      for (const layer of decoderLayers(shape, range)) {
        const { kvHeads, headSize } = layerSizes(shape, layer)
        for (let part = 0; part < 2; part++) {
          made.push(await processor.allocate(slots, [kvHeads, maxTokens, headSize]))
        }
        layers.push({ layer, key: made.at(-2)!, value: made.at(-1)! })
      }
      return new KvCache(layers, maxTokens, slots)
    } catch (error) {
      for (const memory of made) memory.free()
      throw error
    }
  }

  /** Gives the memory back now. No run may use the cache any more. */
  free(): void {
    for (const memory of this.#memories()) memory.free()
  }

  /** Puts the first tokens of one slot into another one. */
  async copy(from: number, to: number, tokens: number): Promise<void> {
    for (const memory of this.#memories()) await memory.copy(from, to, tokens)
  }

  /** Fills all of it with such values, again and again: as if any tokens had been computed. */
  async fill(values: Float32Array): Promise<void> {
    for (const memory of this.#memories()) await memory.fill(values)
  }

  /** Slots [start, end) of every layer. */
  view(start = 0, end = this.slots): LayerCache[] {
    return this.#layers.map(({ layer, key, value }) => ({
      layer,
      key: key.tensor(start, end),
      value: value.tensor(start, end)
    }))
  }

  /** Whether it holds no layer, for none of its range attends. */
  get isEmpty(): boolean {
    return this.#layers.length === 0
  }

  #memories(): SlotMemory[] {
    return this.#layers.flatMap(({ key, value }) => [key, value])
  }
}

/** The decoder layers in a range of all layers. */
export function decoderLayers(shape: ModelShape, range: LayerRange): number[] {
  return layersOf(range).filter(layer => layerKind(layer, shape.decoderLayers) === 'decoder')
}

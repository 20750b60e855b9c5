import { layerSizes } from '../blocks.ts'
import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import type { Tensor } from '../onnx/session.ts'
import { RuntimeInputError } from './errors.ts'
import type { Processor, SlotMemory } from './processor.ts'
import { cacheTokens, firstKept, reachesBack, windowOf } from './window-cache.ts'

/** Keys and values of one decoder layer, each (slots, kvHeads, tokens, headSize) by the layer's own sizes, row-major. */
export interface LayerCache {
  layer: number
  key: Tensor
  value: Tensor
}

interface LayerMemory {
  layer: number
  /** Of a layer that does not keep all tokens. */
  window: number | undefined
  key: SlotMemory
  value: SlotMemory
}

/**
 * The KV cache of the decoder layers of a range: `slots` sequences of up to `maxTokens` tokens, allocated once. Where it is
 * told how many tokens a step has at most, layers with a window keep what that needs and a little behind it.
 */
export class KvCache {
  readonly slots: number
  readonly maxTokens: number
  readonly #layers: LayerMemory[]
  /** The first token that each slot still has in layers with a window, by windows that drop tokens. */
  readonly #firsts = new Map<number, number[]>()

  /** That a step has at most, where tokens are dropped. */
  readonly #frameTokens: number

  private constructor(layers: LayerMemory[], maxTokens: number, slots: number, frameTokens = maxTokens) {
    this.#layers = layers
    this.#frameTokens = frameTokens
    this.maxTokens = maxTokens
    this.slots = slots
    for (const { window } of layers) {
      if (window !== undefined) this.#firsts.set(window, new Array<number>(slots).fill(0))
    }
  }

  static async allocate(
    processor: Processor,
    shape: ModelShape,
    range: LayerRange,
    maxTokens: number,
    slots = 1,
    frameTokens?: number
  ): Promise<KvCache> {
    const made: SlotMemory[] = []
    try {
      const layers: LayerMemory[] = []
      for (const layer of decoderLayers(shape, range)) {
        const { kvHeads, headSize } = layerSizes(shape, layer)
        const window = windowOf(shape, layer)
        const tokens = cacheTokens(window, maxTokens, frameTokens)
        for (let part = 0; part < 2; part++) {
          made.push(await processor.allocate(slots, [kvHeads, tokens, headSize]))
        }
        const dropping = tokens < maxTokens ? window : undefined
        layers.push({ layer, window: dropping, key: made.at(-2)!, value: made.at(-1)! })
      }
      return new KvCache(layers, maxTokens, slots, frameTokens)
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
    for (const { window, key, value } of this.#layers) {
      for (const memory of [key, value]) await memory.copy(from, to, tokens - this.firstOf(window, from))
    }
    for (const firsts of this.#firsts.values()) firsts[to] = firsts[from]!
  }

  /** The first token that a slot has in the layers with a window. */
  firstOf(window: number | undefined, slot: number): number {
    return (window === undefined ? undefined : this.#firsts.get(window)?.[slot]) ?? 0
  }

  /**
   * Checks that a slot's sequence can go on at `position`, with a step of `tokens` tokens.
   *
   * @throws {RuntimeInputError} where layers with a window have dropped what they would need, or have no room for the step
   */
  check(slot: number, position: number, tokens = 0): void {
    for (const [window, firsts] of this.#firsts) {
      const first = firsts[slot] ?? 0
      if (!reachesBack(window, first, position)) {
        throw new RuntimeInputError(
          `cannot go on at token ${position}: layers with a window of ${window} have dropped those before ${first}`
        )
      }
      if (tokens <= this.#frameTokens) continue
      throw new RuntimeInputError(
        `a step has ${tokens} tokens, but layers with a window have room for ${this.#frameTokens}`
      )
    }
  }

  /** Makes room for a step at `position`, which `check` allows: tokens that no window sees any more are dropped. */
  async prepare(slot: number, position: number, exact: boolean): Promise<void> {
    for (const [window, firsts] of this.#firsts) {
      const before = position === 0 ? 0 : firsts[slot]!
      const first = Math.max(before, firstKept(window, position, exact))
      firsts[slot] = first
      if (first === before) continue
      for (const layer of this.#layers) {
        if (layer.window !== window) continue
        for (const memory of [layer.key, layer.value]) {
          await memory.toFront(slot, first - before, position - first)
        }
      }
    }
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

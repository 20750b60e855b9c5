import { blockOf, cacheSizes } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import type { Tensor } from '../onnx/session.ts'
import { attends } from '../recurrence.ts'
import { decoderLayers } from './decoder-layers.ts'
import { RuntimeInputError } from './errors.ts'
import type { Processor, SlotDims, SlotMemory } from './processor.ts'
import type { SavedPart } from './saved-tokens.ts'
import { type SlotState, StateCache } from './state-cache.ts'
import { cacheTokens, firstKept, reachesBack, windowOf } from './window-cache.ts'

/**
 * Keys and values of one decoder layer, each (slots, heads, tokens, key or value) by the layer's own sizes, row-major. Where both
 * are made of the same, `key` has it and there is no `value`.
 */
export interface LayerCache {
  layer: number
  key: Tensor
  value: Tensor | undefined
}

/** A step of one slot's sequence. */
interface BegunStep {
  position: number
  tokens: number
  exact: boolean
}

interface LayerMemory {
  layer: number
  /** The window of a layer that does not keep all tokens. */
  window: number | undefined
  key: SlotMemory
  value: SlotMemory | undefined
}

/**
 * What the decoder layers of a range know of `slots` sequences of up to `maxTokens` tokens, allocated once: keys and values of those
 * that attend, and the states of the others. Where it is told how many tokens a step has at most, layers with a window keep what
 * that needs and a little behind it.
 */
export class KvCache {
  readonly slots: number
  readonly maxTokens: number
  /** States of layers that have one. */
  readonly #states: StateCache | undefined
  readonly #layers: LayerMemory[]
  /** The first token that each slot still has in layers with a window, by windows that drop tokens. */
  readonly #firsts = new Map<number, number[]>()

  /** That a step has at most, where tokens are dropped. */
  readonly #frameTokens: number

  private constructor(
    layers: LayerMemory[],
    states: StateCache | undefined,
    {
      maxTokens,
      slots,
      frameTokens = maxTokens
    }: { maxTokens: number; slots: number; frameTokens?: number | undefined }
  ) {
    this.#layers = layers
    this.#states = states
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
    const memory = async (dims: SlotDims) => {
      const allocated = await processor.allocate(slots, dims)
      made.push(allocated)
      return allocated
    }
    try {
      const layers: LayerMemory[] = []
      for (const layer of attendingLayers(shape, range)) {
        const { heads, key, value } = cacheSizes(shape, layer)
        const window = windowOf(shape, layer)
        const tokens = layerTokens(shape, layer, cacheTokens(window, maxTokens, frameTokens))
        layers.push({
          layer,
          window: tokens < maxTokens ? window : undefined,
          key: await memory([heads, tokens, key]),
          value: value === 0 ? undefined : await memory([heads, tokens, value])
        })
      }
      const states = await StateCache.allocate(processor, shape, range, slots)
      return new KvCache(layers, states, { maxTokens, slots, frameTokens })
    } catch (error) {
      for (const memory of made) memory.free()
      throw error
    }
  }

  /** Gives the memory back now. No run may use the cache any more. */
  free(): void {
    for (const memory of this.#memories()) memory.free()
    this.#states?.free()
  }

  /** Puts the first tokens' keys and values of one slot into another one; states cannot be. */
  async copy(from: number, to: number, tokens: number): Promise<void> {
    for (const { window, ...memories } of this.#layers) {
      for (const memory of memoriesOf(memories))
        await memory.copy(from, to, tokens - this.firstOf(window, from))
    }
    for (const firsts of this.#firsts.values()) firsts[to] = firsts[from]!
  }

  /**
   * Takes out what a slot has of its first tokens; undefined where there are states, layers with a window have dropped what goes on
   * behind them would need, or the processor lets nothing out.
   */
  async save(slot: number, tokens: number): Promise<SavedPart | undefined> {
    if (this.hasStates) return undefined
    for (const [window, firsts] of this.#firsts) {
      const first = firsts[slot]!
      if (first > tokens || !reachesBack(window, first, tokens)) return undefined
    }
    const memories: SavedPart['memories'] = []
    for (const { window, ...layer } of this.#layers) {
      for (const memory of memoriesOf(layer)) {
        const saved = await memory.save(slot, tokens - this.firstOf(window, slot))
        if (saved === undefined) return undefined
        memories.push(saved)
      }
    }
    return { firsts: [...this.#firsts.values()].map(firsts => firsts[slot]!), memories }
  }

  /**
   * Makes the first `tokens` tokens of what was saved, of this cache or one of the same layers, all that a slot has.
   *
   * @throws {RuntimeInputError} where layers with a window had dropped what goes on there would need
   */
  async restore(slot: number, { firsts, memories }: SavedPart, tokens: number): Promise<void> {
    const before = new Map([...this.#firsts.keys()].map((window, i) => [window, firsts[i] ?? 0]))
    for (const [window, first] of before) checkReach(window, first, tokens)
    let at = 0
    for (const { window, ...layer } of this.#layers) {
      const first = (window === undefined ? undefined : before.get(window)) ?? 0
      for (const memory of memoriesOf(layer)) await memory.restore(slot, memories[at++]!, tokens - first)
    }
    for (const [window, first] of before) this.#firsts.get(window)![slot] = first
  }

  /** The first token that a slot has in the layers with a window. */
  firstOf(window: number | undefined, slot: number): number {
    return (window === undefined ? undefined : this.#firsts.get(window)?.[slot]) ?? 0
  }

  /** Whether slots have states, so that a run must not compute tokens for nobody. */
  get hasStates(): boolean {
    return this.#states !== undefined
  }

  /** The states of a slot, as runs of it take them. */
  statesOf(slot: number): SlotState[] {
    return this.#states?.view(slot) ?? []
  }

  /**
   * Checks that a slot's sequence can go on at `position`, with a step of `tokens` tokens.
   *
   * @throws {RuntimeInputError} where layers with a window have dropped what they would need, or have no room for the step, or
   * a layer has no state of so many tokens
   */
  check(slot: number, position: number, tokens = 0): void {
    this.#states?.check(slot, position)
    for (const [window, firsts] of this.#firsts) {
      const first = firsts[slot] ?? 0
      checkReach(window, first, position)
      if (tokens <= this.#frameTokens) continue
      throw new RuntimeInputError(
        `a step has ${tokens} tokens, but layers with a window have room for ${this.#frameTokens}`
      )
    }
  }

  /** Makes the first `tokens` tokens of a slot, which `check` allows, all that it has. */
  async takeBack(slot: number, tokens: number): Promise<void> {
    await this.#states?.takeBack(slot, tokens)
    if (tokens === 0) this.#startOver(slot)
  }

  /**
   * A step at `position`, which is where the slot's sequence ends, is about to change what the slot has: tokens that no window sees
   * any more are dropped.
   */
  async begin(slot: number, { position, tokens, exact }: BegunStep): Promise<void> {
    await this.#states?.begin(slot, tokens)
    for (const [window, firsts] of this.#firsts) {
      const before = firsts[slot]!
      const first = Math.max(before, firstKept(window, position, exact))
      firsts[slot] = first
      if (first === before) continue
      for (const layer of this.#layers) {
        if (layer.window !== window) continue
        for (const memory of memoriesOf(layer)) {
          await memory.toFront(slot, first - before, position - first)
        }
      }
    }
  }

  /** A step is through: a slot has so many tokens. */
  end(slot: number, tokens: number): void {
    this.#states?.end(slot, tokens)
  }

  /** The slot goes on as if so many tokens had been computed, whatever it has: for what is timed, and need not be right. */
  pretend(slot: number, tokens: number): void {
    if (tokens === 0) this.#startOver(slot)
    this.end(slot, tokens)
  }

  /** Fills all keys and values with such numbers, again and again: as if any tokens had been computed. */
  async fill(values: Float32Array): Promise<void> {
    for (const memory of this.#memories()) await memory.fill(values)
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
    return this.#layers.length === 0 && this.#states === undefined
  }

  /** What the next token puts into a slot is its first one. */
  #startOver(slot: number): void {
    for (const firsts of this.#firsts.values()) firsts[slot] = 0
  }

  #memories(): SlotMemory[] {
    return this.#layers.flatMap(memoriesOf)
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

/** @throws {RuntimeInputError} */
function checkReach(window: number, first: number, position: number): void {
  if (reachesBack(window, first, position)) return
  throw new RuntimeInputError(
    `cannot go on at token ${position}: layers with a window of ${window} have dropped those before ${first}`
  )
}

function memoriesOf({ key, value }: Pick<LayerMemory, 'key' | 'value'>): SlotMemory[] {
  return value === undefined ? [key] : [key, value]
}

function attendingLayers(shape: ModelShape, range: LayerRange): number[] {
  return decoderLayers(shape, range).filter(layer => attends(shape, layer))
}

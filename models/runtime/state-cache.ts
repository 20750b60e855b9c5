import type { LayerRange } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import { pastStateName, presentStateName } from '../onnx/recurrence.ts'
import type { Tensor } from '../onnx/session.ts'
import { type StateTensor, stateTensors } from '../recurrence.ts'
import { decoderLayers } from './decoder-layers.ts'
import { RuntimeInputError } from './errors.ts'
import { KEPT_STATES, keptPlace } from './kept-states.ts'
import type { Processor, SlotMemory } from './processor.ts'

interface StateMemory extends StateTensor {
  layer: number
  memory: SlotMemory
}

/** A tensor of a slot's state, by the names of a graph of one lane. */
export interface SlotState {
  past: string
  present: string
  tensor: Tensor
}

/** What is known of a slot: how many tokens its states are of. */
interface Slot {
  /** The state that steps change; undefined while one does, and for good where that one failed. */
  live: number | undefined
  /** Those that are kept beside it. */
  readonly kept: (number | undefined)[]
  /** Whether the last step had several tokens. */
  afterSeveral: boolean
}

/**
 * The states of the layers of a range that have one, of `slots` sequences. A state holds all tokens at once and cannot be
 * cut back to fewer, so a few are kept beside it as they were (kept-states.ts): what is at none of them has to be computed anew.
 */
export class StateCache {
  readonly #memories: readonly StateMemory[]
  readonly #slots: Slot[]

  private constructor(memories: readonly StateMemory[], slots: number) {
    this.#memories = memories
    this.#slots = Array.from({ length: slots }, () => ({
      live: 0,
      kept: new Array<number | undefined>(KEPT_STATES).fill(undefined),
      afterSeveral: false
    }))
  }

  /** @returns undefined where no layer of the range has a state */
  static async allocate(
    processor: Processor,
    shape: ModelShape,
    range: LayerRange,
    slots: number
  ): Promise<StateCache | undefined> {
    const memories: StateMemory[] = []
    try {
      for (const layer of decoderLayers(shape, range)) {
        for (const tensor of stateTensors(shape, layer)) {
          // Behind the live ones those that are kept, and one of zeros.
          const memory = await processor.allocate(slots * (1 + KEPT_STATES) + 1, tensor.dims)
          memories.push({ layer, ...tensor, memory })
        }
      }
      return memories.length === 0 ? undefined : new StateCache(memories, slots)
    } catch (error) {
      for (const { memory } of memories) memory.free()
      throw error
    }
  }

  /** What runs of a slot are given and fill. */
  view(slot: number): SlotState[] {
    return this.#memories.map(({ layer, part, memory }) => ({
      past: pastStateName(part, layer),
      present: presentStateName(part, layer),
      tensor: memory.tensor(slot, slot + 1)
    }))
  }

  /**
   * Checks that a slot can go on behind its first `tokens` tokens.
   *
   * @throws {RuntimeInputError} where that state is not kept
   */
  check(slot: number, tokens: number): void {
    const own = this.#slots[slot]!
    if (tokens === 0 || tokens === own.live || own.kept.includes(tokens)) return
    throw new RuntimeInputError(`slot ${slot} has no state of its first ${tokens} tokens${statesOf(own)}`)
  }

  /**
   * Makes the state of the first `tokens` tokens the one that steps change.
   *
   * @throws {RuntimeInputError} where it is not kept
   */
  async takeBack(slot: number, tokens: number): Promise<void> {
    this.check(slot, tokens)
    const own = this.#slots[slot]!
    if (own.live !== tokens) {
      const place = own.kept.indexOf(tokens)
      // A copy that fails leaves something of both.
      own.live = undefined
      await this.#copy(place < 0 ? this.#zeros : this.#place(slot, place), slot)
    }
    own.live = tokens
    own.afterSeveral = false
    // What is behind it was of other tokens.
    own.kept.forEach((length, place) => {
      if (length !== undefined && length > tokens) own.kept[place] = undefined
    })
  }

  /** A step of so many tokens is about to change a slot's state, of which it keeps what is to be kept. */
  async begin(slot: number, tokens: number): Promise<void> {
    const own = this.#slots[slot]!
    const { live } = own
    if (live === undefined) {
      throw new RuntimeInputError(`the state of slot ${slot} was lost in a step that failed`)
    }
    const place = keptPlace(tokens, own.afterSeveral)
    if (place !== undefined && live > 0) {
      await this.#copy(slot, this.#place(slot, place))
      own.kept[place] = live
    }
    own.afterSeveral = tokens > 1
    own.live = undefined
  }

  /** The step is through: the slot's state is that of its first `tokens` tokens. */
  end(slot: number, tokens: number): void {
    this.#slots[slot]!.live = tokens
  }

  free(): void {
    for (const { memory } of this.#memories) memory.free()
  }

  get #zeros(): number {
    return this.#slots.length * (1 + KEPT_STATES)
  }

  #place(slot: number, place: number): number {
    return this.#slots.length + slot * KEPT_STATES + place
  }

  async #copy(from: number, to: number): Promise<void> {
    for (const { dims, memory } of this.#memories) await memory.copy(from, to, dims.at(-2)!)
  }
}

function statesOf({ live, kept }: Slot): string {
  const lengths = [...kept, live].filter(length => length !== undefined && length > 0)
  return lengths.length === 0 ? '' : `, but of its first ${lengths.join(' and ')}`
}

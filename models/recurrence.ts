import { blockOf } from './blocks.ts'
import type { ModelShape } from './manifest-schema.ts'
import type { Recurrence } from './recurrence-schema.ts'

/** Sizes of a recurrence, in elements. */
export interface RecurrenceSizes {
  /** Rows of the product that a token goes in by. */
  inputs: number
  /** Channels of the convolution, which are the first of these but for a gate's. */
  channels: number
  /** Rows of the product that says how fast a token lets the state forget, and what it weighs; 0: there is none. */
  rates: number
  /** Values of a token that come out, before they are projected. */
  width: number
  /** Heads, rows and columns of the matrices that are the state beside the convolution's; undefined: there are none. */
  matrices: [heads: number, rows: number, columns: number] | undefined
}

/** What of a recurrence follows from its kind and numbers. */
export function recurrenceSizes(spec: Recurrence, hiddenSize: number): RecurrenceSizes {
  switch (spec.kind) {
    case 'gated-delta': {
      const { keyHeads, valueHeads, keySize, valueSize } = spec
      const width = valueHeads * valueSize
      const channels = 2 * keyHeads * keySize + width
      const matrices = [valueHeads, keySize, valueSize] as [number, number, number]
      return { inputs: channels + width, channels, rates: 2 * valueHeads, width, matrices }
    }
    case 'short-convolution':
      return {
        inputs: 3 * hiddenSize,
        channels: hiddenSize,
        rates: 0,
        width: hiddenSize,
        matrices: undefined
      }
    case 'state-space': {
      const { heads, headSize, groups, stateSize } = spec
      const width = heads * headSize
      const channels = width + 2 * groups * stateSize
      const matrices = [heads, stateSize, headSize] as [number, number, number]
      return { inputs: width + channels, channels, rates: heads, width, matrices }
    }
  }
}

/** One tensor of a layer's state, of one sequence. */
export interface StateTensor {
  part: 'convolution' | 'matrices'
  dims: [rows: number, width: number] | [heads: number, rows: number, columns: number]
}

/** The state of decoder layer `layer` (1..L), of one sequence: nothing where it attends instead. */
export function stateTensors(shape: ModelShape, layer: number): StateTensor[] {
  const { recurrence } = blockOf(shape, layer)
  if (recurrence === undefined) return []
  const { channels, matrices } = recurrenceSizes(recurrence, shape.hiddenSize)
  return [
    { part: 'convolution', dims: [recurrence.taps - 1, channels] },
    ...(matrices === undefined ? [] : [{ part: 'matrices' as const, dims: matrices }])
  ]
}

/** Whether some of a model's layers have a state, which unlike keys and values cannot be cut back to fewer tokens. */
export function hasState({ blocks }: Pick<ModelShape, 'blocks'>): boolean {
  return blocks.some(({ recurrence }) => recurrence !== undefined)
}

/** Whether decoder layer `layer` (1..L) attends to the tokens before, and so has keys and values. */
export function attends(shape: Pick<ModelShape, 'blocks' | 'layout'>, layer: number): boolean {
  return blockOf(shape, layer).attention.kind !== 'none'
}

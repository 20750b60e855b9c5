import { recurrenceSizes } from '../recurrence.ts'
import type { GatedDeltaSpec, Recurrence } from '../recurrence-schema.ts'
import type { Part } from './weights.ts'

/** How files end a name whose values are logarithms of what decays below 0. */
const LOGARITHM = 'A_log'

/** Tensors that some files have with dimensions of 1 more: those of a recurrence, and one of ERNIE's routers. */
const SQUEEZED = [
  'convolution',
  'convolution_bias',
  'rate_bias',
  'decay',
  'skip',
  'recurrence_norm',
  'router_correction'
]

/** Whether dimensions of 1 say nothing in a tensor's shape. */
export function isSqueezed(name: string): boolean {
  return SQUEEZED.includes(name)
}

/**
 * The checkpoint's tensors `names` that make up tensor `name` of a layer's recurrence, (rows, ...); undefined for those of the
 * rest of the layer.
 */
export function recurrenceParts(
  name: string,
  names: readonly string[],
  rows: number,
  { spec, hiddenSize }: { spec: Recurrence; hiddenSize: number }
): Part[] | undefined {
  const { channels, inputs, rates } = recurrenceSizes(spec, hiddenSize)
  const [first = '', second] = names
  switch (name) {
    case 'recurrence_in':
    case 'rates': {
      if (second !== undefined) {
        const own = name === 'rates' ? rows / 2 : channels
        return [
          { name: first, rows: own },
          { name: second, rows: rows - own }
        ]
      }
      if (spec.kind === 'gated-delta') return rowsByKey(name, first, spec)
      // One tensor has the rows of both.
      const of = inputs + rates
      return [{ name: first, rows, ...(rates > 0 && { of, start: name === 'rates' ? inputs : 0 }) }]
    }
    case 'decay':
      return [{ name: first, rows, ...(first.endsWith(LOGARITHM) && { isLogarithm: true }) }]
    default:
      return isSqueezed(name) || name === 'recurrence_output' ? [{ name: first, rows }] : undefined
  }
}

/**
 * Qwen3-Next's tensors have the rows of each key head together: its query, its key, the values and gates of its value heads, or
 * what those weigh and how fast they forget (`fix_query_key_value_ordering` in transformers' modeling_qwen3_next.py).
 */
function rowsByKey(
  name: 'recurrence_in' | 'rates',
  tensor: string,
  { keyHeads, valueHeads, keySize, valueSize }: GatedDeltaSpec
): Part[] {
  const values = valueHeads / keyHeads
  const ofHead =
    name === 'rates' ? [values, values] : [keySize, keySize, values * valueSize, values * valueSize]
  const rows = ofHead.reduce((sum, n) => sum + n, 0)
  return ofHead.flatMap((own, i) => {
    const before = ofHead.slice(0, i).reduce((sum, n) => sum + n, 0)
    return Array.from({ length: keyHeads }, (_, head) => ({
      ...{ name: tensor, rows: own, start: head * rows + before, of: keyHeads * rows }
    }))
  })
}

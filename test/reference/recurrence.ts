import type { GatedDeltaSpec, Recurrence, StateSpaceSpec } from '../../models/recurrence-schema.ts'

/** What a layer with a recurrence computes with. */
export interface RecurrentLayer {
  spec: Recurrence
  hiddenSize: number
  normEpsilon: number
  /** A vector of the layer's file. */
  vector: (name: string) => Float64Array
  /** What a projection of the layer's file makes of token t's row. */
  project: (name: string, t: number, row: Float64Array) => Float64Array
}

/**
 * What a recurrence makes of T normed rows, before they are projected: T vectors. Written token by token in float64 from
 * transformers' modeling_qwen3_next.py (`torch_recurrent_gated_delta_rule`), modeling_lfm2.py (`Lfm2ShortConv`) and the
 * recurrence of Mamba 2's paper (section 6.1), sharing no code with the runtime.
 */
export function recurrent(layer: RecurrentLayer, x: readonly Float64Array[]): Float64Array[] {
  const { spec, hiddenSize } = layer
  const inputs = x.map((row, t) => layer.project('recurrence_in', t, row))
  switch (spec.kind) {
    case 'gated-delta':
      return gatedDelta(layer, spec, inputs, x)
    case 'short-convolution': {
      const within = inputs.map(row =>
        row.slice(0, hiddenSize).map((gate, i) => gate * row[2 * hiddenSize + i]!)
      )
      return convolved(layer, within, false).map((row, t) =>
        row.map((value, i) => value * inputs[t]![hiddenSize + i]!)
      )
    }
    case 'state-space':
      return stateSpace(layer, spec, inputs, x)
  }
}

function gatedDelta(
  layer: RecurrentLayer,
  spec: GatedDeltaSpec,
  inputs: readonly Float64Array[],
  x: readonly Float64Array[]
): Float64Array[] {
  const { keyHeads, valueHeads, keySize, valueSize, keysByTurns } = spec
  const keys = keyHeads * keySize
  const width = valueHeads * valueSize
  const mixed = convolved(
    layer,
    inputs.map(row => row.slice(0, 2 * keys + width)),
    true
  )
  const [bias, decay, weight] = ['rate_bias', 'decay', 'recurrence_norm'].map(layer.vector)
  const states = Array.from({ length: valueHeads }, () => new Float64Array(keySize * valueSize))
  return mixed.map((row, t) => {
    const rates = layer.project('rates', t, x[t]!)
    const out = new Float64Array(width)
    for (let h = 0; h < valueHeads; h++) {
      const k = keysByTurns ? h % keyHeads : Math.floor(h / (valueHeads / keyHeads))
      const query = unit(row.slice(k * keySize, (k + 1) * keySize))
      const key = unit(row.slice(keys + k * keySize, keys + (k + 1) * keySize))
      const value = row.slice(2 * keys + h * valueSize, 2 * keys + (h + 1) * valueSize)
      const beta = logistic(rates[h]!)
      const kept = Math.exp(decay![h]! * Math.log1p(Math.exp(rates[valueHeads + h]! + bias![h]!)))
      const state = states[h]!
      const read = new Float64Array(valueSize)
      for (let j = 0; j < valueSize; j++) {
        let known = 0
        for (let i = 0; i < keySize; i++) {
          state[i * valueSize + j]! *= kept
          known += state[i * valueSize + j]! * key[i]!
        }
        const change = beta * (value[j]! - known)
        for (let i = 0; i < keySize; i++) {
          state[i * valueSize + j]! += key[i]! * change
          read[j]! += (state[i * valueSize + j]! * query[i]!) / Math.sqrt(keySize)
        }
      }
      const gate = inputs[t]!.slice(2 * keys + width + h * valueSize)
      normed(read, weight!, layer.normEpsilon).forEach((each, j) => {
        out[h * valueSize + j] = each * silu(gate[j]!)
      })
    }
    return out
  })
}

function stateSpace(
  layer: RecurrentLayer,
  { heads, headSize, groups, stateSize, groupNorm }: StateSpaceSpec,
  inputs: readonly Float64Array[],
  x: readonly Float64Array[]
): Float64Array[] {
  const width = heads * headSize
  const mixed = convolved(
    layer,
    inputs.map(row => row.slice(width)),
    true
  )
  const [bias, decay, skip, weight] = ['rate_bias', 'decay', 'skip', 'recurrence_norm'].map(layer.vector)
  const states = Array.from({ length: heads }, () => new Float64Array(stateSize * headSize))
  return mixed.map((row, t) => {
    const rates = layer.project('rates', t, x[t]!)
    const out = new Float64Array(width)
    for (let h = 0; h < heads; h++) {
      const group = Math.floor(h / (heads / groups))
      const within = row.slice(width + group * stateSize)
      const without = row.slice(width + (groups + group) * stateSize)
      const step = Math.log1p(Math.exp(rates[h]! + bias![h]!))
      const kept = Math.exp(step * decay![h]!)
      for (let j = 0; j < headSize; j++) {
        const value = row[h * headSize + j]!
        let read = skip![h]! * value
        for (let i = 0; i < stateSize; i++) {
          const at = i * headSize + j
          states[h]![at] = states[h]![at]! * kept + within[i]! * step * value
          read += states[h]![at]! * without[i]!
        }
        out[h * headSize + j] = read * silu(inputs[t]![h * headSize + j]!)
      }
    }
    if (!groupNorm) return normed(out, weight!, layer.normEpsilon)
    const size = width / groups
    const parts = Array.from({ length: groups }, (_, g) => {
      const part = (values: Float64Array) => values.subarray(g * size, (g + 1) * size)
      return [...normed(part(out), part(weight!), layer.normEpsilon)]
    })
    return Float64Array.from(parts.flat())
  })
}

/** Each channel's last tokens times its taps, the newest one last; before the first token there is nothing. */
function convolved(
  { spec, vector }: RecurrentLayer,
  rows: readonly Float64Array[],
  activated: boolean
): Float64Array[] {
  const taps = vector('convolution')
  const bias = spec.kind === 'state-space' && spec.bias ? vector('convolution_bias') : undefined
  return rows.map((row, t) =>
    row.map((_, channel) => {
      let value = bias?.[channel] ?? 0
      for (let tap = 0; tap < spec.taps; tap++) {
        const from = rows[t - (spec.taps - 1) + tap]
        value += (from?.[channel] ?? 0) * taps[channel * spec.taps + tap]!
      }
      return activated ? silu(value) : value
    })
  )
}

function unit(x: Float64Array): Float64Array {
  const length = Math.sqrt(x.reduce((total, value) => total + value * value, 1e-6))
  return x.map(value => value / length)
}

function normed(x: Float64Array, weight: Float64Array, epsilon: number): Float64Array {
  const meanSquare = x.reduce((total, value) => total + value * value, 0) / x.length
  return x.map((value, i) => (value / Math.sqrt(meanSquare + epsilon)) * weight[i]!)
}

function silu(x: number): number {
  return x * logistic(x)
}

function logistic(x: number): number {
  return 1 / (1 + Math.exp(-x))
}

import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { HiddenStates } from '../../models/runtime/runtime.ts'

/** Rows of token ids (rows) or hidden states (rows, hiddenSize). */
export function pickRows(
  input: Int32Array | HiddenStates,
  rows: number[],
  hiddenSize: number
): Int32Array | HiddenStates {
  if (input instanceof Int32Array) return Int32Array.from(rows, row => input[row]!)
  const picked = allocateHidden(rows.length, hiddenSize)
  rows.forEach((row, i) => {
    picked.data.set(input.data.subarray(row * hiddenSize, (row + 1) * hiddenSize), i * hiddenSize)
  })
  return picked
}

/** Hidden states `[start, end)`, in the same memory. */
export function statesOf({ data, tokens }: HiddenStates, start: number, end: number): HiddenStates {
  const width = data.length / tokens
  return { tokens: end - start, data: data.subarray(start * width, end * width) }
}

/** The rows of both, in memory of their own. */
export function joinRows(
  first: Int32Array | HiddenStates,
  second: Int32Array | HiddenStates,
  hiddenSize: number
): Int32Array | HiddenStates {
  if (first instanceof Int32Array || second instanceof Int32Array) {
    return Int32Array.from([...(first as Int32Array), ...(second as Int32Array)])
  }
  const joined = allocateHidden(first.tokens + second.tokens, hiddenSize)
  joined.data.set(first.data)
  joined.data.set(second.data, first.data.length)
  return joined
}

/** The same values in memory of their own. */
export function copyOf({ tokens, data }: HiddenStates): HiddenStates {
  const copy = allocateHidden(tokens, data.length / tokens)
  copy.data.set(data)
  return copy
}

/** Which of `rows` equal parts of the input are not finite numbers. */
export function damagedRows(input: Int32Array | HiddenStates, rows: number): number[] {
  if (input instanceof Int32Array) return []
  const { data } = input
  const size = data.length / rows
  return [...Array(rows).keys()].filter(row => !allFinite(data.subarray(row * size, (row + 1) * size)))
}

function allFinite(values: Float32Array): boolean {
  let sum = 0
  // x * 0 is 0 for every finite x and NaN for the rest.
  for (let i = 0; i < values.length; i++) sum += values[i]! * 0
  return sum === 0
}

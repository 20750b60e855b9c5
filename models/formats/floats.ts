/** Element types of a checkpoint's unquantised weights. */
export type FloatType = 'F32' | 'F16' | 'BF16'

export const FLOAT_BYTES: Record<FloatType, number> = { F32: 4, F16: 2, BF16: 2 }

/** float16 bit patterns to their values: 65,536 of them, made once. */
let halfTable: Float32Array | undefined

export function halfValues(): Float32Array {
  halfTable ??= Float32Array.from({ length: 65_536 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1
    const exponent = (bits >> 10) & 0x1f
    const fraction = bits & 0x3ff
    if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
  })
  return halfTable
}

/** The float16 at a byte's place, by halfValues. */
export function halfAt(bytes: Uint8Array, half: Float32Array, at: number): number {
  return half[bytes[at]! | (bytes[at + 1]! << 8)]!
}

/** Little-endian floats of any type as float32: exact, for each is a subset of float32. */
export function toFloat32(bytes: Uint8Array, type: FloatType): Float32Array<ArrayBuffer> {
  const count = bytes.byteLength / FLOAT_BYTES[type]
  // Typed arrays need their alignment; what was read from a file may start anywhere.
  const aligned = bytes.byteOffset % FLOAT_BYTES[type] === 0 ? bytes : bytes.slice()
  if (type === 'F32') return new Float32Array(aligned.buffer as ArrayBuffer, aligned.byteOffset, count)
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, count)
  const values = new Float32Array(count)
  if (type === 'F16') {
    const table = halfValues()
    for (let i = 0; i < count; i++) values[i] = table[halves[i]!]!
  } else {
    const bits = new Uint32Array(values.buffer)
    for (let i = 0; i < count; i++) bits[i] = halves[i]! << 16
  }
  return values
}

/** The index of the first infinity or NaN, or -1. */
export function firstNonFinite(values: Float32Array): number {
  // x - x is 0 for finite numbers only; a sum over many is quick to take.
  let sum = 0
  for (let i = 0; i < values.length; i++) sum += values[i]! - values[i]!
  return sum === 0 ? -1 : values.findIndex(value => !Number.isFinite(value))
}

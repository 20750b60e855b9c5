/** float8 bit patterns of e4m3 without infinities (OCP 8-bit Floating Point 1.0) to their values; made once. */
let table: Float32Array | undefined

function e4m3Values(): Float32Array {
  table ??= Float32Array.from({ length: 256 }, (_, bits) => {
    const sign = bits & 0x80 ? -1 : 1
    const exponent = (bits >> 3) & 15
    const fraction = bits & 7
    if (exponent === 15 && fraction === 7) return NaN
    return sign * (exponent === 0 ? fraction * 2 ** -9 : (1 + fraction / 8) * 2 ** (exponent - 7))
  })
  return table
}

/** e4m3 as float32: exact. */
export function e4m3ToFloat32(bytes: Uint8Array): Float32Array {
  const values = e4m3Values()
  return Float32Array.from(bytes, byte => values[byte]!)
}

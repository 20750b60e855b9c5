import type { Rows } from './ridge.ts'

/**
 * A random map to fewer numbers that keeps angles roughly (Achlioptas 2003: entries of +1 and -1), so that a fit to wide
 * embeddings takes minutes. The same for the same widths.
 */
export class Projection {
  readonly width: number
  readonly #signs: Int8Array | undefined

  /** @param width numbers of a row; rows of no more than `most` stay as they are. */
  constructor(width: number, most: number) {
    this.width = Math.min(width, most)
    if (width > most) this.#signs = signs(width * most)
  }

  apply(rows: Rows): Rows {
    const signs = this.#signs
    if (signs === undefined) return rows
    const { data, count, width } = rows
    const result = new Float32Array(count * this.width)
    for (let row = 0; row < count; row++) {
      const to = row * this.width
      for (let i = 0; i < width; i++) {
        const value = data[row * width + i]!
        for (let j = 0; j < this.width; j++) result[to + j]! += value * signs[i * this.width + j]!
      }
    }
    return { data: result, count, width: this.width }
  }
}

/** Marsaglia's xorshift32, a bit a sign. */
function signs(count: number): Int8Array {
  let state = 0x9e3779b9
  return Int8Array.from({ length: count }, () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state & 1) === 0 ? 1 : -1
  })
}

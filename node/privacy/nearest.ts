import type { Rows } from './ridge.ts'

/** For each of some vectors, the row with the largest cosine among all that it was shown. */
export class NearestRow {
  readonly ids: Int32Array
  readonly #vectors: Rows
  readonly #best: Float32Array

  constructor(vectors: Rows) {
    this.#vectors = vectors
    this.ids = new Int32Array(vectors.count).fill(-1)
    this.#best = new Float32Array(vectors.count).fill(-Infinity)
  }

  /** Shows it rows of length one (`normalised`), the first of which has the id `firstId`. */
  compare({ data, count, width }: Rows, firstId: number): void {
    for (let at = 0; at < this.#vectors.count; at++) {
      const vector = this.#vectors.data.subarray(at * width, (at + 1) * width)
      for (let row = 0; row < count; row++) {
        const from = row * width
        let dot = 0
        for (let i = 0; i < width; i++) dot += vector[i]! * data[from + i]!
        // The vector's own length is the same for every row.
        if (dot > this.#best[at]!) {
          this.#best[at] = dot
          this.ids[at] = firstId + row
        }
      }
    }
  }
}

/** The rows with length one; rows of zeros stay. */
export function normalised({ data, count, width }: Rows): Rows {
  const result = new Float32Array(data.length)
  for (let row = 0; row < count; row++) {
    let sum = 0
    for (let i = row * width; i < (row + 1) * width; i++) sum += data[i]! ** 2
    const scale = sum > 0 ? 1 / Math.sqrt(sum) : 0
    for (let i = row * width; i < (row + 1) * width; i++) result[i] = data[i]! * scale
  }
  return { data: result, count, width }
}

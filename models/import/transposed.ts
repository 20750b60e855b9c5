/** Reads floats [start, end) of a tensor, of all its values in order. */
type ReadFloats = (start: number, end: number) => Promise<Float32Array>

/** A stack of projections that lies as (stack, in, out), row by row as if it were (stack, out, in). */
export class TransposedStack {
  readonly #inputs: number
  readonly #outputs: number
  readonly #read: ReadFloats
  /** The projection that was read last, (out, in): its rows come one behind the other. */
  #last: { index: number; values: Promise<Float32Array> } | undefined

  constructor([, inputs = 0, outputs = 0]: readonly number[], read: ReadFloats) {
    this.#inputs = inputs
    this.#outputs = outputs
    this.#read = read
  }

  /** Rows [start, end) of all projections together, as values of their own. */
  async rows(start: number, end: number): Promise<Float32Array> {
    const values = new Float32Array((end - start) * this.#inputs)
    for (let row = start; row < end; ) {
      const index = Math.floor(row / this.#outputs)
      const first = index * this.#outputs
      const stop = Math.min(end, first + this.#outputs)
      const projection = await this.#projection(index)
      const part = projection.subarray((row - first) * this.#inputs, (stop - first) * this.#inputs)
      values.set(part, (row - start) * this.#inputs)
      row = stop
    }
    return values
  }

  async #projection(index: number): Promise<Float32Array> {
    if (this.#last?.index !== index) this.#last = { index, values: this.#transposed(index) }
    return await this.#last.values
  }

  async #transposed(index: number): Promise<Float32Array> {
    const [inputs, outputs] = [this.#inputs, this.#outputs]
    const size = inputs * outputs
    const from = await this.#read(index * size, (index + 1) * size)
    const to = new Float32Array(size)
    for (let input = 0; input < inputs; input++) {
      for (let output = 0; output < outputs; output++)
        to[output * inputs + input] = from[input * outputs + output]!
    }
    return to
  }
}

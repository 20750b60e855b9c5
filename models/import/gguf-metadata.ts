import { CheckpointError, UnsupportedModelError } from '../errors.ts'

/** Typed access to a GGUF file's metadata; a value of the wrong kind is an error, never a guess. */
export class GgufMetadata {
  readonly file: string
  readonly #values: ReadonlyMap<string, unknown>

  constructor(file: string, values: ReadonlyMap<string, unknown>) {
    this.file = file
    this.#values = values
  }

  keys(): Iterable<string> {
    return this.#values.keys()
  }

  number(key: string): number {
    return this.optionalNumber(key) ?? this.#fail(key, 'is missing')
  }

  optionalNumber(key: string): number | undefined {
    const value = this.#values.get(key)
    if (value === undefined) return undefined
    // 64-bit integers come as bigint; above 2^53 they make no sense here.
    const number = typeof value === 'bigint' && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value
    return typeof number === 'number' && Number.isFinite(number) ? number : this.#fail(key, 'is not a number')
  }

  /** A number, or a list with one for each layer, which must be the same for all. */
  same(key: string): number {
    return this.optionalSame(key) ?? this.#fail(key, 'is missing')
  }

  optionalSame(key: string): number | undefined {
    const value = this.#values.get(key)
    if (!Array.isArray(value)) return this.optionalNumber(key)
    const [first] = value
    if (typeof first !== 'number') return this.#fail(key, 'is not a list of numbers')
    if (value.some(item => item !== first)) {
      throw new UnsupportedModelError(
        `${this.file}: metadata ${key} differs from layer to layer, which is not supported`
      )
    }
    return first
  }

  /** A list with a number for each layer; undefined where there is none, or one number for all. */
  perLayer(key: string): number[] | undefined {
    const value = this.#values.get(key)
    if (!Array.isArray(value)) return undefined
    if (value.every(item => typeof item === 'number')) return value
    return this.#fail(key, 'is not a list of numbers')
  }

  /** A number for each of `layers` layers: a list of them, or one that is the same for all. */
  each(key: string, layers: number): number[] {
    const value = this.#values.get(key)
    if (!Array.isArray(value)) return new Array<number>(layers).fill(this.number(key))
    if (value.length >= layers && value.every(item => Number.isSafeInteger(item) && item > 0)) return value
    return this.#fail(key, `is not a list of ${layers} numbers above 0`)
  }

  /** A number, or a list with true or false for each of `layers` layers. */
  pattern(key: string, layers: number): number | boolean[] | undefined {
    const value = this.#values.get(key)
    if (!Array.isArray(value)) return this.optionalNumber(key)
    if (value.length === layers && value.every(item => typeof item === 'boolean')) return value
    return this.#fail(key, `is not a list of ${layers} flags`)
  }

  optionalText(key: string): string | undefined {
    const value = this.#values.get(key)
    if (value === undefined || typeof value === 'string') return value
    return this.#fail(key, 'is not a string')
  }

  optionalFlag(key: string): boolean | undefined {
    const value = this.#values.get(key)
    if (value === undefined || typeof value === 'boolean') return value
    return this.#fail(key, 'is not true or false')
  }

  texts(key: string): string[] {
    const value = this.#values.get(key)
    if (Array.isArray(value) && value.every(item => typeof item === 'string')) return value
    return this.#fail(key, value === undefined ? 'is missing' : 'is not a list of strings')
  }

  optionalNumbers(key: string): number[] | undefined {
    const value = this.#values.get(key)
    if (value === undefined) return undefined
    if (Array.isArray(value) && value.every(item => typeof item === 'number')) return value
    return this.#fail(key, 'is not a list of numbers')
  }

  #fail(key: string, what: string): never {
    throw new CheckpointError(this.file, `metadata ${key} ${what}`)
  }
}

/** The key `suffix` of the file's own architecture. */
export function keyOf(metadata: GgufMetadata, suffix: string): string {
  return `${metadata.optionalText('general.architecture')}.${suffix}`
}

import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { readJsonObject } from '../formats/files.ts'
import { FLOAT_BYTES, type FloatType, toFloat32 } from '../formats/floats.ts'
import { floatType, type SafetensorsEntry, SafetensorsFile } from '../formats/safetensors.ts'
import { TransposedStack } from './transposed.ts'
import { type RawRows, rowsIn, type SourceOrigin, type WeightSource } from './weights.ts'

export const MAX_INDEX_BYTES = 64 * 1024 * 1024
const MAX_FILES = 1024

const WHOLE = 'model.safetensors'
export const WEIGHT_INDEX = 'model.safetensors.index.json'
const PART = /^(.+)-\d+-of-(\d+)\.safetensors$/

const Index = z.looseObject({ weight_map: z.record(z.string().max(512), z.string().max(255)) })

/**
 * Reads a model.safetensors.index.json: tensor to the name of the file, in the same folder, that has it.
 *
 * @throws {CheckpointError} when it is none, or names what is no file beside it.
 */
export function parseWeightIndex(json: Record<string, unknown>, path: string): ReadonlyMap<string, string> {
  const parsed = Index.safeParse(json)
  if (!parsed.success) throw new CheckpointError(path, 'has no weight_map of tensor to file name')
  const index = new Map(Object.entries(parsed.data.weight_map))
  const names = new Set(index.values())
  if (names.size > MAX_FILES)
    throw new CheckpointError(path, `lists ${names.size} files, more than ${MAX_FILES}`)
  const outside = [...names].find(name => /[/\\]/.test(name) || !name.endsWith('.safetensors'))
  if (outside !== undefined) {
    throw new CheckpointError(path, `${JSON.stringify(outside)} is not a safetensors file in the same folder`)
  }
  return index
}

/** Which files of a folder hold the weights, and of a tensor that is in several, which one counts. */
interface Listing {
  names: string[]
  /** Tensor to file, where an index says it. */
  index: ReadonlyMap<string, string>
}

/**
 * A folder's safetensors files, chosen as transformers does: model.safetensors, else those that
 * model.safetensors.index.json lists, else the parts of the one set that is there.
 */
export class HuggingFaceWeights implements WeightSource {
  readonly files: SafetensorsFile[]
  readonly dir: string
  readonly #tensors = new Map<string, { file: SafetensorsFile; entry: SafetensorsEntry }>()
  readonly #transposed: readonly string[]
  readonly #stacks = new Map<string, TransposedStack>()

  private constructor(dir: string, files: SafetensorsFile[], transposed: readonly string[]) {
    this.dir = dir
    this.files = files
    this.#transposed = transposed
  }

  /**
   * @param transposed how names end of stacks that lie as (stack, in, out)
   * @throws {CheckpointError} when a file is missing or damaged.
   */
  static async open(dir: string, transposed: readonly string[] = []): Promise<HuggingFaceWeights> {
    const weights = new HuggingFaceWeights(dir, [], transposed)
    try {
      const { names, index } = await listFiles(dir)
      for (const name of names) {
        const file = await SafetensorsFile.open(join(dir, name))
        weights.files.push(file)
        for (const [tensor, entry] of file.tensors) {
          if ((index.get(tensor) ?? name) !== name) continue
          if (weights.#tensors.has(tensor))
            throw new CheckpointError(
              file.path,
              `tensor ${tensor} is in two files, and no index says which counts`
            )
          weights.#tensors.set(tensor, { file, entry })
        }
      }
      for (const [tensor, name] of index) {
        if (weights.#tensors.has(tensor)) continue
        throw new CheckpointError(
          join(dir, name),
          `lacks tensor ${tensor.slice(0, 80)}, which the index says it has`
        )
      }
      return weights
    } catch (error) {
      await weights.close()
      throw error
    }
  }

  get origin(): Extract<SourceOrigin, { format: 'safetensors' }> {
    const transposed = this.#transposed
    return { format: 'safetensors', dir: this.dir, ...(transposed.length > 0 && { transposed }) }
  }

  get names(): Iterable<string> {
    return this.#tensors.keys()
  }

  dims(name: string): number[] | undefined {
    const shape = this.#tensors.get(name)?.entry.shape
    if (shape === undefined || !this.#isTransposed(name)) return shape
    const [stack = 0, inputs = 0, outputs = 0] = shape
    return [stack, outputs, inputs]
  }

  type(name: string): string {
    return this.#tensors.get(name)!.entry.dtype
  }

  bytes(name: string): number {
    return this.#tensors.get(name)!.entry.bytes
  }

  packing(): undefined {
    return undefined
  }

  entry(name: string): SafetensorsEntry | undefined {
    return this.#tensors.get(name)?.entry
  }

  /** The bytes [start, end) of a tensor. */
  async readBytes(name: string, start: number, end: number): Promise<Uint8Array> {
    const { file, entry } = this.#tensors.get(name)!
    return await file.read(entry, start, end)
  }

  async read(name: string, start: number, end: number): Promise<RawRows> {
    const { file, entry } = this.#tensors.get(name)!
    const type = floatType(entry)
    if (type === undefined) {
      throw new UnsupportedModelError(
        `${file.path}: tensor ${name} is of type ${entry.dtype}; supported are ${Object.keys(FLOAT_BYTES).join(', ')}`
      )
    }
    const pack = () => this.#fail()
    if (this.#isTransposed(name)) {
      const values = await this.#stack(name, type).rows(start, end)
      return { floats: () => values, pack }
    }
    const rowBytes = entry.bytes / rowsIn(entry.shape)
    const bytes = await file.read(entry, start * rowBytes, end * rowBytes)
    return { floats: () => toFloat32(bytes, type), pack }
  }

  #isTransposed(name: string): boolean {
    const { shape } = this.#tensors.get(name)!.entry
    return shape.length === 3 && this.#transposed.some(end => name.endsWith(end))
  }

  #stack(name: string, type: FloatType): TransposedStack {
    let stack = this.#stacks.get(name)
    if (stack === undefined) {
      const { file, entry } = this.#tensors.get(name)!
      const bytes = FLOAT_BYTES[type]
      stack = new TransposedStack(entry.shape, async (start, end) =>
        toFloat32(await file.read(entry, start * bytes, end * bytes), type)
      )
      // One at a time: each holds a projection.
      this.#stacks.clear()
      this.#stacks.set(name, stack)
    }
    return stack
  }

  async close(): Promise<void> {
    for (const file of this.files) await file.close()
  }

  #fail(): never {
    throw new Error(`${this.dir} holds floats, no blocks`)
  }
}

async function listFiles(dir: string): Promise<Listing> {
  const none = new Map<string, string>()
  const present = await readdir(dir)
  if (present.includes(WHOLE)) return { names: [WHOLE], index: none }
  const indexPath = join(dir, WEIGHT_INDEX)
  const json = await readJsonObject(indexPath, MAX_INDEX_BYTES)
  if (json === undefined) return { names: partsWithoutIndex(dir, present), index: none }
  const index = parseWeightIndex(json, indexPath)
  return { names: [...new Set(index.values())].sort(), index }
}

/** The parts of the only set `NAME-00001-of-0000N.safetensors` in a folder. */
function partsWithoutIndex(dir: string, present: string[]): string[] {
  const sets = new Map<string, string[]>()
  for (const name of present.toSorted()) {
    const [, base, of] = PART.exec(name) ?? []
    if (base === undefined || of === undefined) continue
    const set = `${base}-*-of-${of}`
    sets.set(set, [...(sets.get(set) ?? []), name])
  }
  const [first, ...others] = sets
  if (first === undefined) {
    const other = present.find(name => /\.(bin|pth|pt)$/.test(name))
    throw new CheckpointError(
      dir,
      `has no model.safetensors${other === undefined ? '' : `; ${other} is a pickle, convert it to safetensors`}`
    )
  }
  const [set, names] = first
  const count = Number(/\d+$/.exec(set)![0])
  if (others.length > 0 || names.length !== count || count > MAX_FILES) {
    throw new CheckpointError(
      dir,
      others.length > 0
        ? `has parts of several sets (${set}, ${others[0]![0]}) and no ${WEIGHT_INDEX} that says which counts`
        : `has ${names.length} of the ${count} parts ${set}.safetensors`
    )
  }
  return names
}

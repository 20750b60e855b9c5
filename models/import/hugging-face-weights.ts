import { readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { readJsonObject } from '../formats/files.ts'
import { FLOAT_BYTES, toFloat32 } from '../formats/floats.ts'
import { floatType, type SafetensorsEntry, SafetensorsFile } from '../formats/safetensors.ts'
import type { RawRows, SourceOrigin, WeightSource } from './weights.ts'

const MAX_INDEX_BYTES = 64 * 1024 * 1024
const MAX_FILES = 1024

const Index = z.looseObject({ weight_map: z.record(z.string().max(512), z.string().max(255)) })

/** A folder's safetensors files: model.safetensors, or those that model.safetensors.index.json lists. */
export class HuggingFaceWeights implements WeightSource {
  readonly #dir: string
  readonly #files: SafetensorsFile[]
  readonly #tensors = new Map<string, { file: SafetensorsFile; entry: SafetensorsEntry }>()

  private constructor(dir: string, files: SafetensorsFile[]) {
    this.#dir = dir
    this.#files = files
  }

  /** @throws {CheckpointError} when a file is missing or damaged. */
  static async open(dir: string): Promise<HuggingFaceWeights> {
    const files: SafetensorsFile[] = []
    const weights = new HuggingFaceWeights(dir, files)
    try {
      for (const name of await fileNames(dir)) {
        const file = await SafetensorsFile.open(join(dir, name))
        files.push(file)
        for (const [tensor, entry] of file.tensors) {
          if (weights.#tensors.has(tensor))
            throw new CheckpointError(file.path, `tensor ${tensor} is in two files`)
          weights.#tensors.set(tensor, { file, entry })
        }
      }
      return weights
    } catch (error) {
      await weights.close()
      throw error
    }
  }

  get origin(): SourceOrigin {
    return { format: 'safetensors', dir: this.#dir }
  }

  get names(): Iterable<string> {
    return this.#tensors.keys()
  }

  dims(name: string): number[] | undefined {
    return this.#tensors.get(name)?.entry.shape
  }

  packing(): undefined {
    return undefined
  }

  async read(name: string, start: number, end: number): Promise<RawRows> {
    const { file, entry } = this.#tensors.get(name)!
    const type = floatType(entry)
    if (type === undefined) {
      throw new UnsupportedModelError(
        `${file.path}: tensor ${name} is of type ${entry.dtype}; supported are ${Object.keys(FLOAT_BYTES).join(', ')}`
      )
    }
    const rowBytes = entry.bytes / entry.shape[0]!
    const bytes = await file.read(entry, start * rowBytes, end * rowBytes)
    return { floats: () => toFloat32(bytes, type), pack: () => this.#fail() }
  }

  async close(): Promise<void> {
    for (const file of this.#files) await file.close()
  }

  #fail(): never {
    throw new Error(`${this.#dir} holds floats, no blocks`)
  }
}

async function fileNames(dir: string): Promise<string[]> {
  const indexPath = join(dir, 'model.safetensors.index.json')
  const json = await readJsonObject(indexPath, MAX_INDEX_BYTES)
  if (json === undefined) {
    const names = await readdir(dir)
    if (names.includes('model.safetensors')) return ['model.safetensors']
    const other = names.find(name => /\.(bin|pth|pt)$/.test(name))
    throw new CheckpointError(
      dir,
      `has no model.safetensors${other === undefined ? '' : `; ${other} is a pickle, convert it to safetensors`}`
    )
  }
  const parsed = Index.safeParse(json)
  if (!parsed.success) throw new CheckpointError(indexPath, 'has no weight_map of tensor to file name')
  const names = [...new Set(Object.values(parsed.data.weight_map))].sort()
  if (names.length > MAX_FILES)
    throw new CheckpointError(indexPath, `lists ${names.length} files, more than ${MAX_FILES}`)
  const outside = names.find(name => name !== basename(name) || !name.endsWith('.safetensors'))
  if (outside !== undefined) {
    throw new CheckpointError(
      indexPath,
      `${JSON.stringify(outside)} is not a safetensors file in the same folder`
    )
  }
  return names
}

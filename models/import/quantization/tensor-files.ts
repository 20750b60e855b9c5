import { CheckpointError } from '../../errors.ts'
import { toFloat32 } from '../../formats/floats.ts'
import { floatType, type SafetensorsEntry } from '../../formats/safetensors.ts'
import type { Quantization } from '../../manifest.ts'
import type { RawRows } from '../weights.ts'

/** A folder's tensors as bytes. */
export interface TensorFiles {
  /** What errors call the folder. */
  dir: string
  entry(name: string): SafetensorsEntry | undefined
  /** The bytes [start, end) of a tensor. */
  readBytes(name: string, start: number, end: number): Promise<Uint8Array>
}

/** A projection that other tensors of a folder make up together. */
export interface QuantizedTensor {
  dims: number[]
  /** What its format is called. */
  type: string
  /** Those that it is made of. */
  parts: string[]
  /** Those that say in which order they are. */
  beside?: string[]
  packing: Quantization | undefined
  /** Reads what all rows need, and gives what reads rows [start, end). */
  open(): Promise<RowReader>
}

export type RowReader = (start: number, end: number) => RawRows | Promise<RawRows>

/** Bytes of a value, by safetensors' name of its type. */
const BYTES: Partial<Record<string, number>> = {
  F32: 4,
  F16: 2,
  BF16: 2,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I8: 1,
  U8: 1,
  I32: 4,
  U32: 4,
  I64: 8
}

/**
 * A tensor of one of some types, and as large as its shape.
 *
 * @throws {CheckpointError} naming it.
 */
export function entryOf(files: TensorFiles, name: string, ...types: string[]): SafetensorsEntry {
  const entry = files.entry(name)
  if (entry === undefined) throw new CheckpointError(files.dir, `tensor ${name} is missing`)
  if (!types.includes(entry.dtype)) {
    throw new CheckpointError(
      files.dir,
      `tensor ${name} is of type ${entry.dtype}, not ${types.join(' or ')}`
    )
  }
  const elements = entry.shape.reduce((product, n) => product * n, 1)
  if (elements * BYTES[entry.dtype]! !== entry.bytes) {
    throw new CheckpointError(
      files.dir,
      `tensor ${name} of shape (${entry.shape.join(', ')}) has ${entry.bytes} bytes`
    )
  }
  return entry
}

/** @throws {CheckpointError} where a tensor's shape is another one. */
export function checkDims(files: TensorFiles, name: string, found: number[], expected: number[]): void {
  if (found.length === expected.length && found.every((n, i) => n === expected[i])) return
  throw new CheckpointError(
    files.dir,
    `tensor ${name} has shape (${found.join(', ')}), its companions ask for (${expected.join(', ')})`
  )
}

/** Rows [start, end) of a tensor of floats. */
export async function floatRows(
  files: TensorFiles,
  name: string,
  start: number,
  end: number
): Promise<Float32Array> {
  const entry = entryOf(files, name, 'F32', 'F16', 'BF16')
  const rowBytes = entry.bytes / (entry.shape[0] ?? 1)
  return toFloat32(await files.readBytes(name, start * rowBytes, end * rowBytes), floatType(entry)!)
}

/** A whole tensor of floats, of which a projection has few. */
export async function allFloats(files: TensorFiles, name: string): Promise<Float32Array> {
  const entry = entryOf(files, name, 'F32', 'F16', 'BF16')
  return toFloat32(await files.readBytes(name, 0, entry.bytes), floatType(entry)!)
}

/** A whole tensor of 32-bit words. */
export async function allWords(files: TensorFiles, name: string): Promise<Uint32Array> {
  const { bytes } = entryOf(files, name, 'I32', 'U32')
  const read = await files.readBytes(name, 0, bytes)
  return new Uint32Array(read.slice().buffer)
}

import { setImmediate as nextTurn } from 'node:timers/promises'
import { CheckpointError } from '../errors.ts'
import { firstNonFinite } from '../formats/floats.ts'
import type { Quantization, TensorEntry } from '../manifest.ts'
import { quantizeRows } from '../quantize.ts'
import type { BlobWriter } from '../store/blob-file.ts'
import { type LayerTensor, placeTensor } from '../tensors.ts'
import type { PlannedLayer, PlannedTensor } from './layer-plan.ts'
import type { Part, RawRows, WeightSource } from './weights.ts'

/** Floats handled at a time: an import's memory does not grow with the model. */
const CHUNK_ELEMENTS = 2 * 1024 * 1024

/** What writing a layer needs besides its plan. */
export interface LayerWriterOptions {
  source: WeightSource
  /** What errors call the checkpoint. */
  file: string
  /** Memory that every layer uses again: fresh buffers of this size cost more than the arithmetic on them. */
  scratch: Scratch
  signal?: AbortSignal
}

/** Buffers that grow to the largest use. */
export class Scratch {
  #weight = new Uint8Array(0)
  #floats = [new Float32Array(0), new Float32Array(0)]

  weight(bytes: number): Uint8Array {
    if (this.#weight.length < bytes) this.#weight = new Uint8Array(bytes)
    return this.#weight.subarray(0, bytes)
  }

  scales(count: number): Float32Array {
    return this.#part(0, count)
  }

  shifts(count: number): Float32Array {
    return this.#part(1, count)
  }

  #part(part: 0 | 1, count: number): Float32Array {
    if (this.#floats[part]!.length < count) this.#floats[part] = new Float32Array(count)
    return this.#floats[part]!.subarray(0, count)
  }
}

/**
 * Writes one layer's file and says where its tensors are.
 *
 * @throws {CheckpointError} naming a tensor that is cut short or not finite.
 */
export async function writeLayer(
  writer: BlobWriter,
  { tensors }: PlannedLayer,
  options: LayerWriterOptions
): Promise<TensorEntry[]> {
  const written: TensorEntry[] = []
  for (const planned of tensors) {
    const { tensor, parts, packing } = planned
    const entries = placeTensor(tensor, packing, writer.bytes)
    await pad(writer, entries[0]!.offset)
    if (packing === undefined) await writeFloats(writer, parts, tensor, options)
    else await writeBlocks(writer, planned, packing, entries, options)
    written.push(...entries)
  }
  return written
}

async function writeFloats(
  writer: BlobWriter,
  parts: Part[],
  tensor: LayerTensor,
  options: LayerWriterOptions
): Promise<void> {
  for (const part of parts) {
    for await (const { raw, rows } of chunks(part, tensor, options)) {
      await writer.write(bytesOf(finiteFloats(raw, part, rows, options)))
    }
  }
}

async function writeBlocks(
  writer: BlobWriter,
  { parts, tensor, round }: PlannedTensor,
  packing: Quantization,
  [, scalesEntry, shiftsEntry]: TensorEntry[],
  options: LayerWriterOptions
): Promise<void> {
  const blocksInRow = scalesEntry!.shape[1]!
  const scales = options.scratch.scales(scalesEntry!.bytes / 4)
  const shifts = shiftsEntry && options.scratch.shifts(shiftsEntry.bytes / 4)
  let block = 0
  for (const part of parts) {
    for await (const { raw, rows } of chunks(part, tensor, options)) {
      const blocks = rows * blocksInRow
      const bytes = (blocks * packing.blockSize * packing.bits) / 8
      const into = {
        weight: options.scratch.weight(bytes),
        scales: scales.subarray(block, block + blocks),
        ...(shifts && { shifts: shifts.subarray(block, block + blocks) })
      }
      if (!round) {
        raw.pack(packing, into)
        scale(into.scales, part.factor)
        if (into.shifts !== undefined) scale(into.shifts, part.factor)
        toHalfSplit(into.weight, part, rows)
        toHalfSplit(into.scales, part, rows)
        if (into.shifts !== undefined) toHalfSplit(into.shifts, part, rows)
      } else {
        quantizeRows(finiteFloats(raw, part, rows, options), tensor.dims[1]!, packing, into)
      }
      const damaged = firstNonFinite(into.scales) >= 0 || (into.shifts && firstNonFinite(into.shifts) >= 0)
      if (damaged) throw notFinite(part, options)
      await writer.write(into.weight)
      block += blocks
    }
  }
  await pad(writer, scalesEntry!.offset)
  await writer.write(bytesOf(scales))
  if (shiftsEntry === undefined) return
  await pad(writer, shiftsEntry.offset)
  await writer.write(bytesOf(shifts!))
}

function finiteFloats(raw: RawRows, part: Part, rows: number, options: LayerWriterOptions): Float32Array {
  const values = raw.floats()
  if (firstNonFinite(values) >= 0) throw notFinite(part, options)
  const { factor, summand } = part
  scale(values, factor)
  if (summand !== undefined) for (let i = 0; i < values.length; i++) values[i]! += summand
  if (part.isLogarithm) for (let i = 0; i < values.length; i++) values[i] = -Math.exp(values[i]!)
  toHalfSplit(values, part, rows)
  return values
}

function scale(values: Float32Array, factor: number | undefined): void {
  if (factor !== undefined) for (let i = 0; i < values.length; i++) values[i]! *= factor
}

/** Rows of a part, a few at a time; whole heads where rows change places. The next ones are read meanwhile. */
async function* chunks(
  part: Part,
  { dims }: LayerTensor,
  { source, signal }: LayerWriterOptions
): AsyncGenerator<{ raw: RawRows; rows: number }> {
  const { name, rows, interleaved, stack, start: first = 0 } = part
  const unit = interleaved === undefined ? 1 : rows / interleaved.heads
  const step = Math.max(1, Math.floor(CHUNK_ELEMENTS / (dims[1] ?? 1) / unit)) * unit
  // Each vector of a stack is a row of its tensor, and shorter than a step.
  const read = (start: number) => {
    const reading =
      stack !== undefined && dims.length === 1
        ? source.read(name, first / rows, first / rows + 1)
        : source.read(name, first + start, first + Math.min(start + step, rows))
    // An import that ends before it is wanted need not hear that it failed.
    reading.catch(() => {})
    return reading
  }
  let next = read(0)
  for (let start = 0; start < rows; start += step) {
    const raw = await next
    if (start + step < rows) next = read(start + step)
    // Lets timers and signals through between two stretches of arithmetic.
    await nextTurn()
    signal?.throwIfAborted()
    yield { raw, rows: Math.min(step, rows - start) }
  }
}

/**
 * Brings the `rotated` rows of each head, its first ones or those from `first` on, from interleaved rotary order (partners side by side: 0, r/2, 1, r/2 + 1,
 * ...) into half-split order, where the partner of row i is row i + r/2, in place.
 */
function toHalfSplit<T extends Uint8Array | Float32Array>(values: T, part: Part, rows: number): void {
  if (part.interleaved === undefined) return
  const { heads, rotated, first = 0 } = part.interleaved
  const headSize = part.rows / heads
  const width = values.length / rows
  const before = values.slice()
  for (let row = 0; row < rows; row++) {
    const within = (row % headSize) - first
    if (within < 0 || within >= rotated) continue
    const from = row - within + (within % (rotated / 2)) * 2 + (within < rotated / 2 ? 0 : 1)
    values.set(before.subarray(from * width, (from + 1) * width), row * width)
  }
}

async function pad(writer: BlobWriter, offset: number): Promise<void> {
  if (offset > writer.bytes) await writer.write(new Uint8Array(offset - writer.bytes))
}

function notFinite({ name }: Part, { file }: LayerWriterOptions): CheckpointError {
  return new CheckpointError(file, `tensor ${name} holds values that are infinite or not numbers`)
}

function bytesOf(values: Float32Array): Uint8Array {
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
}

import type { FileHandle } from 'node:fs/promises'
import { z } from 'zod'
import { CheckpointError } from '../errors.ts'
import { identityOf, openFile, readExactly, standIn, TELLTALE_BYTES } from './files.ts'
import { FLOAT_BYTES, type FloatType } from './floats.ts'

/** The reference implementation's limit. */
const MAX_HEADER_BYTES = 100_000_000
/** Far above any real file (a layer of a mixture of 256 experts has some 800 tensors). */
const MAX_TENSORS = 200_000

/** Where a tensor lies in its file. */
export interface SafetensorsEntry {
  /** As the file names it: `F32`, `F16`, `BF16`, or one that only other programs read. */
  dtype: string
  shape: number[]
  /** From the start of the file. */
  offset: number
  bytes: number
}

const Entry = z.strictObject({
  dtype: z.string().max(16),
  shape: z.array(z.int().min(0)).max(8),
  data_offsets: z.tuple([z.int().min(0), z.int().min(0)])
})

/**
 * One safetensors file: eight bytes of header length, a JSON header, the tensors. Nothing is believed: every tensor is
 * inside the file, has the bytes that its shape takes, and shares none with another.
 */
export class SafetensorsFile {
  readonly path: string
  readonly tensors: ReadonlyMap<string, SafetensorsEntry>
  /** What the file was when it was opened. */
  readonly identity: string | undefined
  readonly #handle: FileHandle

  private constructor(
    path: string,
    identity: string | undefined,
    handle: FileHandle,
    tensors: Map<string, SafetensorsEntry>
  ) {
    this.path = path
    this.identity = identity
    this.#handle = handle
    this.tensors = tensors
  }

  /** @throws {CheckpointError} when the file is not what it should be. */
  static async open(path: string): Promise<SafetensorsFile> {
    const identity = await identityOf(path)
    const handle = await openFile(path)
    try {
      return new SafetensorsFile(path, identity, handle, await readHeader(path, handle))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** The bytes [start, end) of a tensor. */
  async read(entry: SafetensorsEntry, start: number, end: number): Promise<Uint8Array> {
    return await readExactly(this.#handle, this.path, entry.offset + start, end - start)
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** The float type of an entry's values, or undefined for one that is not supported. */
export function floatType({ dtype }: SafetensorsEntry): FloatType | undefined {
  return Object.hasOwn(FLOAT_BYTES, dtype) ? (dtype as FloatType) : undefined
}

async function readHeader(path: string, handle: FileHandle): Promise<Map<string, SafetensorsEntry>> {
  const { size } = await handle.stat()
  const other = standIn(await readExactly(handle, path, 0, Math.min(size, TELLTALE_BYTES)))
  if (other !== undefined) throw new CheckpointError(path, other)
  if (size < 8) throw new CheckpointError(path, `${size} bytes are too few for a safetensors file`)
  const prefix = await readExactly(handle, path, 0, 8)
  const headerBytes = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true)
  if (headerBytes > BigInt(Math.min(MAX_HEADER_BYTES, size - 8))) {
    throw new CheckpointError(
      path,
      `header of ${headerBytes} bytes in a file of ${size}: damaged, or not safetensors`
    )
  }
  const dataStart = 8 + Number(headerBytes)
  const entries = parseHeader(path, await readExactly(handle, path, 8, Number(headerBytes)))
  const tensors = new Map<string, SafetensorsEntry>()
  for (const [name, value] of entries) {
    const parsed = Entry.safeParse(value)
    if (!parsed.success) {
      const issue = parsed.error.issues[0]!
      throw new CheckpointError(path, `tensor ${quote(name)}: ${issue.path.join('.')}: ${issue.message}`)
    }
    const { dtype, shape, data_offsets } = parsed.data
    const [start, end] = data_offsets
    if (start > end || dataStart + end > size) {
      throw new CheckpointError(
        path,
        `tensor ${quote(name)} lies at [${start}, ${end}), outside the file of ${size} bytes`
      )
    }
    const entry = { dtype, shape, offset: dataStart + start, bytes: end - start }
    const type = floatType(entry)
    const elements = shape.reduce((product, n) => product * n, 1)
    if (type !== undefined && elements * FLOAT_BYTES[type] !== entry.bytes) {
      throw new CheckpointError(
        path,
        `tensor ${quote(name)} of shape (${shape.join(', ')}) has ${entry.bytes} bytes`
      )
    }
    tensors.set(name, entry)
  }
  checkDisjoint(path, tensors)
  return tensors
}

function parseHeader(path: string, bytes: Uint8Array): [string, unknown][] {
  let header: unknown
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new CheckpointError(path, 'its header is not JSON', { cause: error })
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header)) {
    throw new CheckpointError(path, 'its header is not an object')
  }
  const entries = Object.entries(header).filter(([name]) => name !== '__metadata__')
  if (entries.length > MAX_TENSORS)
    throw new CheckpointError(path, `${entries.length} tensors are more than ${MAX_TENSORS}`)
  return entries
}

function checkDisjoint(path: string, tensors: Map<string, SafetensorsEntry>): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.offset - b.offset || a.bytes - b.bytes)
  for (const [i, [name, entry]] of sorted.entries()) {
    const next = sorted[i + 1]
    if (next !== undefined && entry.offset + entry.bytes > next[1].offset) {
      throw new CheckpointError(path, `tensors ${quote(name)} and ${quote(next[0])} overlap`)
    }
  }
}

function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name)
}

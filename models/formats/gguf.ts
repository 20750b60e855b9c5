import type { FileHandle } from 'node:fs/promises'
import { type GGUFParseOutput, gguf } from '@huggingface/gguf'
import { CheckpointError } from '../errors.ts'
import { openFile, readExactly, readInto } from './files.ts'
import { GGUF_TYPES, type GgufType, ggufTypeName } from './gguf-types.ts'

/** Far above any real file (61 layers with 256 fused experts have some 1,100). */
const MAX_TENSORS = 65_536
/** Name length, dimension count, one dimension, type and offset; the least that one tensor's entry takes. */
const MIN_TENSOR_ENTRY_BYTES = 33
/** Key length, type and a value of one byte. */
const MIN_METADATA_ENTRY_BYTES = 13

export interface GgufTensor {
  type: GgufType
  /** Rows before columns, as everywhere else; GGUF has them the other way round. */
  dims: number[]
  /** From the start of the file. */
  offset: number
  bytes: number
}

/** A file's checked tensors in a form that another thread can be handed. */
export interface GgufTable {
  path: string
  tensors: [name: string, tensor: Omit<GgufTensor, 'type'> & { type: string }][]
}

/**
 * A GGUF file. The library reads its header; here everything in it is compared with the file's real size: every tensor
 * is inside the file, of a type that is known, has the bytes that its shape takes, and shares none with another.
 */
export class GgufFile {
  readonly path: string
  readonly metadata: ReadonlyMap<string, unknown>
  readonly tensors: ReadonlyMap<string, GgufTensor>
  readonly #handle: FileHandle

  private constructor(
    path: string,
    handle: FileHandle,
    metadata: Map<string, unknown>,
    tensors: Map<string, GgufTensor>
  ) {
    this.path = path
    this.#handle = handle
    this.metadata = metadata
    this.tensors = tensors
  }

  /** @throws {CheckpointError} when the file is not what it should be. */
  static async open(path: string): Promise<GgufFile> {
    const handle = await openFile(path)
    try {
      const { size } = await handle.stat()
      const header = await readHeader(path, handle, size)
      const metadata = new Map<string, unknown>(Object.entries(header.metadata))
      return new GgufFile(path, handle, metadata, readTensors(path, header, size))
    } catch (error) {
      await handle.close()
      throw error
    }
  }

  /** Opens a file again whose header another thread has read and checked. */
  static async reopen({ path, tensors }: GgufTable): Promise<GgufFile> {
    const types = new Map(Object.values(GGUF_TYPES).map(type => [type.name, type]))
    const known = tensors.map(
      ([name, tensor]) => [name, { ...tensor, type: types.get(tensor.type)! }] as const
    )
    return new GgufFile(path, await openFile(path), new Map(), new Map(known))
  }

  table(): GgufTable {
    const tensors = [...this.tensors].map(
      ([name, tensor]) => [name, { ...tensor, type: tensor.type.name }] as const
    )
    return { path: this.path, tensors: tensors.map(([name, tensor]) => [name, tensor]) }
  }

  /** Fills `into` with a tensor's bytes from `start` on. */
  async read({ offset }: Pick<GgufTensor, 'offset'>, start: number, into: Uint8Array): Promise<void> {
    await readInto(this.#handle, this.path, offset + start, into)
  }

  async close(): Promise<void> {
    await this.#handle.close()
  }
}

/** Whether a file begins as GGUF does. */
export async function isGguf(path: string): Promise<boolean> {
  const handle = await openFile(path)
  try {
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(4), 0, 4, 0)
    return bytesRead === 4 && buffer.toString('latin1') === 'GGUF'
  } finally {
    await handle.close()
  }
}

async function readHeader(path: string, handle: FileHandle, size: number): Promise<GGUFParseOutput> {
  await checkCounts(path, handle, size)
  try {
    const header = await gguf('https://localhost/', { fetch: fileAsFetch(path, handle, size) })
    if (!header.littleEndian)
      throw new CheckpointError(path, 'is a big-endian GGUF file; only little-endian is read')
    return header
  } catch (error) {
    if (error instanceof CheckpointError) throw error
    throw new CheckpointError(path, `its GGUF header is damaged: ${(error as Error).message.slice(0, 200)}`, {
      cause: error
    })
  }
}

/** The library takes counts at their word and reads zeros behind the end of a file, so they are checked before. */
async function checkCounts(path: string, handle: FileHandle, size: number): Promise<void> {
  if (size < 24) throw new CheckpointError(path, `${size} bytes are too few for a GGUF file`)
  const start = await readExactly(handle, path, 0, 24)
  const view = new DataView(start.buffer)
  if (view.getUint32(0, true) !== 0x46554747) throw new CheckpointError(path, 'is not a GGUF file')
  const version = view.getUint32(4, true)
  if (version !== 2 && version !== 3) {
    throw new CheckpointError(path, `is GGUF of version ${version}; versions 2 and 3 are read`)
  }
  const tensors = view.getBigUint64(8, true)
  const entries = view.getBigUint64(16, true)
  const least = tensors * BigInt(MIN_TENSOR_ENTRY_BYTES) + entries * BigInt(MIN_METADATA_ENTRY_BYTES)
  if (tensors > BigInt(MAX_TENSORS) || least > BigInt(size)) {
    throw new CheckpointError(
      path,
      `${tensors} tensors and ${entries} metadata entries do not fit ${size} bytes`
    )
  }
}

/** Serves the library's range requests from the file: no path or address of its choosing is ever opened. */
function fileAsFetch(path: string, handle: FileHandle, size: number): typeof fetch {
  let beyond = 0
  return async (_, init) => {
    const range = new Headers(init?.headers).get('range')
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')!
    const start = Number(first)
    const bytes = Math.max(0, Math.min(Number(last) + 1, size) - start)
    // It reads ahead, so one request behind the end is no sign of damage; the second is.
    if (bytes === 0 && ++beyond > 1) throw new CheckpointError(path, 'ends inside its header')
    return new Response(await readExactly(handle, path, start, bytes), {
      headers: { 'content-range': `bytes ${first}-${last}/${size}` }
    })
  }
}

function readTensors(path: string, header: GGUFParseOutput, size: number): Map<string, GgufTensor> {
  const dataStart = Number(header.tensorDataOffset)
  const alignment = Number((header.metadata as Record<string, unknown>)['general.alignment'] ?? 32)
  if ((alignment & (alignment - 1)) !== 0 || alignment < 8 || alignment > 65_536) {
    throw new CheckpointError(path, `general.alignment is ${alignment}, not a power of two from 8 to 65536`)
  }
  if (header.tensorInfoByteRange[1] > size) throw new CheckpointError(path, 'ends inside its header')
  const tensors = new Map<string, GgufTensor>()
  for (const { name, shape, dtype, offset } of header.tensorInfos) {
    const refuse = (what: string) =>
      new CheckpointError(path, `tensor ${JSON.stringify(name.slice(0, 80))} ${what}`)
    if (tensors.has(name)) throw refuse('is there twice')
    const type = GGUF_TYPES[dtype]
    if (type === undefined) throw refuse(`is of type ${ggufTypeName(dtype)}, which is not read`)
    const dims = shape.map(Number).reverse()
    if (dims.length < 1 || dims.length > 4 || dims.some(n => n < 1))
      throw refuse(`has shape (${dims.join(', ')})`)
    if (dims.at(-1)! % type.blockElements !== 0) {
      throw refuse(`has rows of ${dims.at(-1)} values, not whole blocks of ${type.blockElements}`)
    }
    const elements = dims.reduce((product, n) => product * n, 1)
    const bytes = (elements / type.blockElements) * type.blockBytes
    const start = dataStart + Number(offset)
    if (Number(offset) % alignment !== 0) throw refuse(`starts at ${offset}, not a multiple of ${alignment}`)
    if (!(start + bytes <= size))
      throw refuse(`lies at [${start}, ${start + bytes}), outside the file of ${size} bytes`)
    tensors.set(name, { type, dims, offset: start, bytes })
  }
  checkDisjoint(path, tensors)
  return tensors
}

function checkDisjoint(path: string, tensors: Map<string, GgufTensor>): void {
  const sorted = [...tensors].sort(([, a], [, b]) => a.offset - b.offset)
  for (const [i, [name, { offset, bytes }]] of sorted.entries()) {
    const next = sorted[i + 1]
    if (next !== undefined && offset + bytes > next[1].offset) {
      throw new CheckpointError(path, `tensors ${name} and ${next[0]} overlap`)
    }
  }
}

import type { FileHandle } from 'node:fs/promises'
import { type GGUFParseOutput, gguf } from '@huggingface/gguf'
import { CheckpointError } from '../errors.ts'
import { identityOf, openFile, readExactly, readInto, standIn, TELLTALE_BYTES } from './files.ts'
import { GGUF_TYPES, type GgufType, ggufTypeName } from './gguf-types.ts'

/** Far above any real file (61 layers with 256 fused experts have some 1,100). */
const MAX_TENSORS = 65_536
/** Files of one model; the largest known has 50. */
const MAX_PARTS = 1024
/** Name length, dimension count, one dimension, type and offset; the least that one tensor's entry takes. */
const MIN_TENSOR_ENTRY_BYTES = 33
/** Key length, type and a value of one byte. */
const MIN_METADATA_ENTRY_BYTES = 13

export interface GgufTensor {
  type: GgufType
  /** Rows before columns, as everywhere else; GGUF has them the other way round. */
  dims: number[]
  /** Which of the model's files has it, from 0. */
  part: number
  /** From the start of that file. */
  offset: number
  bytes: number
}

/** A file's checked tensors in a form that another thread can be handed. */
export interface GgufTable {
  paths: string[]
  tensors: [name: string, tensor: Omit<GgufTensor, 'type'> & { type: string }][]
}

/** One of the files of a model. */
interface Part {
  path: string
  identity: string | undefined
  handle: FileHandle
}

/**
 * A GGUF model: one file, or the parts that llama-gguf-split made of it. The library reads the headers; here everything
 * in them is compared with the files' real size: every tensor is inside its file, of a type that is known, has the bytes
 * that its shape takes, and shares none with another.
 */
export class GgufFile {
  readonly metadata: ReadonlyMap<string, unknown>
  readonly tensors: ReadonlyMap<string, GgufTensor>
  readonly files: readonly Part[]

  private constructor(files: Part[], metadata: Map<string, unknown>, tensors: Map<string, GgufTensor>) {
    this.files = files
    this.metadata = metadata
    this.tensors = tensors
  }

  /** The first of its files, which has the metadata. */
  get path(): string {
    return this.files[0]!.path
  }

  /**
   * @param path the file, or any part of a model that is split
   * @throws {CheckpointError} when a file is missing, or not what it should be.
   */
  static async open(path: string): Promise<GgufFile> {
    const parts: Part[] = []
    try {
      const named = partNames(path)
      const first = await openPart(named?.[0] ?? path, parts)
      const count = splitCount(first)
      if (count === 1 && parts[0]!.path !== path) {
        throw new CheckpointError(path, `is named as a part of ${parts[0]!.path}, which is a whole model`)
      }
      if (count === 1) return new GgufFile(parts, first.metadata, first.tensors)
      if (named?.length !== count) {
        throw new CheckpointError(
          path,
          `is part of a model of ${count} files, but is not called NAME-00001-of-${String(count).padStart(5, '0')}.gguf ` +
            'as its parts are: give them their names back'
        )
      }
      for (const [index, name] of named.entries()) {
        if (index > 0) addPart(first, await openPart(name, parts), name, index, count)
      }
      const total = first.metadata.get('split.tensors.count')
      if (total !== undefined && Number(total) !== first.tensors.size) {
        throw new CheckpointError(path, `its parts have ${first.tensors.size} tensors together, not ${total}`)
      }
      return new GgufFile(parts, first.metadata, first.tensors)
    } catch (error) {
      await closeAll(parts)
      throw error
    }
  }

  /** Opens files again whose headers another thread has read and checked. */
  static async reopen({ paths, tensors }: GgufTable): Promise<GgufFile> {
    const types = new Map(Object.values(GGUF_TYPES).map(type => [type.name, type]))
    const known = tensors.map(
      ([name, tensor]) => [name, { ...tensor, type: types.get(tensor.type)! }] as const
    )
    const parts: Part[] = []
    try {
      for (const path of paths) {
        parts.push({ path, identity: await identityOf(path), handle: await openFile(path) })
      }
      return new GgufFile(parts, new Map(), new Map(known))
    } catch (error) {
      await closeAll(parts)
      throw error
    }
  }

  table(): GgufTable {
    const tensors = [...this.tensors].map(
      ([name, tensor]) => [name, { ...tensor, type: tensor.type.name }] as const
    )
    return {
      paths: this.files.map(file => file.path),
      tensors: tensors.map(([name, tensor]) => [name, tensor])
    }
  }

  /** Fills `into` with a tensor's bytes from `start` on. */
  async read(
    { part, offset }: Pick<GgufTensor, 'part' | 'offset'>,
    start: number,
    into: Uint8Array
  ): Promise<void> {
    const { path, handle } = this.files[part]!
    await readInto(handle, path, offset + start, into)
  }

  async close(): Promise<void> {
    await closeAll(this.files)
  }
}

/** What one file's header says. */
interface PartHeader {
  metadata: Map<string, unknown>
  tensors: Map<string, GgufTensor>
}

const PART_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** The names of all parts of the model that `path` is a part of; undefined where it is not named like one. */
export function partNames(path: string): string[] | undefined {
  const [, base, , of] = PART_NAME.exec(path) ?? []
  const count = Number(of)
  if (base === undefined || count < 1 || count > MAX_PARTS) return undefined
  return Array.from({ length: count }, (_, i) => `${base}-${String(i + 1).padStart(5, '0')}-of-${of}.gguf`)
}

async function openPart(path: string, parts: Part[]): Promise<PartHeader> {
  const part = { path, identity: await identityOf(path), handle: await openFile(path) }
  parts.push(part)
  const { size } = await part.handle.stat()
  const source = { path, size, read: fileReader(part.handle, path) }
  return await readGgufHeader(source, parts.length - 1)
}

/** How many files a model consists of. */
function splitCount({ metadata }: PartHeader): number {
  return Number(metadata.get('split.count') ?? 1) || 1
}

function addPart(first: PartHeader, part: PartHeader, path: string, index: number, count: number): void {
  const number = part.metadata.get('split.no')
  if (splitCount(part) !== count || Number(number) !== index) {
    throw new CheckpointError(
      path,
      `says that it is part ${number} of ${splitCount(part)}, counted from 0: another model's`
    )
  }
  for (const [name, tensor] of part.tensors) {
    if (first.tensors.has(name))
      throw new CheckpointError(path, `tensor ${JSON.stringify(name)} is in two parts`)
    first.tensors.set(name, tensor)
  }
}

async function closeAll(parts: readonly Part[]): Promise<void> {
  for (const { handle } of parts) await handle.close()
}

/** Whether a file that begins with `bytes` is GGUF. */
export function isGguf(bytes: Uint8Array): boolean {
  return new TextDecoder('latin1').decode(bytes.subarray(0, 4)) === 'GGUF'
}

/** Where a header is read from: a file, or the beginning of one that is still elsewhere. */
export interface GgufSource {
  /** What errors call it. */
  path: string
  /** Of the whole file. */
  size: number
  /** Exactly so many bytes from `offset` on; it is never asked for what lies behind `size`. */
  read(offset: number, bytes: number): Promise<Uint8Array<ArrayBuffer>>
}

function fileReader(handle: FileHandle, path: string): GgufSource['read'] {
  return async (offset, bytes) => await readExactly(handle, path, offset, bytes)
}

/**
 * Reads and checks one file's header.
 *
 * @param part which of the model's files it is
 * @throws {CheckpointError} when it is not what it should be.
 */
export async function readGgufHeader(source: GgufSource, part = 0): Promise<PartHeader> {
  const { path, size } = source
  await checkCounts(source)
  let header: GGUFParseOutput
  try {
    header = await gguf('https://localhost/', { fetch: asFetch(source) })
  } catch (error) {
    if (error instanceof CheckpointError) throw error
    throw new CheckpointError(path, `its GGUF header is damaged: ${(error as Error).message.slice(0, 200)}`, {
      cause: error
    })
  }
  return {
    metadata: new Map<string, unknown>(Object.entries(header.metadata)),
    tensors: readTensors(path, header, size, part)
  }
}

/** The library takes counts at their word and reads zeros behind the end of a file, so they are checked before. */
async function checkCounts({ path, size, read }: GgufSource): Promise<void> {
  const start = await read(0, Math.min(size, TELLTALE_BYTES))
  const other = standIn(start)
  if (other !== undefined) throw new CheckpointError(path, other)
  if (size < 24) throw new CheckpointError(path, `${size} bytes are too few for a GGUF file`)
  const view = new DataView(start.buffer)
  if (view.getUint32(0, true) !== 0x46554747) throw new CheckpointError(path, 'is not a GGUF file')
  const version = view.getUint32(4, true)
  if ((version & 0xffff) === 0) {
    throw new CheckpointError(path, 'is a big-endian GGUF file; only little-endian ones are read')
  }
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

/** Serves the library's range requests from the source: no path or address of its choosing is ever opened. */
function asFetch({ path, size, read }: GgufSource): typeof fetch {
  let beyond = 0
  return async (_, init) => {
    const range = new Headers(init?.headers).get('range')
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')!
    const start = Number(first)
    const bytes = Math.max(0, Math.min(Number(last) + 1, size) - start)
    // It reads ahead, so one request behind the end is no sign of damage; the second is.
    if (bytes === 0 && ++beyond > 1) throw new CheckpointError(path, 'ends inside its header')
    return new Response(bytes === 0 ? new Uint8Array(0) : await read(start, bytes), {
      headers: { 'content-range': `bytes ${first}-${last}/${size}` }
    })
  }
}

function readTensors(
  path: string,
  header: GGUFParseOutput,
  size: number,
  part: number
): Map<string, GgufTensor> {
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
    tensors.set(name, { type, dims, part, offset: start, bytes })
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

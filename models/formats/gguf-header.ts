import { type GGUFParseOutput, gguf } from '@huggingface/gguf'
import { CheckpointError } from '../errors.ts'
import { standIn, TELLTALE_BYTES } from './files.ts'
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
  /** Which of the model's files has it, from 0. */
  part: number
  /** From the start of that file. */
  offset: number
  bytes: number
}

/** Where a file is read from: the disk, or the hub that has it. */
export interface GgufSource {
  /** What errors call it. */
  path: string
  /** Bytes of the whole file. */
  size: number
  /** Fills `into` with the bytes from `offset` on; it is never asked for what lies behind `size`. */
  read(offset: number, into: Uint8Array): Promise<void>
}

/** What one file's header says. */
export interface GgufHeader {
  metadata: Map<string, unknown>
  tensors: Map<string, GgufTensor>
}

/**
 * Reads and checks one file's header.
 *
 * @param part which of the model's files it is
 * @throws {CheckpointError} when it is not what it should be.
 */
export async function readGgufHeader(source: GgufSource, part = 0): Promise<GgufHeader> {
  const { path, size } = source
  await checkCounts(source)
  let header: GGUFParseOutput
  // What the source says, of a hub that is gone, is no damage of the file.
  let unread: { error: unknown } | undefined
  const read: GgufSource['read'] = (offset, into) =>
    source.read(offset, into).catch(error => {
      unread = { error }
      throw error
    })
  try {
    header = await gguf('https://localhost/', { fetch: asFetch({ ...source, read }) })
  } catch (error) {
    if (unread !== undefined) throw unread.error
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

async function bytesAt(source: GgufSource, offset: number, bytes: number): Promise<Uint8Array<ArrayBuffer>> {
  const into = new Uint8Array(bytes)
  if (bytes > 0) await source.read(offset, into)
  return into
}

/** The library takes counts at their word and reads zeros behind the end of a file, so they are checked before. */
async function checkCounts(source: GgufSource): Promise<void> {
  const { path, size } = source
  const start = await bytesAt(source, 0, Math.min(size, TELLTALE_BYTES))
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
function asFetch(source: GgufSource): typeof fetch {
  const { path, size } = source
  let beyond = 0
  return async (_, init) => {
    const range = new Headers(init?.headers).get('range')
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')!
    const start = Number(first)
    const bytes = Math.max(0, Math.min(Number(last) + 1, size) - start)
    // It reads ahead, so one request behind the end is no sign of damage; the second is.
    if (bytes === 0 && ++beyond > 1) throw new CheckpointError(path, 'ends inside its header')
    return new Response(await bytesAt(source, start, bytes), {
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

import { CheckpointError } from '../errors.ts'
import { identityOf, openFile, readInto } from './files.ts'
import { type GgufHeader, type GgufSource, type GgufTensor, readGgufHeader } from './gguf-header.ts'
import { GGUF_TYPES } from './gguf-types.ts'

/** Files of one model; the largest known has 50. */
const MAX_PARTS = 1024

/** A file's checked tensors in a form that another thread can be handed. */
export interface GgufTable {
  paths: string[]
  tensors: [name: string, tensor: Omit<GgufTensor, 'type'> & { type: string }][]
}

/** One of the files of a model, open. */
export interface GgufPart extends GgufSource {
  /** What the file was when it was opened. */
  identity: string | undefined
  close(): Promise<void>
}

/**
 * A GGUF model: one file, or the parts that llama-gguf-split made of it. The library reads the headers; here everything
 * in them is compared with the files' real size: every tensor is inside its file, of a type that is known, has the bytes
 * that its shape takes, and shares none with another.
 */
export class GgufFile {
  readonly metadata: ReadonlyMap<string, unknown>
  readonly tensors: ReadonlyMap<string, GgufTensor>
  readonly files: readonly GgufPart[]

  private constructor(files: GgufPart[], metadata: Map<string, unknown>, tensors: Map<string, GgufTensor>) {
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
   * @param openPart opens one file by its path; absent: on the disk
   * @throws {CheckpointError} when a file is missing, or not what it should be.
   */
  static async open(path: string, openPart = openOnDisk): Promise<GgufFile> {
    const parts: GgufPart[] = []
    try {
      const named = partNames(path)
      const header = async (name: string) => {
        const part = await openPart(name)
        parts.push(part)
        return await readGgufHeader(part, parts.length - 1)
      }
      const first = await header(named?.[0] ?? path)
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
        if (index > 0) addPart(first, await header(name), name, index, count)
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
    const parts: GgufPart[] = []
    try {
      for (const path of paths) parts.push(await openOnDisk(path))
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
    await this.files[part]!.read(offset + start, into)
  }

  async close(): Promise<void> {
    await closeAll(this.files)
  }
}

const PART_NAME = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/

/** The names of all parts of the model that `path` is a part of; undefined where it is not named like one. */
export function partNames(path: string): string[] | undefined {
  const [, base, , of] = PART_NAME.exec(path) ?? []
  const count = Number(of)
  if (base === undefined || count < 1 || count > MAX_PARTS) return undefined
  return Array.from({ length: count }, (_, i) => `${base}-${String(i + 1).padStart(5, '0')}-of-${of}.gguf`)
}

async function openOnDisk(path: string): Promise<GgufPart> {
  const identity = await identityOf(path)
  const handle = await openFile(path)
  const { size } = await handle.stat()
  return {
    path,
    identity,
    size,
    read: (offset, into) => readInto(handle, path, offset, into),
    close: () => handle.close()
  }
}

/** How many files a model consists of. */
function splitCount({ metadata }: GgufHeader): number {
  return Number(metadata.get('split.count') ?? 1) || 1
}

function addPart(first: GgufHeader, part: GgufHeader, path: string, index: number, count: number): void {
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

async function closeAll(parts: readonly GgufPart[]): Promise<void> {
  for (const part of parts) await part.close()
}

/** Whether a file that begins with `bytes` is GGUF. */
export function isGguf(bytes: Uint8Array): boolean {
  return new TextDecoder('latin1').decode(bytes.subarray(0, 4)) === 'GGUF'
}

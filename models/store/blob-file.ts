import { createHash } from 'node:crypto'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { BlobError, type BlobProblem, StoreError } from '../errors.ts'
import { logger } from '../log.ts'
import type { BlobRef } from '../manifest.ts'

const log = logger('edgeshard:store')

/** Hashed at once, which takes about a millisecond. */
const PIECE_BYTES = 1 << 20

/** Smaller chunks are gathered to so many before they are written: what comes over a link does in pieces of a few kilobytes. */
const GATHERED_BYTES = 256 * 1024

/** Writes one file and takes its SHA-256 on the way. */
export class BlobWriter {
  readonly path: string
  readonly #handle: FileHandle
  readonly #hash = createHash('sha256')
  #bytes = 0
  /** What small chunks are gathered in, and where the next ones are while that is written. */
  #gathered: Buffer | undefined
  #other: Buffer | undefined
  #gatheredBytes = 0
  #written: Promise<void> = Promise.resolve()

  private constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  static async create(path: string): Promise<BlobWriter> {
    return new BlobWriter(path, await writing(path, () => open(path, 'wx')))
  }

  get bytes(): number {
    return this.#bytes
  }

  /**
   * Takes a chunk, which must not change until the promise resolves. A small one waits for no disk, unless that is slower
   * than chunks come: whoever sends them is let go on at once.
   *
   * @throws {StoreError} where this chunk, or one before it, cannot be written
   */
  async write(chunk: Uint8Array): Promise<void> {
    this.#bytes += chunk.byteLength
    if (chunk.byteLength >= GATHERED_BYTES) {
      await this.#writeGathered()
      await this.#written
      this.#begin(chunk)
      // A thread of the pool writes while this one hashes.
      this.#hash.update(chunk)
      return await this.#written
    }
    this.#hash.update(chunk)
    for (let taken = 0; taken < chunk.byteLength; ) {
      this.#gathered ??= Buffer.allocUnsafe(GATHERED_BYTES)
      const part = chunk.subarray(taken, taken + GATHERED_BYTES - this.#gatheredBytes)
      this.#gathered.set(part, this.#gatheredBytes)
      this.#gatheredBytes += part.byteLength
      taken += part.byteLength
      if (this.#gatheredBytes === GATHERED_BYTES) await this.#writeGathered()
    }
  }

  /** What was written. Nothing may be written after it. */
  ref(): BlobRef {
    return { sha256: this.#hash.digest('hex'), bytes: this.#bytes }
  }

  /** Waits until the file is on the disk, then closes it. */
  async finish(): Promise<void> {
    await this.#writeGathered()
    await this.#written
    await writing(this.path, () => this.#handle.sync())
    await this.#handle.close()
  }

  async abort(): Promise<void> {
    await this.#written.catch(log.passOver('a file cannot be written; it is not kept'))
    await this.#handle.close().catch(log.passOver('closing a file failed; it is not kept'))
  }

  /** Begins to write what was gathered, once all before it is written: two writes at once would have no order. */
  async #writeGathered(): Promise<void> {
    await this.#written
    if (this.#gathered === undefined || this.#gatheredBytes === 0) return
    this.#begin(this.#gathered.subarray(0, this.#gatheredBytes))
    this.#gatheredBytes = 0
    const next = this.#other
    this.#other = this.#gathered
    this.#gathered = next
  }

  #begin(bytes: Uint8Array): void {
    this.#written = writing(this.path, () => writeAll(this.#handle, bytes))
    // The failure is thrown by the next write, or at the end, which await it; until then nobody has to be told.
    this.#written.catch(() => {})
  }
}

/** Runs a write to the store; what the file system refuses becomes one clear error. */
export async function writing<T>(path: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const reason =
      code === 'ENOSPC' || code === 'EDQUOT'
        ? 'the disk is full; free some space and try again'
        : String(error)
    throw new StoreError(`cannot write ${path}: ${reason}`, { cause: error })
  }
}

/** What is wrong with the file at `path`, judged by its size alone. */
export async function sizeProblem(path: string, ref: BlobRef): Promise<BlobProblem | undefined> {
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (found === undefined) return 'missing'
  return found.isFile() && found.size === ref.bytes ? undefined : 'size'
}

/** What is wrong with the file at `path`, after reading all of it. */
export async function contentProblem(
  path: string,
  ref: BlobRef,
  { signal }: { signal?: AbortSignal } = {}
): Promise<BlobProblem | undefined> {
  const problem = await sizeProblem(path, ref)
  if (problem !== undefined) return problem
  const handle = await open(path, 'r')
  try {
    return (await sha256Of(handle, signal)) === ref.sha256 ? undefined : 'corrupt'
  } finally {
    await handle.close()
  }
}

/**
 * A thread of the pool reads a piece while this one hashes the piece before it. Two buffers do for all of the file: a
 * stream makes a new one for each piece, and collecting these took longer than the hash.
 */
async function sha256Of(handle: FileHandle, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash('sha256')
  const [one, other] = [Buffer.allocUnsafe(PIECE_BYTES), Buffer.allocUnsafe(PIECE_BYTES)]
  const read = async (into: Buffer) => into.subarray(0, (await handle.read(into, 0, PIECE_BYTES)).bytesRead)
  let piece = await read(one)
  for (let next = other; piece.byteLength > 0; next = next === one ? other : one) {
    signal?.throwIfAborted()
    const reading = read(next)
    hash.update(piece)
    piece = await reading
  }
  return hash.digest('hex')
}

/** An error about a file of the store that says which one, what is wrong and what helps. */
export function blobError(what: string, path: string, ref: BlobRef, problem: BlobProblem): BlobError {
  const said = {
    missing: 'is missing',
    size: `does not have its ${ref.bytes} bytes`,
    corrupt: 'does not hold the bytes that its SHA-256 names'
  }[problem]
  return new BlobError(
    ref.sha256,
    problem,
    `${what}: ${path} ${said}; import the model again (edgeshard import), or fetch it from a peer that holds it`
  )
}

async function writeAll(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  let done = 0
  while (done < chunk.byteLength) {
    const { bytesWritten } = await handle.write(chunk, done)
    done += bytesWritten
  }
}

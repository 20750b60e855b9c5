import { z } from 'zod'
import { readJsonObject } from '../../models/formats/files.ts'
import { logger } from '../../models/log.ts'
import { SHA256 } from '../../models/sha256.ts'
import { MAX_PREFETCHED_FILES } from '../constants.ts'
import { writePrivate } from '../mesh/files.ts'

const log = logger('edgeshard:weights')

const MAX_FILE_BYTES = 2 << 20

const Prefetched = z.object({
  sha256: z.string().regex(SHA256),
  bytes: z.number().min(0),
  modelId: z.string().regex(SHA256),
  source: z.string().max(128),
  atMs: z.number().min(0)
})
const File = z.object({ files: z.array(Prefetched).max(MAX_PREFETCHED_FILES) })

/** A weight file that is here because a source asked for it, and that no stage was loaded with yet. */
export interface PrefetchedFile {
  sha256: string
  bytes: number
  modelId: string
  /** Peer id of who asked for it. */
  source: string
  /** When that was, in ms since 1970. */
  atMs: number
}

/** The list of these, kept over restarts: or each start would begin to count anew, and the quota be none. */
export class PrefetchedFiles {
  readonly #path: string | undefined
  #files: readonly PrefetchedFile[] = []
  #writing: Promise<void> = Promise.resolve()

  /** @param path absent: it is not kept */
  constructor(path?: string) {
    this.#path = path
  }

  get all(): readonly PrefetchedFile[] {
    return this.#files
  }

  /** Reads what an earlier run has noted; a file that is damaged, too large or not of this kind counts as none. */
  async read(): Promise<void> {
    if (this.#path === undefined) return
    try {
      const json = await readJsonObject(this.#path, MAX_FILE_BYTES)
      this.#files = json === undefined ? [] : File.parse(json).files
    } catch (error) {
      log.passOver('the list of prefetched weights cannot be read; they count as used')(error)
    }
  }

  /** Files that are listed already stay whose they are. */
  async add(files: readonly PrefetchedFile[]): Promise<void> {
    const known = new Set(this.#files.map(({ sha256 }) => sha256))
    const more = files.filter(({ sha256 }) => !known.has(sha256))
    if (more.length > 0) await this.#put([...this.#files, ...more])
  }

  async remove(sha256s: readonly string[]): Promise<void> {
    const gone = new Set(sha256s)
    const left = this.#files.filter(({ sha256 }) => !gone.has(sha256))
    if (left.length < this.#files.length) await this.#put(left)
  }

  async #put(files: readonly PrefetchedFile[]): Promise<void> {
    this.#files = files
    const path = this.#path
    if (path === undefined) return
    // One at a time, or an older one might be the last.
    this.#writing = this.#writing.then(() =>
      writePrivate(path, Buffer.from(JSON.stringify({ files: this.#files }))).catch(
        log.passOver('the list of prefetched weights cannot be written; at the next start they count as used')
      )
    )
    await this.#writing
  }
}

import { readFile } from 'node:fs/promises'
import { z } from 'zod'
import { logger } from '../log.ts'
import { SHA256 } from '../sha256.ts'

const log = logger('edgeshard:store')

/** A disk may spoil a file without writing it: each is read again after so long. */
const GOOD_FOR_MS = 7 * 24 * 3600 * 1000
/** Far more files than the models of a large disk have; what was checked longest ago is forgotten first. */
const MAX_CHECKED = 8_192

const Checked = z.record(z.string().regex(SHA256), z.tuple([z.string().max(128), z.number()]))
type Known = Map<string, [identity: string, atMs: number]>

/**
 * The blobs whose bytes were compared with their names, and what each file was like then (`identityOf`). They are kept in
 * a file, because a start that reads all weights to check them takes seconds a gigabyte. What another process notes at the
 * same time may be lost: that file is read once more.
 */
export class CheckedFiles {
  readonly #path: string
  /** Replaces the file by one with this text; undefined: nothing is kept. */
  readonly #replace: ((text: string) => Promise<void>) | undefined
  readonly #nowMs: () => number
  #known: Promise<Known> | undefined
  #isChanged = false
  #writing: Promise<void> | undefined

  constructor(
    path: string,
    replace: ((text: string) => Promise<void>) | undefined,
    nowMs: () => number = Date.now
  ) {
    this.#path = path
    this.#replace = replace
    this.#nowMs = nowMs
  }

  /** Whether the file with this identity was found to hold what its name says, not too long ago. */
  async has(sha256: string, identity: string): Promise<boolean> {
    const found = (await this.#load()).get(sha256)
    if (found === undefined) return false
    const [then, atMs] = found
    const ageMs = this.#nowMs() - atMs
    // A clock that was ahead must not make it good for ever.
    return then === identity && ageMs >= 0 && ageMs < GOOD_FOR_MS
  }

  /** The file with this identity was found to hold what its name says. */
  async note(sha256: string, identity: string): Promise<void> {
    const known = await this.#load()
    known.delete(sha256)
    const [oldest] = known.keys()
    if (known.size === MAX_CHECKED && oldest !== undefined) known.delete(oldest)
    known.set(sha256, [identity, this.#nowMs()])
    this.#isChanged = true
    this.#writing ??= this.#write(known).finally(() => {
      this.#writing = undefined
    })
    await this.#writing
  }

  #load(): Promise<Known> {
    this.#known ??= this.#read()
    return this.#known
  }

  async #read(): Promise<Known> {
    try {
      return new Map(Object.entries(Checked.parse(JSON.parse(await readFile(this.#path, 'utf8')))))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        log.warn('which files were checked cannot be read; each is checked again', { error: String(error) })
      }
      return new Map()
    }
  }

  /** Writes until nothing was noted meanwhile. */
  async #write(known: Known): Promise<void> {
    if (this.#replace === undefined) return
    try {
      while (this.#isChanged) {
        this.#isChanged = false
        await this.#replace(`${JSON.stringify(Object.fromEntries(known))}\n`)
      }
    } catch (error) {
      log.warn('which files were checked cannot be kept; the next start checks them again', {
        error: String(error)
      })
    }
  }
}

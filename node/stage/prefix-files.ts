import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { mkdir, open, rm, statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { logger } from '../../models/log.ts'
import type { SavedTokens } from '../../models/runtime/saved-tokens.ts'
import { KEPT_FREE_BYTES } from '../constants.ts'

const log = logger('edgeshard:stage')

const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
/** Enciphered at once, on the thread that answers the network. */
const PIECE_BYTES = 256 * 1024

/** What is in a file, as only this process knows it. */
interface Kept {
  path: string
  bytes: number
  nonce: Buffer
  /** Undefined while it is written. */
  tag: Buffer | undefined
  tokens: number
  parts: { firsts: number[]; lengths: number[] }[]
}

/**
 * What has no room in memory any more, in files that only this process can read: each is enciphered by a key that is in memory
 * alone, and checked when it is read. What was used last stays, and the disk keeps what the device itself needs of it.
 */
export class PrefixFiles {
  readonly #dir: string
  readonly #bytes: number
  readonly #freeBytes: () => Promise<number>
  readonly #key = randomBytes(32)
  /** By name, the first one to be given up first. */
  readonly #kept = new Map<string, Kept>()
  #count = 0
  #writing: SavedTokens | undefined
  #written: Promise<void> = Promise.resolve()

  private constructor(dir: string, bytes: number, freeBytes: () => Promise<number>) {
    this.#dir = dir
    this.#bytes = bytes
    this.#freeBytes = freeBytes
  }

  /**
   * A folder of such files that is made anew: nobody can read those of an earlier process.
   *
   * @param freeBytes of the disk @default what it says
   */
  static async open(
    dir: string,
    bytes: number,
    freeBytes: () => Promise<number> = () => freeBytesAt(dir)
  ): Promise<PrefixFiles> {
    await rm(dir, { recursive: true, force: true })
    await mkdir(dir, { recursive: true, mode: 0o700 })
    return new PrefixFiles(dir, bytes, freeBytes)
  }

  get heldBytes(): number {
    return [...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  }

  /** What a file takes in memory once it is read; undefined where there is none, or it is being written. */
  bytesOf(name: string): number | undefined {
    const kept = this.#kept.get(name)
    return kept?.tag === undefined ? undefined : kept.bytes
  }

  /** Resolves when nothing is written any more. */
  get written(): Promise<void> {
    return this.#written
  }

  /** Begins to write; not where something else is being written, which would pile up in memory, or where it is too large. */
  put(name: string, saved: SavedTokens): void {
    this.forget(name)
    const { tokens } = saved
    const parts = saved.parts.map(({ firsts, memories }) => ({
      firsts,
      lengths: memories.map(({ length }) => length)
    }))
    const floats = parts.flatMap(({ lengths }) => lengths).reduce((sum, length) => sum + length, 0)
    const bytes = floats * Float32Array.BYTES_PER_ELEMENT
    if (this.#writing !== undefined || bytes > this.#bytes) return
    for (const oldest of [...this.#kept.keys()]) {
      if (this.heldBytes + bytes > this.#bytes) this.forget(oldest)
    }
    const path = join(this.#dir, `${this.#count++}`)
    const kept: Kept = { path, bytes, nonce: randomBytes(NONCE_BYTES), tag: undefined, tokens, parts }
    this.#kept.set(name, kept)
    this.#writing = saved
    this.#written = this.#write(kept, saved)
      .catch(error => {
        log.passOver('what made room in memory was not written to disk; it is computed anew', { path })(error)
        if (this.#kept.get(name) === kept) this.forget(name)
      })
      .finally(() => {
        this.#writing = undefined
        // Given up meanwhile.
        if (this.#kept.get(name) !== kept) this.#remove(path)
      })
  }

  /** Takes it out of its file, which is gone then; undefined where it is not there, or is not what was written. */
  async take(name: string): Promise<SavedTokens | undefined> {
    const kept = this.#kept.get(name)
    if (kept?.tag === undefined) return undefined
    this.#kept.delete(name)
    try {
      return await this.#read(kept, kept.tag)
    } catch (error) {
      log.passOver('what was kept on disk cannot be read; it is computed anew', { path: kept.path })(error)
      return undefined
    } finally {
      this.#remove(kept.path)
    }
  }

  forget(name: string): void {
    const kept = this.#kept.get(name)
    this.#kept.delete(name)
    if (kept?.tag !== undefined) this.#remove(kept.path)
  }

  /** Forgets what has a name that begins so. */
  forgetAll(beginning: string): void {
    for (const name of [...this.#kept.keys()]) if (name.startsWith(beginning)) this.forget(name)
  }

  /** Removes all files. */
  async close(): Promise<void> {
    this.#kept.clear()
    await this.#written
    await rm(this.#dir, { recursive: true, force: true })
  }

  async #write(kept: Kept, { parts }: SavedTokens): Promise<void> {
    if ((await this.#freeBytes()) < KEPT_FREE_BYTES + kept.bytes)
      throw new Error('the disk has no room for it')
    const cipher = createCipheriv(CIPHER, this.#key, kept.nonce)
    const file = await open(kept.path, 'wx', 0o600)
    try {
      for (const { memories } of parts) {
        for (const memory of memories) {
          const all = Buffer.from(memory.buffer, memory.byteOffset, memory.byteLength)
          for (let at = 0; at < all.length; at += PIECE_BYTES) {
            await file.writeFile(cipher.update(all.subarray(at, at + PIECE_BYTES)))
          }
        }
      }
      cipher.final()
      kept.tag = cipher.getAuthTag()
    } finally {
      await file.close()
    }
  }

  async #read({ path, nonce, tokens, parts }: Kept, tag: Buffer): Promise<SavedTokens> {
    const decipher = createDecipheriv(CIPHER, this.#key, nonce).setAuthTag(tag)
    const file = await open(path, 'r')
    try {
      const read: SavedTokens['parts'] = []
      for (const { firsts, lengths } of parts) {
        const memories: SavedTokens['parts'][number]['memories'] = []
        for (const length of lengths) {
          const memory = new Float32Array(new SharedArrayBuffer(length * Float32Array.BYTES_PER_ELEMENT))
          const all = Buffer.from(memory.buffer)
          for (let at = 0; at < all.length; ) {
            const piece = Buffer.alloc(Math.min(PIECE_BYTES, all.length - at))
            const { bytesRead } = await file.read(piece, 0, piece.length)
            if (bytesRead === 0) throw new Error('the file is too short')
            decipher.update(piece.subarray(0, bytesRead)).copy(all, at)
            at += bytesRead
          }
          memories.push(memory)
        }
        read.push({ firsts, memories })
      }
      decipher.final()
      return { tokens, parts: read }
    } finally {
      await file.close()
    }
  }

  #remove(path: string): void {
    void rm(path, { force: true }).catch(
      log.passOver('a file was not removed; the next start does it', { path })
    )
  }
}

async function freeBytesAt(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir)
  return bavail * bsize
}

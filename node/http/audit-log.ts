import { closeSync, fchmodSync, fstatSync, openSync, renameSync, rmSync, writeSync } from 'node:fs'
import { logger } from '../../models/log.ts'
import { messageOf } from '../../protocols/text.ts'
import type { AuditEntry } from './audit.ts'

const log = logger('edgeshard:http')

/** Only its user may read who asked when. */
const MODE = 0o600
/** Files that were put aside and are kept, `FILE.1` the newest. */
const ASIDE = 9

/**
 * A file with one line of JSON an answer, for whoever has to account for what was asked. A file that has grown to a tenth of
 * what all may take is put aside, and the oldest one goes. Lines are written as answers end, by this process alone.
 */
export class AuditLog {
  readonly #path: string
  readonly #maxBytes: number
  /** Undefined where it could not be opened again: it is tried at the next line. */
  #file: number | undefined
  #bytes = 0

  /**
   * @param totalBytes what all files together may take
   * @throws where the file cannot be written: a node that has to keep such a log does not start without it
   */
  constructor(path: string, { totalBytes }: { totalBytes: number }) {
    this.#path = path
    this.#maxBytes = Math.floor(totalBytes / (ASIDE + 1))
    this.#open()
  }

  /** Appends a line. What cannot be written is said in the node's log, and ends no answer. */
  write(entry: AuditEntry): void {
    const line = Buffer.from(`${JSON.stringify(entry)}\n`)
    try {
      if (this.#bytes > 0 && this.#bytes + line.length > this.#maxBytes) this.#putAside()
      writeSync(this.#file ?? this.#open(), line)
      this.#bytes += line.length
    } catch (error) {
      log.error('the audit log cannot be written', { path: this.#path, error: messageOf(error) })
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file)
    this.#file = undefined
  }

  #open(): number {
    const file = openSync(this.#path, 'a', MODE)
    this.#file = file
    const state = fstatSync(file)
    this.#bytes = state.size
    // One that was there may be open to others; a device or a pipe is not the node's to close.
    if (state.isFile() && (state.mode & 0o777) !== MODE) fchmodSync(file, MODE)
    return file
  }

  #putAside(): void {
    this.close()
    rmSync(`${this.#path}.${ASIDE}`, { force: true })
    for (let at = ASIDE - 1; at > 0; at--) renameIfThere(`${this.#path}.${at}`, `${this.#path}.${at + 1}`)
    renameIfThere(this.#path, `${this.#path}.1`)
    this.#open()
  }
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
  }
}

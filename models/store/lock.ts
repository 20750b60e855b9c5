import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { StoreError } from '../errors.ts'

const SQLITE_BUSY = 5
const RETRY_MS = 50

/**
 * A lock between processes that the system releases when its holder dies, however that happens. Node has no flock;
 * SQLite's own locking on an empty database is the same on every platform. It lasts as long as the object: one that nobody
 * holds any more is collected, and its lock ends.
 */
export class FileLock {
  readonly #database: DatabaseSync

  private constructor(database: DatabaseSync) {
    this.#database = database
  }

  /**
   * Takes the lock of the file at `path`, or returns undefined when it is taken, here or in another process. Of two that
   * try at the same moment both may fail, unless one has the patience to see the other give up: `patienceMs`, during which
   * the calling thread stands still.
   */
  static tryAcquire(path: string, patienceMs = 0): FileLock | undefined {
    let database: DatabaseSync | undefined
    try {
      database = new DatabaseSync(path)
      database.exec(`PRAGMA busy_timeout = ${patienceMs}; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE`)
      return new FileLock(database)
    } catch (error) {
      database?.close()
      if ((error as { errcode?: number }).errcode === SQLITE_BUSY) return undefined
      throw new StoreError(`cannot lock ${path}: ${(error as Error).message}`, { cause: error })
    }
  }

  /**
   * Waits for the lock.
   *
   * @throws {StoreError} when it is still taken after `waitMs`.
   */
  static async acquire(path: string, waitMs: number): Promise<FileLock> {
    // The time of day may be set meanwhile.
    const deadlineMs = performance.now() + waitMs
    for (;;) {
      const lock = FileLock.tryAcquire(path)
      if (lock !== undefined) return lock
      if (performance.now() > deadlineMs) {
        throw new StoreError(
          `another process has kept ${path} locked for ${waitMs / 1000} s; try again when it is done`
        )
      }
      await sleep(RETRY_MS)
    }
  }

  release(): void {
    this.#database.close()
  }
}

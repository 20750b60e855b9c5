import { randomUUID } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { StoreError } from '../errors.ts'
import { FileLock } from './lock.ts'

/**
 * A folder for files that are not yet part of the store. It is locked as long as its owner lives, so that a process that
 * opens the store later can tell what a crashed import left behind.
 */
export class Staging {
  readonly dir: string
  readonly #lock: FileLock
  #files = 0

  private constructor(dir: string, lock: FileLock) {
    this.dir = dir
    this.#lock = lock
  }

  static async create(tmpDir: string): Promise<Staging> {
    const dir = join(tmpDir, randomUUID())
    // Locked before it exists: at no moment does it look abandoned.
    const lock = FileLock.tryAcquire(lockPath(dir))
    // Another process may have cleaned the lock file away just before it was locked.
    if (lock === undefined || !existsSync(lockPath(dir))) {
      lock?.release()
      throw new StoreError(`${tmpDir} is being cleaned by another process; try again`)
    }
    await mkdir(dir)
    return new Staging(dir, lock)
  }

  /** A path in the folder that was not used before. */
  path(): string {
    return join(this.dir, String(this.#files++))
  }

  /** Removes the folder with everything that is still in it. */
  async close(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true })
    this.#lock.release()
    await rm(lockPath(this.dir), { force: true })
  }
}

/** Removes the folders whose owners are dead. */
export async function removeAbandoned(tmpDir: string): Promise<void> {
  const entries = await readdir(tmpDir)
  const folders = new Set(entries.map(entry => join(tmpDir, entry.replace(/\.lock$/, ''))))
  for (const dir of folders) {
    const lock = FileLock.tryAcquire(lockPath(dir))
    if (lock === undefined) continue
    await rm(dir, { recursive: true, force: true })
    lock.release()
    await rm(lockPath(dir), { force: true })
  }
}

/** Makes a new name in a folder survive a power cut, where the system can (Windows cannot open folders). */
export async function syncFolder(dir: string): Promise<void> {
  if (process.platform === 'win32') return
  const handle = await open(dir, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function lockPath(dir: string): string {
  return `${dir}.lock`
}

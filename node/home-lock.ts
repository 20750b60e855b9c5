import { existsSync } from 'node:fs'
import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { logger } from '../models/log.ts'
import { FileLock } from '../models/store/lock.ts'
import { HomeInUseError, HomeUnwritableError } from './home-errors.ts'
import { makeHome, unwritable } from './home-folder.ts'

const log = logger('edgeshard:node')

/** A command that asks whether the home is in use has it for less than a millisecond; two that start meet so shortly. */
const START_PATIENCE_MS = 100
const LOOK_PATIENCE_MS = 20

const lockPath = (home: string) => join(home, 'node.lock')
const pidPath = (home: string) => join(home, 'node.pid')

/**
 * Makes the home directory and takes it for this process: two nodes with one identity would confuse every peer. The
 * lock is the operating system's, on an open file, so it ends with its holder however that ends, and no process id that
 * is given out again, in a container or after a reboot, can stand in the way. `node.pid` only says for people who has it.
 *
 * Nothing else in this process may open and close `node.lock`: POSIX drops a process's locks on a file with the first
 * descriptor of it that is closed.
 *
 * @returns the function that gives the home back
 * @throws {HomeInUseError} naming the process that has it, {HomeUnwritableError} when the disk is full or read-only
 */
export async function lockHome(home: string): Promise<() => Promise<void>> {
  await makeHome(home)
  // SQLite would let others read it. Where it is there already it is not opened: see above.
  await writeFile(lockPath(home), '', { mode: 0o600, flag: 'wx' }).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') throw unwritable(lockPath(home), error)
  })
  const lock = FileLock.tryAcquire(lockPath(home), START_PATIENCE_MS)
  if (lock === undefined) {
    await checkLocks(home)
    const holder = Number(await readFile(pidPath(home), 'utf8').catch(() => ''))
    const who = holder > 0 ? ` (process ${holder})` : ''
    throw new HomeInUseError(
      `${home} is in use by a node that runs here already${who}; stop it, or give another --home`
    )
  }
  const unlock = async () => {
    // Before the lock ends: afterwards it may be another one's.
    await rm(pidPath(home), { force: true }).catch(
      log.passOver('the file that names this process stays; the next start writes it anew')
    )
    lock.release()
  }
  try {
    await writeFile(pidPath(home), String(process.pid), { mode: 0o600 })
    return unlock
  } catch (error) {
    await unlock()
    throw unwritable(pidPath(home), error)
  }
}

/** Whether a process has the home at this moment; nothing is made there. */
export function isHomeInUse(home: string): boolean {
  if (!existsSync(lockPath(home))) return false
  const lock = FileLock.tryAcquire(lockPath(home), LOOK_PATIENCE_MS)
  lock?.release()
  return lock === undefined
}

/** A file system without locks, such as some network shares, answers every request for one as if somebody had it. */
async function checkLocks(home: string): Promise<void> {
  const path = `${lockPath(home)}.${crypto.randomUUID()}`
  const lock = FileLock.tryAcquire(path)
  lock?.release()
  await rm(path, { force: true })
  if (lock === undefined) {
    throw new HomeUnwritableError(
      `the file system of ${home} has no file locks, so nothing keeps two nodes apart there; give a --home on another disk`
    )
  }
}

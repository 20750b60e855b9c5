import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { logger } from '../models/log.ts'
import { isAlive } from './alive.ts'

const log = logger('edgeshard:node')

/** Another process already runs a node on this home directory. */
export class HomeInUseError extends Error {
  override readonly name = 'HomeInUseError'
  readonly code = 'home_in_use'
}

/**
 * Makes the home directory (mode 0700) and marks it as this process's: two nodes with one identity would confuse
 * every peer. What a killed process left behind is taken over at once.
 *
 * @returns the function that gives the home back
 * @throws {HomeInUseError} naming the process that has it
 */
export async function lockHome(home: string): Promise<() => Promise<void>> {
  await mkdir(home, { recursive: true, mode: 0o700 })
  const path = join(home, 'node.pid')
  // Written beside and linked into place, so that no process ever reads a half-written lock.
  const own = join(home, `node.pid.${process.pid}`)
  await writeFile(own, String(process.pid), { mode: 0o600 })
  try {
    for (;;) {
      try {
        await link(own, path)
        return () => rm(path, { force: true })
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
      const held = await readFile(path, 'utf8').catch(() => '')
      const holder = Number(held)
      if (holder > 0 && isAlive(holder)) {
        throw new HomeInUseError(
          `${home} is in use by a node that runs here already (process ${holder}); stop it, or give another --home`
        )
      }
      await takeAway(path, held)
    }
  } finally {
    await rm(own, { force: true })
  }
}

/**
 * Removes the lock of a process that is gone. Another process may do the same at this moment and already have made its
 * own: only what was moved aside is surely what was read, and anything else goes back.
 */
async function takeAway(path: string, held: string): Promise<void> {
  const aside = `${path}.${process.pid}.stale`
  try {
    await rename(path, aside)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return
    throw error
  }
  if ((await readFile(aside, 'utf8')) !== held) {
    await link(aside, path).catch(
      log.passOver('another process has made its lock meanwhile; that one counts')
    )
  }
  await rm(aside, { force: true })
}

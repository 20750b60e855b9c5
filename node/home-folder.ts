import { access, chmod, constants, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { HomeUnwritableError } from './home-errors.ts'

/** What we keep in a home, and what is written beside such a file on the way. */
const OURS =
  /^(identity\.key|[a-z]+\.json|api-token|api\.sock|node\.(pid|lock)|store|downloads|profiles)(\.[\w.-]+)?$/
const OTHERS_MAY = 0o077
const OWNER_ONLY = 0o700

/**
 * Makes the home directory for its owner alone (mode 0700). One that others may look into is tightened where it holds
 * nothing but what we keep there; a folder that somebody uses for other things, too, stays as it is (`isOpenToOthers`).
 *
 * @throws {HomeUnwritableError} when nothing can be written there
 */
export async function makeHome(home: string): Promise<void> {
  try {
    await mkdir(home, { recursive: true, mode: OWNER_ONLY }).catch(whyNot(home))
    await access(home, constants.W_OK | constants.X_OK)
    if ((await isOpenToOthers(home)) && (await readdir(home)).every(name => OURS.test(name))) {
      await chmod(home, OWNER_ONLY)
    }
  } catch (error) {
    throw unwritable(home, error)
  }
}

/** Of a folder that cannot be made Node says that it is not there; the one above it says why. */
function whyNot(path: string): (error: NodeJS.ErrnoException) => Promise<never> {
  return async error => {
    if (error.code !== 'ENOENT') throw error
    for (let above = dirname(path); ; above = dirname(above)) {
      const missing = await access(above, constants.W_OK).catch((reason: NodeJS.ErrnoException) => reason)
      if (missing?.code !== 'ENOENT' || above === dirname(above)) throw missing ?? error
    }
  }
}

/** One error for whatever the file system refuses, with the path and what to do. */
export function unwritable(path: string, error: unknown): Error {
  const { code } = error as NodeJS.ErrnoException
  const reason = code === undefined ? undefined : REASONS[code]
  if (reason === undefined) return error as Error
  return new HomeUnwritableError(`cannot write ${path}: ${reason}`, { cause: error })
}

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full; free some space, or give another --home',
  EDQUOT: 'the quota of the disk is used up; free some space, or give another --home',
  EROFS: 'the file system is read-only; give another --home',
  EACCES: 'this user may not; give another --home, or change whose it is',
  EPERM: 'this user may not; give another --home, or change whose it is',
  ENOTDIR: 'a file is in the way; give another --home',
  EEXIST: 'a file is in the way; give another --home'
}

/**
 * Whether other users may look into a home of this user's; what another one has opened is not ours to close. No folder is
 * open, and none is where modes mean nothing (Windows).
 */
export async function isOpenToOthers(home: string): Promise<boolean> {
  if (process.platform === 'win32') return false
  const found = await stat(home).catch(() => null)
  return found !== null && found.uid === process.getuid?.() && (found.mode & OTHERS_MAY) !== 0
}

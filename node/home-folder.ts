import { access, chmod, constants, mkdir, readdir, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
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

/** What a node writes in its home from its start on, besides new files. */
const FILES = ['node.lock', 'node.pid']
const FOLDERS = ['store', 'store/blobs', 'store/models', 'store/tmp', 'profiles']

/**
 * What a node that starts on this home could not write, each with the path and what to do; nothing is made.
 *
 * @returns errors as `makeHome` throws them; of a home that cannot be written that one alone
 */
export async function unwritables(home: string): Promise<Error[]> {
  const folder = await refusal(home, { isFolder: true })
  const refused = folder?.code === 'ENOENT' ? await refusalAbove(home) : folder
  if (refused !== undefined) return [unwritable(home, refused)]
  const parts = [
    ...FILES.map(name => ({ name, isFolder: false })),
    ...FOLDERS.map(name => ({ name, isFolder: true }))
  ]
  const all = await Promise.all(
    parts.map(async ({ name, isFolder }) => {
      const path = join(home, name)
      const error = await refusal(path, { isFolder })
      return error === undefined || error.code === 'ENOENT' ? undefined : unwritable(path, error)
    })
  )
  return all.filter(error => error !== undefined)
}

/** Why a file, or into a folder, cannot be written; undefined where it can. */
async function refusal(
  path: string,
  { isFolder }: { isFolder: boolean }
): Promise<NodeJS.ErrnoException | undefined> {
  try {
    if ((await stat(path)).isDirectory() !== isFolder)
      return Object.assign(new Error(`${path} is in the way`), { code: isFolder ? 'ENOTDIR' : 'EISDIR' })
    await access(path, isFolder ? constants.W_OK | constants.X_OK : constants.W_OK)
    return undefined
  } catch (error) {
    return error as NodeJS.ErrnoException
  }
}

/** Why a folder cannot be made, by the nearest one above it that is there; undefined where it can. */
async function refusalAbove(path: string): Promise<NodeJS.ErrnoException | undefined> {
  for (let above = dirname(path); ; above = dirname(above)) {
    const error = await refusal(above, { isFolder: true })
    if (error?.code !== 'ENOENT' || above === dirname(above)) return error
  }
}

/** Of a folder that cannot be made Node says that it is not there; the one above it says why. */
function whyNot(path: string): (error: NodeJS.ErrnoException) => Promise<never> {
  return async error => {
    throw error.code === 'ENOENT' ? ((await refusalAbove(path)) ?? error) : error
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
  EISDIR: 'a folder is in the way; give another --home',
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

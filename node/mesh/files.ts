import { randomUUID } from 'node:crypto'
import { type FileHandle, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { logger } from '../../models/log.ts'
import { makeHome, unwritable } from '../home-folder.ts'

const log = logger('edgeshard:mesh')

/**
 * Writes a file that only its owner may read, whole or not at all.
 *
 * @throws {HomeUnwritableError} naming the path, when the disk is full or read-only
 */
export async function writePrivate(path: string, bytes: Uint8Array): Promise<void> {
  // A name of its own: two writes of one file may run side by side, and the later rename wins.
  const temporary = `${path}.${randomUUID()}`
  const file = await opened(temporary).catch(error => {
    throw unwritable(path, error)
  })
  try {
    await file.writeFile(bytes)
    await file.sync()
    await file.close()
    await rename(temporary, path)
  } catch (error) {
    await file
      .close()
      .catch(log.passOver('closing a file failed; it is removed, and what failed first is thrown'))
    await rm(temporary, { force: true })
    throw unwritable(path, error)
  }
}

async function opened(path: string): Promise<FileHandle> {
  await makeHome(dirname(path))
  return await open(path, 'w', 0o600)
}

/** A file's bytes, or null where there is none. */
export async function readIfThere(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { logger } from '../../models/log.ts'

const log = logger('edgeshard:mesh')

/** Writes a file that only its owner may read, whole or not at all. */
export async function writePrivate(path: string, bytes: Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  // A name of its own: two writes of one file may run side by side, and the later rename wins.
  const temporary = `${path}.${randomUUID()}`
  const file = await open(temporary, 'w', 0o600)
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
    throw error
  }
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

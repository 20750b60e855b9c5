import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { isAlive } from './alive.ts'

const apiFile = z.object({ api: z.url(), pid: z.int().positive() })

/** Where the node of a home directory can be reached over HTTP, recorded so that `run` and `peers` find it. */
export async function writeApiFile(home: string, api: string): Promise<() => Promise<void>> {
  const path = join(home, 'api.json')
  await writeFile(path, JSON.stringify({ api, pid: process.pid }), { mode: 0o600 })
  return () => rm(path, { force: true })
}

/**
 * The recorded API address, undefined where no node was started, the file is damaged, or its node has died without a
 * word: the port may belong to another node by now, of another mesh.
 */
export async function readApiFile(home: string): Promise<string | undefined> {
  try {
    const { api, pid } = apiFile.parse(JSON.parse(await readFile(join(home, 'api.json'), 'utf8')))
    return isAlive(pid) ? api : undefined
  } catch {
    return undefined
  }
}

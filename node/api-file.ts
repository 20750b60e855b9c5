import { readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { unwritable } from './home-folder.ts'

const TOKEN = /^[0-9a-f]{64}$/

const apiPath = (home: string) => join(home, 'api.json')
const tokenPath = (home: string) => join(home, 'api-token')

/** How programs of this device reach the node of a home. */
export interface ApiAccess {
  /** Address of its API. */
  api: string
  /** What shows that they may read the home: asked for by whatever has power over the mesh. */
  token: string
}

/** A token that nobody knows yet: every start has its own. */
export function newApiToken(): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(32))).toString('hex')
}

/**
 * Records how the node of a home directory is reached, in files for its owner alone, so that `run` and `peers` find it.
 *
 * @returns the function that forgets it
 * @throws {HomeUnwritableError} when the disk is full or read-only
 */
export async function writeApiFile(home: string, { api, token }: ApiAccess): Promise<() => Promise<void>> {
  try {
    // Removed first: the mode of a file that is there stays as it is.
    await forgetApiFile(home)
    await writeFile(tokenPath(home), token, { mode: 0o600, flag: 'wx' })
    await writeFile(apiPath(home), JSON.stringify({ api, pid: process.pid }), { mode: 0o600, flag: 'wx' })
  } catch (error) {
    throw unwritable(apiPath(home), error)
  }
  return () => forgetApiFile(home)
}

/** Removes what is recorded; who has just locked the home removes so what a killed node has left. */
export async function forgetApiFile(home: string): Promise<void> {
  await Promise.all([apiPath(home), tokenPath(home)].map(path => rm(path, { force: true })))
}

/**
 * How the node of a home is reached, undefined where none was started, a file is damaged or another user's, or the node
 * has died without a word: the port may belong to another node by now, of another mesh.
 */
export async function readApiFile(home: string): Promise<ApiAccess | undefined> {
  try {
    // Only here: a program on a Node without SQLite may import the entry `edgeshard`, to be told which one it needs.
    const { isHomeInUse } = await import('./home-lock.ts')
    const api = addressIn(JSON.parse(await readFile(apiPath(home), 'utf8')))
    const token = await readFile(tokenPath(home), 'utf8')
    return TOKEN.test(token) && isHomeInUse(home) ? { api, token } : undefined
  } catch {
    return undefined
  }
}

/** Checked by hand: every command reads this first, and a library of schemas takes longer to load than all the rest. */
function addressIn(file: { api?: unknown } | null): string {
  const api = file?.api
  if (typeof api !== 'string' || !URL.canParse(api)) throw new TypeError('no address')
  return api
}

import { readApiFile } from '../api-file.ts'
import { InputError } from './errors.ts'

/** A rotation waits up to 5 s for its slowest member. */
const TIMEOUT_MS = 15_000

export interface NodeApiOptions {
  home: string
  api?: string | undefined
  apiKey?: string | undefined
}

/** No node answers where one was expected. */
export class NoNodeError extends Error {
  override readonly name = 'NoNodeError'
}

/**
 * Asks a running node's HTTP API (POST where there is a body): the one at `api`, else the one recorded in the home directory.
 *
 * @throws {NoNodeError} when none runs, {Error} with the node's own words when it refuses
 */
export async function askNode(options: NodeApiOptions, path: string, body?: object): Promise<unknown> {
  const url = options.api ?? (await readApiFile(options.home))
  if (url === undefined)
    throw new NoNodeError(`no node runs on ${options.home}: start one with 'edgeshard up'`)
  const base = URL.parse(url.includes('://') ? url : `http://${url}`)
  if (base === null) throw new InputError(`--api ${url} is not an address such as http://127.0.0.1:7447`)
  const key = options.apiKey ?? process.env.EDGESHARD_API_KEY
  const response = await fetch(new URL(path, base), {
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
    headers: {
      'content-type': 'application/json',
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` })
    },
    signal: AbortSignal.timeout(TIMEOUT_MS)
  }).catch((error: Error) => {
    throw new NoNodeError(`no node answers at ${base.origin}: start one with 'edgeshard up'`, {
      cause: error
    })
  })
  if (!response.ok)
    throw new Error(`${base.origin}${path} answered ${response.status}: ${await reason(response)}`)
  return await response.json()
}

async function reason(response: Response): Promise<string> {
  const text = await response.text()
  try {
    return String(JSON.parse(text).error.message)
  } catch {
    return text.slice(0, 200)
  }
}

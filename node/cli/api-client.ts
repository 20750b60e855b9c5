import type { ReadableStream } from 'node:stream/web'
import * as z from 'zod'
import type { GenerateEvent, GenerateRequest } from '../api.ts'
import { readApiFile } from '../api-file.ts'
import { ContextFullError, InfeasibleError, InputError } from './errors.ts'
import { clean } from './format.ts'
import { linesOf } from './lines.ts'

/** How long a recorded node may take to answer before it counts as gone. */
const PROBE_TIMEOUT_MS = 2_000

/** A node's HTTP API, and what to do when it is no longer needed. */
export interface Api {
  url: string
  key: string | undefined
  close(): Promise<void>
}

/** The node at `url`, else the one that runs on this home, else one started for the occasion. */
export async function connectApi(
  { url, key, home }: { url?: string | undefined; key?: string | undefined; home: string },
  signal: AbortSignal
): Promise<Api> {
  const close = async () => undefined
  if (url !== undefined) return { url: checkedUrl(url), key, close }
  const running = await readApiFile(home)
  if (running !== undefined && (await answers(running, signal))) return { url: running, key, close }
  // Loaded only now: asking a node that runs needs no peer-to-peer library.
  const { startEphemeralNode } = await import('./ephemeral.ts')
  const ephemeral = await startEphemeralNode({ home, signal, onNotice: notice })
  return { url: ephemeral.api, key: undefined, close: ephemeral.stop }
}

/**
 * Asks a node and passes on its events.
 *
 * @throws {InputError} for what was asked wrongly, {InfeasibleError} when nothing can hold the model, {Error} else.
 */
export async function* generate(
  { url, key }: Pick<Api, 'url' | 'key'>,
  request: GenerateRequest,
  signal: AbortSignal
): AsyncGenerator<GenerateEvent> {
  const response = await reach(url, '/api/generate', key, signal, request)
  if (!response.ok || response.body === null) throw refusal(response.status, await errorOf(response))
  try {
    for await (const line of linesOf(response.body as ReadableStream<Uint8Array>)) {
      const event = JSON.parse(line) as GenerateEvent | z.infer<typeof failure>
      if (event.type === 'error') throw refusal(event.status, event.error)
      yield event
      if (event.type === 'done') return
    }
    throw new Error(`${url} ended its answer before it was complete`)
  } catch (error) {
    signal.throwIfAborted()
    // What fetch says of a connection that breaks is 'terminated'.
    if (error instanceof TypeError) throw new Error(`${url} broke off its answer`, { cause: error })
    throw error
  }
}

const errorBody = z.object({ error: z.object({ message: z.string(), code: z.string().nullish() }) })
const failure = errorBody.extend({ type: z.literal('error'), status: z.int() })

function refusal(status: number, { message, code }: z.infer<typeof errorBody>['error']): Error {
  if (code === 'context_length_exceeded') return new ContextFullError(message)
  if (status === 400 || status === 404 || status === 413) return new InputError(message)
  if (status === 401) return new InputError(`${message}: give --api-key or set EDGESHARD_API_KEY`)
  if (status === 503) return new InfeasibleError(message)
  return new Error(message)
}

async function errorOf(response: Response): Promise<z.infer<typeof errorBody>['error']> {
  const text = await response.text()
  try {
    return errorBody.parse(JSON.parse(text)).error
  } catch {
    return { message: `${response.url} answered ${response.status}: ${text.slice(0, 200)}` }
  }
}

async function reach(
  url: string,
  path: string,
  key: string | undefined,
  signal: AbortSignal,
  body?: unknown
): Promise<Response> {
  try {
    return await fetch(`${url}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        'content-type': 'application/json',
        ...(key === undefined ? {} : { authorization: `Bearer ${key}` })
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal
    })
  } catch (error) {
    signal.throwIfAborted()
    const { cause } = error as Error
    const reason = cause instanceof Error ? cause.message : (error as Error).message
    throw new Error(`no node answers at ${url}: ${reason}`, { cause: error })
  }
}

async function answers(url: string, signal: AbortSignal): Promise<boolean> {
  try {
    const response = await reach(
      url,
      '/api/mesh',
      undefined,
      AbortSignal.any([signal, AbortSignal.timeout(PROBE_TIMEOUT_MS)])
    )
    await response.body?.cancel()
    // A node with a key refuses, which shows that it is there.
    return response.ok || response.status === 401
  } catch {
    signal.throwIfAborted()
    return false
  }
}

function checkedUrl(text: string): string {
  const url = URL.parse(text.includes('://') ? text : `http://${text}`)
  if (url === null || !['http:', 'https:'].includes(url.protocol)) {
    throw new InputError(`--api ${text} is not an address such as http://127.0.0.1:7447`)
  }
  return url.origin
}

function notice(message: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${clean(message)}\n`)
}

import type { IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import type { Fetch } from '../client/index.ts'

/** Required, for an import reads all that the module exports, and among that is what `fetch` is loaded for. */
const { request }: typeof import('node:http') = createRequire(import.meta.url)('node:http')

/** As long as Node's own waits. An answer that comes piece by piece begins within seconds, so that a node which says nothing is stuck. */
const HEADERS_TIMEOUT_MS = 300_000

/** What the client of a node needs of `fetch`, with the usual deadline. */
export const httpFetch: Fetch = async (url, init) => await fetchWithin(url, init, HEADERS_TIMEOUT_MS)

/**
 * What the client of a node needs of `fetch`, by `node:http`: Node takes 40 ms to load its own, a third of all that a command
 * takes which asks a node. Fails as that does, with a {TypeError} that has a cause, and with the signal's reason.
 *
 * @param headersMs how long an answer may take to begin
 */
export async function fetchWithin(
  url: string,
  init: Parameters<Fetch>[1],
  headersMs: number
): ReturnType<Fetch> {
  // Certificates are for fetch to judge, as everywhere.
  if (!url.startsWith('http:')) return await fetch(url, init)
  const { method, headers, body, signal } = init
  signal?.throwIfAborted()
  const message = await new Promise<IncomingMessage>((resolve, reject) => {
    // A connection that is used again may be one that the node is just closing: each request has its own.
    const asking = request(url, { method, headers, agent: false, ...(signal && { signal }) }, message => {
      clearTimeout(timer)
      resolve(message)
    })
    const timer = setTimeout(
      () => asking.destroy(new Error(`nothing came for ${headersMs / 1000} s`)),
      headersMs
    )
    asking.on('error', error => {
      clearTimeout(timer)
      // Behind the answer's beginning its reader hears of it.
      reject(failure('fetch failed', error, signal))
    })
    asking.end(body)
  })
  const status = message.statusCode ?? 0
  const text = async () => {
    const chunks: Buffer[] = []
    for (let next = await reader.read(); next.value !== undefined; next = await reader.read())
      chunks.push(next.value as Buffer)
    return Buffer.concat(chunks).toString('utf8')
  }
  const reader = readerOf(message, signal)
  return {
    ok: status >= 200 && status < 300,
    status,
    body: { getReader: () => reader },
    text,
    json: async () => JSON.parse(await text())
  }
}

type Body = NonNullable<Awaited<ReturnType<Fetch>>['body']>

function readerOf(message: IncomingMessage, signal: AbortSignal | undefined): ReturnType<Body['getReader']> {
  const chunks = message[Symbol.asyncIterator]() as AsyncIterator<Uint8Array, undefined>
  return {
    closed: new Promise(resolve => message.once('close', () => resolve(undefined))),
    async read() {
      try {
        const { done, value } = await chunks.next()
        return done === true ? { done, value: undefined } : { done: false, value }
      } catch (error) {
        throw failure('terminated', error, signal)
      }
    },
    async cancel() {
      message.destroy()
    }
  }
}

function failure(message: string, cause: unknown, signal: AbortSignal | undefined): unknown {
  return signal?.aborted === true ? signal.reason : new TypeError(message, { cause })
}

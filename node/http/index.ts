/**
 * A node over HTTP: OpenAI's API, the part of Ollama's that answers prompts, and this project's own.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { createNode } from 'edgeshard'
 * import { startHttpServer } from 'edgeshard/http'
 *
 * const node = await createNode({ home: '/var/lib/edgeshard' })
 * const server = await startHttpServer({ node, host: '127.0.0.1', port: 7447 })
 * console.log(`${server.url}/v1`)
 * process.once('SIGINT', async () => {
 *   await server.stop()
 *   await node.stop()
 * })
 * ```
 */

import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import type { EdgeNode } from '../api.ts'
import { isLoopback } from './access.ts'
import { type ApiKey, ApiKeys } from './api-keys.ts'
import { createApp } from './app.ts'
import type { Audit } from './audit.ts'
import { limitConnections } from './capacity.ts'
import { Closing } from './closing.ts'
import {
  HEADERS_TIMEOUT_MS,
  LAST_WORDS_MS,
  PORT_ATTEMPTS,
  REQUEST_TIMEOUT_MS,
  TIMEOUT_CHECK_MS
} from './constants.ts'
import { HttpMetrics } from './metrics.ts'
import { allowedHost, allowedOrigin } from './origins.ts'

export { isLoopback } from './access.ts'
export type { ApiKey } from './api-keys.ts'
export type { Audit, AuditEntry } from './audit.ts'

export interface HttpServerInit {
  node: EdgeNode
  /** Loopback, unless there is an API key. */
  host: string
  /** If it is taken, the next free one is used; 0 takes any. */
  port: number
  /** What clients must send as a bearer token, or as `x-api-key`. */
  apiKey?: string
  /** The same for several who have a key each. */
  apiKeys?: readonly ApiKey[]
  /**
   * What shows that a caller may read the node's home: invites and membership ask for it as `x-edgeshard-token`, and are
   * refused to everybody where there is none.
   */
  token?: string
  /** Origins of web pages that may use the API, besides pages of this device and apps; `*`: any. */
  allowOrigins?: readonly string[]
  /** Names under which the API may be asked without a key, besides its own and `host.docker.internal`; `*`: any. */
  allowHosts?: readonly string[]
  /** Certificate, with those of its issuers, and private key in PEM: serves HTTPS instead of HTTP. */
  tls?: { cert: string | Buffer; key: string | Buffer }
  /** Is told of every answer when it has ended: by whom it was asked for and what computed it. */
  audit?: Audit
  /** Ends this program, where `POST /api/drain` asked for that and the node is drained. @default that is refused */
  onLeave?: () => void
}

export interface HttpServer {
  /** `http://HOST:PORT`, or `https`, as it came to be. */
  url: string
  /** Answers under way. */
  readonly running: number
  /**
   * Takes no new answers (503, code `stopping`) and waits until those under way have ended: for `graceMs`, or until the
   * signal aborts. Everything else is served on.
   */
  drain(graceMs: number, options?: { signal?: AbortSignal }): Promise<void>
  /** Ends answers under way, each with an error as its last word, and closes every connection. */
  stop(): Promise<void>
  /** `stop`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Serves one node over HTTP:
 *
 * | path | what |
 * |---|---|
 * | POST /v1/chat/completions, /v1/completions | OpenAI's, whole or as server-sent events; `edgeshard` holds plan and times |
 * | POST /v1/responses | OpenAI's, without anything that is kept |
 * | POST /v1/messages, /v1/messages/count_tokens | Anthropic's |
 * | GET /v1/models, /v1/models/NAME | OpenAI's |
 * | POST /api/chat, /api/generate, /api/show, GET /api/tags, /api/ps, /api/version | Ollama's |
 * | POST /api/load | loads a model before it is asked |
 * | POST /api/generate with `input` | this project's own: a GenerateRequest, its GenerateEvents one a line |
 * | GET / | the page |
 * | GET /api/mesh, /api/events | the directory; and as server-sent events what changes in it (`MeshEvent` of the entry client) |
 * | GET, POST /api/plan | the planner's answer for this mesh, or for a scenario |
 * | GET /api/models, /api/scenario | what can be prompted; the directory as a scenario file |
 * | POST /api/invite, /api/membership/..., GET, POST /api/pairing, POST /api/pairing/close | tickets, membership and pairing, for programs of this device that have the token |
 * | GET /api/pairing/command | what is typed on the device that joins, and its QR code; for the same |
 * | POST /api/page/code, /api/page/grant | lets the page pair, for whoever shows it a code made with the token |
 * | GET, POST /api/drain, POST /api/drain/undo | how far the node is drained; drains it; takes that back: for the same |
 * | GET /metrics | Prometheus |
 * | GET /healthz, /health | whether the process serves; without a key |
 * | GET /readyz | whether a prompt can be answered now, else 503 and why not; without a key |
 * | GET /openapi.json | all of this for programs (OpenAPI 3.1), with the bodies as they are checked; without a key |
 *
 * What is below /v1 is there without it, too.
 *
 * @throws {Error} when the address is not loopback and no API key protects it, or when no port is free.
 */
export async function startHttpServer(init: HttpServerInit): Promise<HttpServer> {
  const { node, host, port, apiKey, apiKeys = [], token, tls, audit, onLeave } = init
  const all = apiKey === undefined ? apiKeys : [{ name: 'default', key: apiKey }, ...apiKeys]
  if (all.some(({ key }) => key === '')) throw new Error('the API key is empty')
  const keys = new ApiKeys(all)
  if (!isLoopback(host) && !keys.isAsked) {
    throw new Error(`${host} can be reached from other devices: give an API key, or listen at 127.0.0.1`)
  }
  const allowOrigins = (init.allowOrigins ?? []).map(allowedOrigin)
  const allowHosts = (init.allowHosts ?? []).map(allowedHost)
  const closing = new Closing()
  const metrics = new HttpMetrics(node)
  const app = createApp(
    { node, metrics, closing, keys, audit, onLeave },
    { host, keys, token, allowOrigins, allowHosts }
  )
  const answer = getRequestListener(app.fetch, { overrideGlobalObjects: false })
  const server = serverOf(tls, answer)
  limitConnections(server, { isTls: tls !== undefined })
  const bound = await listen(server, host, port).catch(error => {
    metrics.stop()
    throw error
  })
  const name = host.includes(':') ? `[${host}]` : host
  const stop = async () => {
    closing.end()
    await close(server)
    metrics.stop()
  }
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${name}:${bound}`,
    get running() {
      return closing.running
    },
    drain: (graceMs, { signal } = {}) => closing.drain(graceMs, signal),
    stop,
    [Symbol.asyncDispose]: stop
  }
}

function serverOf(tls: HttpServerInit['tls'], listener: RequestListener): Server {
  const limits = {
    headersTimeout: HEADERS_TIMEOUT_MS,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionsCheckingInterval: TIMEOUT_CHECK_MS
  }
  return tls === undefined
    ? createServer(limits, listener)
    : createTlsServer({ ...limits, ...tls, handshakeTimeout: HEADERS_TIMEOUT_MS }, listener)
}

/** Closes every connection, those on which something is said as soon as it has been sent. */
async function close(server: Server): Promise<void> {
  const closed = new Promise<void>(resolve => server.close(() => resolve()))
  const idle = setInterval(() => server.closeIdleConnections(), LAST_WORDS_MS / 20)
  const late = setTimeout(() => server.closeAllConnections(), LAST_WORDS_MS)
  await closed
  clearInterval(idle)
  clearTimeout(late)
}

async function listen(server: Server, host: string, wanted: number): Promise<number> {
  for (let port = wanted; ; port++) {
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject)
        server.listen(port, host, () => {
          server.off('error', reject)
          resolve()
        })
      })
      return (server.address() as AddressInfo).port
    } catch (error) {
      const taken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE'
      if (!taken) throw error
      if (port >= Math.min(wanted + PORT_ATTEMPTS, 65_535)) {
        throw new Error(`ports ${wanted} to ${port} of ${host} are all taken`, { cause: error })
      }
    }
  }
}

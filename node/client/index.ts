/**
 * A client of a node's HTTP API. It needs nothing but `fetch`, so it works in browsers and in every Node from 20 on.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { createClient } from 'edgeshard/client'
 *
 * const node = createClient({ url: 'http://127.0.0.1:7447' })
 * for await (const piece of node.chatStream({ messages: [{ role: 'user', content: 'What is a pump?' }] })) {
 *   process.stdout.write(piece.choices[0]?.delta.content ?? '')
 * }
 * const { peers } = await node.mesh()
 * console.log(peers.map(({ name, connected }) => `${name}: ${connected ? 'there' : 'gone'}`))
 * ```
 *
 * @example What the planner would do for this mesh:
 * ```ts
 * import { createClient } from 'edgeshard/client'
 * import { parseScenario, plan } from 'edgeshard/plan'
 *
 * const node = createClient({ url: 'http://127.0.0.1:7447' })
 * const answer = plan(parseScenario(await node.scenario({ objective: 'throughput' })))
 * console.log(answer.feasible ? answer.stages : answer.reason)
 * ```
 */

import type {
  BanReport,
  DrainState,
  GenerateEvent,
  GenerateRequest,
  JoinCommand,
  LoadOptions,
  MembershipState,
  MeshState,
  ModelSummary,
  PairingState,
  PeerName,
  ScenarioNeeds
} from '../api.ts'
import { ERROR_OUTCOMES } from '../error-codes.ts'
import { afterEvent, KNOWN_EVENTS, type MeshEvent } from '../mesh-events.ts'
import type { Method, Plan, Refusal } from '../plan/problem.ts'
import type { ScenarioInput } from '../plan/scenario.ts'
import { ApiError, BrokenAnswerError, LateAnswerError, NoNodeError } from './errors.ts'
import { type Body, dataOf, linesOf, namedEventsOf } from './lines.ts'
import type {
  ChatChunk,
  ChatCompletion,
  ChatRequest,
  Completion,
  CompletionChunk,
  CompletionRequest
} from './openai.ts'
import { TOKEN_HEADER } from './token.ts'

export type * from '../api.ts'
export * from '../mesh-events.ts'
export type { Method, Plan, Refusal } from '../plan/problem.ts'
export type { ScenarioInput } from '../plan/scenario.ts'
export * from './errors.ts'
export type * from './openai.ts'

/** A rotation waits up to 5 s for its slowest member, everything else answers at once. */
const DEFAULT_TIMEOUT_MS = 15_000

/** What a client needs of `fetch`. */
export type Fetch = (
  url: string,
  init: { method: string; headers: Record<string, string>; body?: string; signal?: AbortSignal }
) => Promise<Pick<Response, 'ok' | 'status' | 'text' | 'json'> & { readonly body: Body | null }>

export interface ClientInit {
  /** Address at which the node serves its API, `http://HOST:PORT`. */
  url: string
  /** Sent as a bearer token: for nodes that were given one. */
  apiKey?: string | undefined
  /**
   * What shows the node that the caller may read its home, where `api-token` has it (`readApiFile` of the entry
   * `edgeshard`): for invites and membership, and in the place of an API key.
   */
  token?: string | undefined
  /**
   * How long a call may take that is no prompt. Prompts take as long as they do, but end when nothing comes for a minute.
   *
   * @default 15000 (DEFAULT_TIMEOUT_MS)
   */
  timeoutMs?: number
  /** What sends requests. @default the global `fetch` */
  fetch?: Fetch
}

export interface CallOptions {
  signal?: AbortSignal | undefined
}

export interface StreamOptions extends CallOptions {
  /**
   * The pause in ms after something that had to be waited for: nothing is read in it, and what has come meanwhile follows at
   * once, for callers that draw no oftener. What comes first, and whatever ends the stream, waits for nothing. The node sends an
   * answer in such pieces, too.
   *
   * @default 0
   */
  gatherMs?: number | undefined
  /**
   * How long the stream may say nothing, in ms, before it counts as broken. A node says every 5 s that it is there.
   *
   * @default 60000
   */
  silenceMs?: number | undefined
}

/**
 * One node, over HTTP. Every call throws {ApiError} when the node refuses or fails, {NoNodeError} when no node answers,
 * {BrokenAnswerError} when the connection breaks within an answer, and the signal's reason when that aborts.
 */
export interface Client {
  /** Origin of the API that is asked. */
  readonly url: string
  /** Prompts the mesh and passes on what the node reports: progress, plan, text, and the result last. */
  generate(request: GenerateRequest, options?: StreamOptions): AsyncGenerator<GenerateEvent>
  /** OpenAI's chat completions, whole. */
  chat(request: ChatRequest, options?: CallOptions): Promise<ChatCompletion>
  /** OpenAI's chat completions, as they come. */
  chatStream(request: ChatRequest, options?: CallOptions): AsyncGenerator<ChatChunk>
  /** OpenAI's completions, whole. */
  complete(request: CompletionRequest, options?: CallOptions): Promise<Completion>
  /** OpenAI's completions, as they come. */
  completeStream(request: CompletionRequest, options?: CallOptions): AsyncGenerator<CompletionChunk>
  /** What the mesh can be prompted with. */
  models(options?: CallOptions): Promise<ModelSummary[]>
  /** Devices, links, leases and plans as the node sees them. */
  mesh(options?: CallOptions): Promise<MeshState>
  /** The same whenever it has changed, looked at once a second, until it is left or aborted. */
  events(options?: CallOptions): AsyncGenerator<MeshState>
  /**
   * The mesh, then what changes in it and how answers of this node get on, until it is left or aborted (`afterEvent` puts
   * a change into the mesh). `lastEventId`: of the event that was seen last, to go on behind it; where that is too long
   * ago, the first event is the whole mesh again.
   */
  changes(
    options?: StreamOptions & { lastEventId?: string | undefined }
  ): AsyncGenerator<MeshEvent & { id: string }>
  /** The planner's answer for this mesh, with its reasons. */
  plan(needs?: ScenarioNeeds, options?: CallOptions): Promise<Plan | Refusal>
  /** The planner's answer for any scenario, worked out by the node; at most 1 MiB, 10 s. */
  planFor(scenario: ScenarioInput, options?: CallOptions & { method?: Method }): Promise<Plan | Refusal>
  /** The mesh as a scenario of the planner (`edgeshard/plan`). */
  scenario(needs?: ScenarioNeeds, options?: CallOptions): Promise<ScenarioInput>
  /**
   * Has a model, or the default one, loaded before it is asked: resolves when it is, at once where it was, and takes as long as
   * a first prompt would. Who aborts it ends it.
   */
  load(model?: string, options?: CallOptions & LoadOptions): Promise<void>
  /** Ids of a text as a raw prompt. */
  tokenize(text: string, options?: CallOptions & { model?: string | undefined }): Promise<number[]>
  /** A ticket for another device. Only programs of the node's device may ask, with its `token`. */
  invite(options?: CallOptions): Promise<string>
  /** Opens pairing under a new code, for two minutes. Only programs of the node's device may ask, with its `token`; so below. */
  openPairing(options?: CallOptions): Promise<PairingState>
  /** Whether pairing is open, under which code, or how it ended. */
  pairing(options?: CallOptions): Promise<PairingState>
  /** Closes pairing. */
  closePairing(options?: CallOptions): Promise<PairingState>
  /** What is typed on the device that joins, while pairing is open, and the same as a QR code. */
  joinCommand(options?: CallOptions): Promise<JoinCommand>
  /** A code that lets one page of the node pair, once, and how long it is taken. */
  pageCode(options?: CallOptions): Promise<{ code: string; leftMs: number }>
  /** A grant for such a code: it stands in the place of `token`, for pairing alone; without a token, on the node's device. */
  pageGrant(code: string, options?: CallOptions): Promise<{ grant: string; leftMs: number }>
  /** The devices of the mesh, and who admitted each. Only programs of the node's device may ask, with its `token`; so below. */
  membership(options?: CallOptions): Promise<MembershipState>
  /** Peer ids that are banned. */
  bans(options?: CallOptions): Promise<string[]>
  /** Changes the mesh's secret. For owners, as bans are. */
  rotate(options?: CallOptions): Promise<{ reached: PeerName[]; missed: PeerName[] }>
  /** Bans a device and all that only it has let in, but for `keep`. */
  ban(peerId: string, options?: CallOptions & { keep?: readonly string[] }): Promise<BanReport>
  /** Takes a peer off the ban list, and gives that back. */
  unban(peerId: string, options?: CallOptions): Promise<string[]>
  /** Makes a device an owner. For the device that made the mesh. */
  promote(peerId: string, options?: CallOptions): Promise<MembershipState>
  /**
   * Has the node drained: it takes no prompts, hands over what runs on it for others, and with `leave` ends its program when
   * nothing runs there any more. For the node's device alone, as membership is; so are the two below.
   */
  drain(options?: CallOptions & { leave?: boolean }): Promise<DrainState>
  /** Takes that back, while it has not left. */
  undrain(options?: CallOptions): Promise<DrainState>
  /** What still runs there. */
  draining(options?: CallOptions): Promise<DrainState>
  /** Figures in Prometheus' text format. */
  metrics(options?: CallOptions): Promise<string>
}

/** @throws {TypeError} when `url` is no http or https address */
export function createClient(init: ClientInit): Client {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, fetch } = init
  const url = originOf(init.url)
  const reach = (
    path: string,
    signal: AbortSignal | undefined,
    body?: object,
    headers: Record<string, string> = {}
  ) => request({ url, apiKey: init.apiKey, token: init.token, fetch, path, signal, body, headers })
  /** An answer that is read whole within the deadline. */
  const whole = async <T>(
    path: string,
    { signal }: CallOptions,
    body?: object,
    read: (response: Reply) => Promise<T> = response => response.json() as Promise<T>
  ): Promise<T> => {
    const deadline = AbortSignal.timeout(timeoutMs)
    const either = signal === undefined ? deadline : AbortSignal.any([signal, deadline])
    try {
      return await unharmed(url, either, read(await reach(path, either, body)))
    } catch (error) {
      if (deadline.aborted && signal?.aborted !== true)
        throw new LateAnswerError(`${url} took longer than ${timeoutMs} ms`, { cause: error })
      throw error
    }
  }
  const answer = async <T>(path: string, { signal }: CallOptions, body: object): Promise<T> =>
    await unharmed(url, signal, (await reach(path, signal, body)).json() as Promise<T>)

  async function* stream<T>(path: string, { signal }: CallOptions, body: object): AsyncGenerator<T> {
    const asked = { ...body, stream: true, stream_options: { include_usage: true } }
    const response = await reach(path, signal, asked)
    yield* unbroken(url, signal, pieces<T>(url, dataOf(response.body!)))
  }

  async function* changes({
    signal,
    lastEventId,
    ...reading
  }: StreamOptions & { lastEventId?: string | undefined } = {}): AsyncGenerator<MeshEvent & { id: string }> {
    const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
    const response = await reach('/api/events', signal, undefined, headers)
    yield* unbroken(url, signal, meshEvents(namedEventsOf(response.body!, reading)))
  }

  return {
    url,
    generate: async function* (asked, { signal, ...reading } = {}) {
      const gatherMs = Math.min(reading.gatherMs ?? 0, MAX_ASKED_GATHER_MS)
      const query = gatherMs > 0 ? `?gatherMs=${Math.floor(gatherMs)}` : ''
      const response = await reach(`/api/generate${query}`, signal, asked)
      yield* unbroken(url, signal, eventsOf(url, linesOf(response.body!, reading)))
    },
    chat: (asked, options = {}) => answer('/v1/chat/completions', options, asked),
    chatStream: (asked, options = {}) => stream('/v1/chat/completions', options, asked),
    complete: (asked, options = {}) => answer('/v1/completions', options, asked),
    completeStream: (asked, options = {}) => stream('/v1/completions', options, asked),
    models: async (options = {}) => (await whole<{ models: ModelSummary[] }>('/api/models', options)).models,
    mesh: (options = {}) => whole('/api/mesh', options),
    events: async function* (options = {}) {
      let mesh: MeshState | undefined
      for await (const event of changes(options)) {
        const after = afterEvent(mesh, event)
        if (after !== undefined && after !== mesh) yield after
        mesh = after
      }
    },
    changes,
    plan: (needs = {}, options = {}) => whole(`/api/plan?${queryOf(needs)}`, options),
    planFor: (scenario, { method, ...options } = {}) =>
      whole('/api/plan', options, { ...scenario, ...(method !== undefined && { method }) }),
    scenario: (needs = {}, options = {}) => whole(`/api/scenario?${queryOf(needs)}`, options),
    load: async (model, { signal, keepAliveMs, ...asked } = {}) => {
      const kept = keepAliveMs !== undefined && { keep_alive: keepAliveMs / 1000 }
      await answer('/api/load', { signal }, { ...asked, ...(model !== undefined && { model }), ...kept })
    },
    tokenize: async (text, { model, ...options } = {}) => {
      const body = { text, ...(model !== undefined && { model }) }
      return (await whole<{ tokens: number[] }>('/api/tokenize', options, body)).tokens
    },
    invite: async (options = {}) => (await whole<{ ticket: string }>('/api/invite', options)).ticket,
    openPairing: (options = {}) => whole('/api/pairing', options, {}),
    pairing: (options = {}) => whole('/api/pairing', options),
    closePairing: (options = {}) => whole('/api/pairing/close', options, {}),
    joinCommand: (options = {}) => whole('/api/pairing/command', options),
    pageCode: (options = {}) => whole('/api/page/code', options, {}),
    pageGrant: (code, options = {}) => whole('/api/page/grant', options, { code }),
    bans: async (options = {}) => (await whole<{ banned: string[] }>('/api/membership/bans', options)).banned,
    membership: (options = {}) => whole('/api/membership', options),
    rotate: (options = {}) => whole('/api/membership/rotate', options, {}),
    ban: (peerId, { keep = [], ...options } = {}) => whole('/api/membership/ban', options, { peerId, keep }),
    promote: (peerId, options = {}) => whole('/api/membership/promote', options, { peerId }),
    unban: async (peerId, options = {}) =>
      (await whole<{ banned: string[] }>('/api/membership/unban', options, { peerId })).banned,
    drain: ({ leave = false, ...options } = {}) => whole('/api/drain', options, { leave }),
    undrain: (options = {}) => whole('/api/drain/undo', options, {}),
    draining: (options = {}) => whole('/api/drain', options),
    metrics: (options = {}) => whole('/metrics', options, undefined, response => response.text())
  }
}

/** The node gathers for no longer (MAX_GATHER_MS of node/http). */
const MAX_ASKED_GATHER_MS = 1_000

/** Node's fetch waits 5 minutes for the first byte, and an answer that is sent whole begins at its end. */
const HEADERS_TIMEOUT = 'UND_ERR_HEADERS_TIMEOUT'

function originOf(text: string): string {
  const url = new URL(text)
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw new TypeError(`${text} is no http address`)
  return url.origin
}

type Reply = Awaited<ReturnType<Fetch>>

interface Asked {
  url: string
  fetch: Fetch | undefined
  apiKey: string | undefined
  token: string | undefined
  path: string
  signal: AbortSignal | undefined
  body: object | undefined
  headers: Record<string, string>
}

/** A response with a good status. */
async function request({
  url,
  fetch = globalThis.fetch,
  apiKey,
  token,
  path,
  signal,
  body,
  headers
}: Asked): Promise<Reply> {
  let response: Reply
  try {
    response = await fetch(`${url}${path}`, {
      method: body === undefined ? 'GET' : 'POST',
      headers: {
        ...headers,
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(apiKey !== undefined && { authorization: `Bearer ${apiKey}` }),
        ...(token !== undefined && { [TOKEN_HEADER]: token })
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
      ...(signal !== undefined && { signal })
    })
  } catch (error) {
    signal?.throwIfAborted()
    const { cause, message } = error as Error
    if (cause instanceof Error && 'code' in cause && cause.code === HEADERS_TIMEOUT) {
      throw new LateAnswerError(`${url} began no answer in time; a stream of it does not end so`, {
        cause: error
      })
    }
    const reason = cause instanceof Error && cause.message !== '' ? cause.message : message
    throw new NoNodeError(`no node answers at ${url}: ${reason}`, { cause: error })
  }
  if (response.ok) return response
  const text = await unharmed(url, signal, startOf(response.body))
  throw refusal(response.status, text, `${url}${path} answered ${response.status}`)
}

/** Far more than an error says, even one that has a prompt in it. */
const MAX_REFUSAL_CHARS = 16 << 20

/** The text of an error's body, as much of it as anybody reads. */
async function startOf(body: Body | null): Promise<string> {
  let text = ''
  if (body === null) return text
  for await (const line of linesOf(body)) {
    text += text === '' ? line : `\n${line}`
    if (text.length > MAX_REFUSAL_CHARS) break
  }
  return text
}

/** Error bodies are the node's, or those of whatever else listens there. */
function refusal(status: number, text: string, what: string): ApiError {
  try {
    return apiError(status, JSON.parse(text).error)
  } catch {
    // It is not JSON: what else listens there says, in its own words, what is wrong.
    return new ApiError(`${what}: ${text.slice(0, 200)}`, { code: 'internal_error', status })
  }
}

function apiError(status: number, error: { message: unknown; code?: unknown; param?: unknown }): ApiError {
  return new ApiError(String(error.message), {
    code: typeof error.code === 'string' ? error.code : 'internal_error',
    status,
    param: typeof error.param === 'string' ? error.param : undefined
  })
}

/** The status of an error that comes within a stream, whose own status has been sent long before. */
function statusOf(code: unknown): number {
  const known = Object.entries(ERROR_OUTCOMES).find(([name]) => name === code)
  return known?.[1].status ?? 500
}

/** What a body is read to, or what is wrong with it. */
async function unharmed<T>(url: string, signal: AbortSignal | undefined, read: Promise<T>): Promise<T> {
  try {
    return await read
  } catch (error) {
    signal?.throwIfAborted()
    const what = error instanceof SyntaxError ? 'answered something else than JSON' : 'broke off its answer'
    throw new BrokenAnswerError(`${url} ${what}`, { cause: error })
  }
}

/** Passes on what comes; a connection that breaks is said to have. */
async function* unbroken<T>(
  url: string,
  signal: AbortSignal | undefined,
  events: AsyncGenerator<T>
): AsyncGenerator<T> {
  try {
    yield* events
  } catch (error) {
    signal?.throwIfAborted()
    // What fetch says of a connection that breaks is a TypeError, 'terminated'.
    if (error instanceof TypeError)
      throw new BrokenAnswerError(`${url} broke off its answer`, { cause: error })
    throw error
  }
}

async function* parsed<T>(texts: AsyncGenerator<string>): AsyncGenerator<T> {
  for await (const text of texts) yield JSON.parse(text) as T
}

async function* meshEvents(
  events: AsyncGenerator<{ id: string; name: string; data: string }>
): AsyncGenerator<MeshEvent & { id: string }> {
  for await (const { id, name, data } of events) {
    // Newer nodes may tell of more.
    if (KNOWN_EVENTS.has(name)) yield { id, type: name, data: JSON.parse(data) } as MeshEvent & { id: string }
  }
}

function queryOf(needs: ScenarioNeeds): URLSearchParams {
  const given = Object.entries(needs).filter(([, value]) => value !== undefined)
  return new URLSearchParams(given.map(([name, value]): [string, string] => [name, `${value}`]))
}

async function* eventsOf(url: string, lines: AsyncGenerator<string>): AsyncGenerator<GenerateEvent> {
  for await (const event of parsed<
    GenerateEvent | { type: 'waiting' } | { type: 'error'; status: number; error: { message: string } }
  >(lines)) {
    if (event.type === 'error') throw apiError(event.status, event.error)
    // The node says that it lives.
    if (event.type === 'waiting') continue
    yield event
    if (event.type === 'done') return
  }
  throw new BrokenAnswerError(`${url} ended its answer before it was complete`)
}

async function* pieces<T>(url: string, texts: AsyncGenerator<string>): AsyncGenerator<T> {
  for await (const text of texts) {
    if (text === '[DONE]') return
    const piece = JSON.parse(text)
    if (piece.error !== undefined) throw apiError(statusOf(piece.error.code), piece.error)
    yield piece
  }
  throw new BrokenAnswerError(`${url} ended its answer before it was complete`)
}

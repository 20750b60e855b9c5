import { randomUUID } from 'node:crypto'
import type { HttpBindings } from '@hono/node-server'
import type { Context } from 'hono'
import { logger, originOf } from '../../models/log.ts'
import type { AcceptedRequest } from '../accepted-request.ts'
import { Answers } from '../answers.ts'
import type { EdgeNode, GenerateEvent, GenerateRequest } from '../api.ts'
import { RequestError, StoppingError } from '../errors.ts'
import type { Admission } from './admission.ts'
import { settled } from './answer-events.ts'
import { type ApiKeys, KEY_HOLDER_VARIABLE, type KeyHolder } from './api-keys.ts'
import { type Audit, askedBy, audited } from './audit.ts'
import { bodyText } from './body.ts'
import type { Closing } from './closing.ts'
import { HEADERS_AFTER_MS, REQUEST_ID_HEADER, REQUEST_ID_VARIABLE } from './constants.ts'
import type { HttpMetrics } from './metrics.ts'

const log = logger('edgeshard:http')

export type HttpContext = Context<{ Bindings: HttpBindings }>

/** What every route that generates needs. */
export interface Components {
  node: EdgeNode
  metrics: HttpMetrics
  closing: Closing
  keys: ApiKeys
  /** Where answers are accounted for; undefined: nowhere. */
  audit?: Audit | undefined
  /** Ends the program that the node is part of, once it is drained; undefined: nobody but that program does. */
  onLeave?: (() => void) | undefined
}

/** One answer under way for an HTTP client. */
export interface Running {
  events: AsyncGenerator<GenerateEvent>
  /** The request's id and, where it is known before the body begins, the plan. */
  headers: Record<string, string>
  /** Ends the answer everywhere, if it still runs, and gives its place back. */
  end(): void
}

/**
 * Starts an answer that ends when the client goes away.
 *
 * @throws what the node refuses the request with, before any of the answer is sent.
 */
export async function startAnswer(
  context: HttpContext,
  components: Components,
  request: GenerateRequest
): Promise<Running> {
  const begun = begin(context, components)
  try {
    const running = await answerIn(begun, context, components, request)
    const end = () => {
      begun.over()
      running.end()
    }
    return { ...running, end }
  } catch (error) {
    begun.over()
    throw error
  }
}

/** A client's request of several answers. */
export interface RunningRequest {
  /** Answers that may be under way at once. */
  atOnce: number
  /** Starts one of them. @throws what the node refuses it with */
  start(request: GenerateRequest): Promise<Running>
  /** Ends those that still run, and gives all places back. */
  end(): void
}

/**
 * Accepts a request of several answers, up to `most` of them at once. It is let in once: what may end others, or keep them
 * out, ends none of its answers that have not begun.
 *
 * @throws {HttpError} {StoppingError} where it is not let in
 */
export function acceptRequest(context: HttpContext, components: Components, most: number): RunningRequest {
  const begun = begin(context, components, { most })
  const open = new Set<Running>()
  let isOver = false
  try {
    const accepted = components.node.accept()
    return {
      atOnce: begun.atOnce,
      start: async request => {
        const running = await answerIn(begun, context, components, request, accepted)
        open.add(running)
        if (isOver) running.end()
        return running
      },
      end: () => {
        isOver = true
        begun.over()
        for (const running of open) running.end()
        accepted.over()
      }
    }
  } catch (error) {
    begun.over()
    throw error
  }
}

async function answerIn(
  { holder, requestId, aborted }: Begun,
  context: HttpContext,
  { node, keys, audit, metrics }: Components,
  request: GenerateRequest,
  accepted?: AcceptedRequest
): Promise<Running> {
  const { signal } = context.req.raw
  const conversation =
    holder === undefined ? request.conversation : keys.scopeOf(holder, request.conversation)
  const priority = holder?.priority
  const own = {
    ...request,
    ...(conversation !== undefined && { conversation }),
    ...(priority !== undefined && { priority })
  }
  const over = new AbortController()
  const either = AbortSignal.any([aborted, over.signal])
  const asked = node.generate(own, { signal: either, requestId, accepted })
  const plain = priority === undefined ? asked : new Answers().told(asked, metrics.placing(priority))
  const about = { ...askedBy(context, node, holder), requestId, model: own.model }
  const generated = audit === undefined ? plain : audited(audit, plain, about)
  const end = () => {
    over.abort()
    // Reading the events may not have begun: the node must still let go of what it holds for them.
    generated.return(undefined).catch(error => {
      log.of(requestId).trace('ending an answer failed; it is over', () => ({ at: originOf(error) }))
    })
  }
  try {
    signal.addEventListener('abort', end, { once: true })
    const { events, early } = await settled(generated, HEADERS_AFTER_MS)
    const headers = { [REQUEST_ID_HEADER]: requestId, ...promptHeaders(early), ...planHeaders(early) }
    return { events, headers, end }
  } catch (error) {
    end()
    throw error
  }
}

/** What computes for a client, from when it is let in. */
interface Begun {
  holder: KeyHolder | undefined
  requestId: string
  /** Answers that it has places for. */
  atOnce: number
  /** Aborts when the client goes away, or the server ends. */
  aborted: AbortSignal
  /** Ends it, and gives its place back. */
  over(): void
}

/**
 * Lets a request in that is to be computed, with places for up to `most` answers at once.
 *
 * @param options `isLoad`: a model is loaded for an answer to come. It takes no place of an answer, and a server that ends does not wait
 * for it. @default false
 * @throws {HttpError} {StoppingError} where it is not
 */
export function begin(
  context: HttpContext,
  { metrics, closing }: Omit<Components, 'node' | 'keys'>,
  { most = 1, isLoad = false }: { most?: number; isLoad?: boolean } = {}
): Begun {
  const { signal } = context.req.raw
  // What no client waits for would run to its end: a signal that has aborted already tells no listener.
  signal.throwIfAborted()
  closing.admit()
  const holder = holderOf(context)
  const { places: atOnce, leave } = isLoad
    ? entered(metrics.loads, holder?.loads, most)
    : entered(metrics.answers, holder?.places, most)
  const abort = new AbortController()
  const end = (reason: Error) => abort.abort(reason)
  const closed = isLoad ? closing.beginEndless(() => end(new StoppingError())) : closing.begin(end)
  const requestId = requestIdOf(context)
  context.header(REQUEST_ID_HEADER, requestId)
  const over = () => {
    abort.abort()
    leave()
    closed()
  }
  signal.addEventListener('abort', over, { once: true })
  return { holder, requestId, atOnce, aborted: abort.signal, over }
}

/** Who has the key that a request came with; undefined: no key is asked for, or the node's own device asks. */
export function holderOf(context: Context): KeyHolder | undefined {
  return context.get(KEY_HOLDER_VARIABLE) as KeyHolder | undefined
}

/** Places among all, beside the holder's own, which are given back together with them. */
function entered(
  all: Admission,
  own: Admission | undefined,
  most: number
): { places: number; leave: () => void } {
  const owned = own?.enterSome(most)
  try {
    const { places, leave } = all.enterSome(owned?.places ?? most)
    return {
      places,
      leave: () => {
        leave()
        owned?.leave()
      }
    }
  } catch (error) {
    owned?.leave()
    throw error
  }
}

/** What the request is called, in its answer as in every log. */
function requestIdOf(context: Context): string {
  const id: unknown = context.get(REQUEST_ID_VARIABLE)
  return typeof id === 'string' ? id : randomUUID()
}

/** @throws {RequestError} when the body is not JSON, {HttpError} when it is too large or too slow to be read. */
export async function jsonBody(context: HttpContext, maxBytes?: number): Promise<unknown> {
  const text = await bodyText(context, maxBytes)
  try {
    return JSON.parse(text)
  } catch {
    throw new RequestError('the body is not JSON')
  }
}

/** `X-EdgeShard-Tools: template` or `generic`, and what of its arguments the template does not read. */
function promptHeaders(early: readonly GenerateEvent[]): Record<string, string> {
  const prompt = early.find(event => event.type === 'prompt')
  if (prompt === undefined) return {}
  return {
    ...(prompt.tools !== null && { 'x-edgeshard-tools': prompt.tools }),
    ...(prompt.unread.length > 0 && { 'x-edgeshard-unread': headerList(prompt.unread) })
  }
}

/** Names in a header, whatever a client has called them. */
export function headerList(names: readonly string[]): string {
  return names
    .map(name => name.replace(/[^\x21-\x7e]|,/g, '_').slice(0, 64))
    .join(', ')
    .slice(0, MAX_NAMES_HEADER)
}

const MAX_NAMES_HEADER = 1024
/** Clients refuse headers of more than 16 KiB in all. */
const MAX_PLAN_HEADER = 4096

/** `X-EdgeShard-Plan: desktop [0:5], laptop [5:10]` and the predicted times. */
function planHeaders(early: readonly GenerateEvent[]): Record<string, string> {
  const planned = early.find(event => event.type === 'plan')
  if (planned === undefined) return {}
  const stages = planned.plan.stages.map(({ name, layers: [start, end] }) => {
    return `${name.replace(/[^\x21-\x7e]|[,;]/g, '_').slice(0, 64)} [${start}:${end}]`
  })
  const { ttftMs, tpotMs } = planned.predicted
  return {
    'x-edgeshard-plan': stages.join(', ').slice(0, MAX_PLAN_HEADER),
    'x-edgeshard-predicted': `ttft;dur=${ttftMs.toFixed(1)}, tpot;dur=${tpotMs.toFixed(2)}`
  }
}

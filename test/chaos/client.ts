import { request as httpRequest, type IncomingMessage } from 'node:http'
import type { GenerateEvent, GenerateRequest, GenerateResult, MeshState } from '../../node/api.ts'
import { deadlineMs } from '../fixtures/machine.ts'

/** Where a node's API is: a port of this machine, or a socket file that leads into a namespace. */
export type Address = { port: number } | { socketPath: string }

/** A token as it arrived: when, and how far apart the two best logits were. */
export interface SeenToken {
  id: number
  atMs: number
  logprob: number
  /** Difference of the two best logits, null where they were not reported. */
  margin: number | null
}

/** What an answer reports besides its text, with the time since the request. */
export type SeenEvent = { atMs: number; event: Exclude<GenerateEvent, { type: 'text' }> }

/** One answer as its client saw it; times are ms since the request was sent. */
export interface Trace {
  /** `performance.now()` when the request was sent. */
  sentMs: number
  tokens: SeenToken[]
  text: string
  events: SeenEvent[]
  end: { kind: 'done'; result: GenerateResult } | { kind: 'error'; status: number; message: string }
}

/** A client that leaves: called with the trace so far; true breaks the connection. */
export type Watch = (trace: Trace, event: GenerateEvent) => boolean | undefined

const SILENCE_TIMEOUT_MS = deadlineMs(60_000)

/**
 * Asks a node through its own API and follows the answer to its end, whatever it is. Every token comes with its two
 * likeliest, so that a fork can be judged.
 *
 * @throws when `signal` aborts or `watch` says so
 */
export async function ask(
  address: Address,
  request: GenerateRequest,
  { signal, watch }: { signal?: AbortSignal; watch?: Watch } = {}
): Promise<Trace> {
  const sentMs = performance.now()
  const trace: Trace = {
    sentMs,
    tokens: [],
    text: '',
    events: [],
    end: { kind: 'error', status: 0, message: 'the connection ended before the answer did' }
  }
  try {
    const response = await post(address, '/api/generate', { topLogprobs: 2, ...request }, signal)
    if (response.statusCode !== 200) {
      const { error } = JSON.parse(await textOf(response)) as { error: { message: string } }
      trace.end = { kind: 'error', status: response.statusCode!, message: error.message }
      return trace
    }
    for await (const line of linesOf(response)) {
      const event = JSON.parse(line) as GenerateEvent | Failure
      if (event.type === 'error') {
        trace.end = { kind: 'error', status: event.status, message: event.error.message }
        return trace
      }
      record(trace, event)
      if (watch?.(trace, event) === true) {
        response.destroy()
        break
      }
    }
  } catch (error) {
    signal?.throwIfAborted()
    trace.end = { kind: 'error', status: 0, message: `the connection broke: ${(error as Error).message}` }
  }
  return trace
}

interface Failure {
  type: 'error'
  status: number
  error: { message: string }
}

function record(trace: Trace, event: GenerateEvent): void {
  const atMs = performance.now() - trace.sentMs
  if (event.type === 'text') {
    trace.text += event.text
    for (const { id, logprob, top } of event.logprobs) {
      const [best, second] = top
      const margin = best === undefined || second === undefined ? null : best.logprob - second.logprob
      trace.tokens.push({ id, atMs, logprob, margin })
    }
    return
  }
  trace.events.push({ atMs, event })
  if (event.type === 'done') trace.end = { kind: 'done', result: event.result }
}

export async function meshOf(address: Address): Promise<MeshState> {
  return JSON.parse(await get(address, '/api/mesh')) as MeshState
}

/** Prometheus' figures without labels, by name. */
export async function metricsOf(address: Address): Promise<Map<string, number>> {
  const lines = (await get(address, '/metrics')).split('\n').filter(line => /^\w+ /.test(line))
  return new Map(lines.map(line => [line.split(' ')[0]!, Number(line.split(' ')[1])]))
}

async function get(address: Address, path: string): Promise<string> {
  const response = await send(address, 'GET', path, undefined, AbortSignal.timeout(deadlineMs(5_000)))
  const text = await textOf(response)
  if (response.statusCode !== 200) throw new Error(`${path} answered ${response.statusCode}: ${text}`)
  return text
}

/** A POST of JSON, or of a text as it is; the caller reads the body, or leaves it. */
export function post(
  address: Address,
  path: string,
  body: unknown,
  signal?: AbortSignal
): Promise<IncomingMessage> {
  return send(address, 'POST', path, typeof body === 'string' ? body : JSON.stringify(body), signal)
}

function send(
  address: Address,
  method: string,
  path: string,
  body: string | undefined,
  signal: AbortSignal | undefined
): Promise<IncomingMessage> {
  const where = 'port' in address ? { host: '127.0.0.1', port: address.port } : address
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
  const outgoing = httpRequest({
    ...where,
    method,
    path,
    headers: { host: 'localhost', 'content-type': 'application/json', connection: 'close' },
    ...(signal === undefined ? {} : { signal })
  })
  outgoing.setTimeout(SILENCE_TIMEOUT_MS, () => outgoing.destroy(new Error('a minute of silence')))
  outgoing.on('response', resolve)
  outgoing.on('error', reject)
  outgoing.end(body)
  return promise
}

export async function textOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of response) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let rest = ''
  response.setEncoding('utf8')
  for await (const chunk of response) {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()!
    yield* lines.filter(line => line !== '')
  }
}

import { randomInt } from 'node:crypto'
import type { z } from 'zod'
import { OPEN_STREAM_TIMEOUT_MS, REQUEST_TIMEOUT_MS } from '../constants.ts'
import { DeadlineError, PeerLostError, RemoteError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import { parseMessage } from '../message.ts'
import { messageOf } from '../text.ts'
import type { Transport } from '../transport.ts'
import {
  LOAD_PROGRESS_MS,
  LOAD_SILENCE_TIMEOUT_MS,
  MANIFEST_TIMEOUT_MS,
  MAX_LEASE_STREAMS,
  MAX_LOAD_PROGRESS
} from './constants.ts'
import {
  type LoadProgress,
  type LoadRequest,
  type OpenReply,
  type OpenRequest,
  openReply,
  type RelinkRequest,
  type RenewReply,
  type ReserveReply,
  type ReserveRequest,
  renewReply,
  replyMessage,
  reserveReply,
  standReply,
  withCritical
} from './messages.ts'

export interface CallOptions {
  signal?: AbortSignal
  timeoutMs?: number
}

interface ProgressOptions {
  /** How long the peer may say nothing at all. */
  silenceMs?: number
  onProgress?: (progress: LoadProgress) => void
}

interface Pending {
  resolve(body: unknown): void
  reject(error: Error): void
  onProgress(progress: LoadProgress): void
}

/**
 * A source's side of a lease: one stream to one peer, on which the lease is reserved, filled, used and released.
 * When the stream ends, from either side, the peer releases the lease.
 *
 * Every call throws {RemoteError} with the peer's code, {DeadlineError} when it does not answer in time and
 * {PeerLostError} when the connection breaks.
 */
export class LeaseClient {
  readonly peerId: string
  /** Resolves with the reason when the stream has ended, also after `end()`. */
  readonly ended: Promise<Error>
  readonly #messages: JsonStream
  readonly #pending = new Map<number, Pending>()
  #nextId = randomInt(1000)
  #lost: Error | undefined
  #resolveEnded!: (reason: Error) => void

  static async connect(
    transport: Transport,
    peerId: string,
    options: CallOptions = {}
  ): Promise<LeaseClient> {
    const timeout = AbortSignal.timeout(options.timeoutMs ?? OPEN_STREAM_TIMEOUT_MS)
    const stream = await transport.newStream(peerId, transport.protocols.lease, {
      signal: options.signal ? AbortSignal.any([options.signal, timeout]) : timeout,
      maxOutboundStreams: MAX_LEASE_STREAMS
    })
    return new LeaseClient(peerId, new JsonStream(stream, { onBytes: () => transport.touch(peerId) }))
  }

  private constructor(peerId: string, messages: JsonStream) {
    this.peerId = peerId
    this.#messages = messages
    this.ended = new Promise(resolve => {
      this.#resolveEnded = resolve
    })
    void this.#listen()
  }

  /** The deadline starts when the time to stand in line is over; a peer without the manifest fetches it first. */
  async reserve(request: ReserveRequest, options?: CallOptions): Promise<ReserveReply> {
    return this.#checked(reserveReply, await this.#callReserve(request, options))
  }

  /**
   * Stands beside the line of those who wait for the memory, and takes nothing; the deadline is that of `reserve`.
   *
   * @returns whether nobody is before this source any more; false also where the peer refuses
   */
  async stand(request: ReserveRequest, options?: CallOptions): Promise<boolean> {
    const body = await this.#callReserve({ ...request, stand: true }, options)
    return this.#checked(standReply, body).type === 'first'
  }

  /**
   * Resolves when the shard is ready. It is given up after `timeoutMs`, and before that where the peer says nothing for
   * LOAD_SILENCE_TIMEOUT_MS. Of its progress only changes are passed on, MAX_LOAD_PROGRESS of them at most and one more
   * for each LOAD_PROGRESS_MS. What of it can be true is for the caller to judge.
   */
  async load(
    request: LoadRequest,
    {
      onProgress = () => {},
      ...options
    }: CallOptions & { timeoutMs: number; onProgress?: (progress: LoadProgress) => void }
  ): Promise<void> {
    let [last, passed] = ['', 0]
    const startMs = performance.now()
    await this.#call('load', request, {
      ...options,
      silenceMs: LOAD_SILENCE_TIMEOUT_MS,
      onProgress: progress => {
        const said = JSON.stringify(progress)
        const allowed = MAX_LOAD_PROGRESS + (performance.now() - startMs) / LOAD_PROGRESS_MS
        if (said === last || passed >= Math.floor(allowed)) return
        last = said
        passed++
        onProgress(progress)
      }
    })
  }

  async relink(request: RelinkRequest, options?: CallOptions): Promise<void> {
    await this.#call('relink', request, options)
  }

  async open(request: OpenRequest, options?: CallOptions): Promise<OpenReply> {
    // A version that knows of no exact sessions answers null.
    return this.#checked(openReply, (await this.#call('open', request, options)) ?? {})
  }

  async close(sessionId: string, options?: CallOptions): Promise<void> {
    await this.#call('close', { sessionId }, options)
  }

  async renew(leaseId: string, options?: CallOptions): Promise<RenewReply> {
    return this.#checked(renewReply, await this.#call('renew', { leaseId }, options))
  }

  async release(leaseId: string, options?: CallOptions): Promise<void> {
    await this.#call('release', { leaseId }, options)
  }

  /** Ends the stream and with it every lease on it. */
  end(): void {
    this.#messages.abort(new Error('the source ended the lease'))
    this.#fail(new PeerLostError(this.peerId, 'the lease was ended here'))
  }

  async #callReserve(
    request: Parameters<typeof withCritical>[0],
    options: CallOptions | undefined
  ): Promise<unknown> {
    const timeoutMs = REQUEST_TIMEOUT_MS + MANIFEST_TIMEOUT_MS + (request.waitMs ?? 0)
    return await this.#call('reserve', withCritical(request), { timeoutMs, ...options })
  }

  async #call(
    type: string,
    body: object,
    { signal, timeoutMs = REQUEST_TIMEOUT_MS, silenceMs, onProgress }: CallOptions & ProgressOptions = {}
  ): Promise<unknown> {
    signal?.throwIfAborted()
    if (this.#lost) throw this.#lost
    const id = this.#nextId++
    let timer: NodeJS.Timeout | undefined
    let silence: NodeJS.Timeout | undefined
    let onAbort: (() => void) | undefined
    try {
      return await new Promise<unknown>((resolve, reject) => {
        const late = (what: string, ms: number) => () =>
          reject(new DeadlineError(`${this.peerId} ${what} '${type}' within ${Math.round(ms)} ms`))
        timer = setTimeout(late('did not answer', timeoutMs), timeoutMs)
        if (silenceMs !== undefined) silence = setTimeout(late('said nothing of', silenceMs), silenceMs)
        onAbort = () => reject(signal?.reason)
        signal?.addEventListener('abort', onAbort, { once: true })
        this.#pending.set(id, {
          resolve,
          reject,
          onProgress: progress => {
            silence?.refresh()
            onProgress?.(progress)
          }
        })
        this.#messages.send({ type, id, body }).catch(error => this.#fail(this.#asLost(error)))
      })
    } finally {
      clearTimeout(timer)
      clearTimeout(silence)
      if (onAbort) signal?.removeEventListener('abort', onAbort)
      this.#pending.delete(id)
    }
  }

  async #listen(): Promise<void> {
    try {
      for (;;) {
        const reply = await this.#messages.read(replyMessage)
        // A reply to a call that was given up is no longer waited for.
        const pending = this.#pending.get(reply.id)
        if (reply.type === 'progress') pending?.onProgress(reply.body)
        else if (reply.type === 'ok') pending?.resolve(reply.body)
        else pending?.reject(new RemoteError(this.peerId, reply.code, reply.reason))
      }
    } catch (error) {
      const lost = this.#asLost(error)
      this.#messages.abort(lost)
      this.#fail(lost)
    }
  }

  #checked<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
    try {
      return parseMessage(schema, body)
    } catch (cause) {
      const error = this.#asLost(cause)
      this.#messages.abort(error)
      throw error
    }
  }

  #asLost(error: unknown): PeerLostError {
    return new PeerLostError(this.peerId, `the lease stream to ${this.peerId} broke: ${messageOf(error)}`, {
      cause: error
    })
  }

  #fail(error: Error): void {
    if (this.#lost) return
    this.#lost = error
    for (const { reject } of this.#pending.values()) reject(error)
    this.#resolveEnded(error)
  }
}

import type { Stream } from '@libp2p/interface'
import type { z } from 'zod'
import { logger } from '../../models/log.ts'
import { LimitExceededError, NotUnderstoodError } from '../errors.ts'
import { JsonStream } from '../json-stream.ts'
import { messageOf, plainText } from '../text.ts'
import type { Transport } from '../transport.ts'
import { RefusedError } from './codes.ts'
import { MAX_LEASE_REQUESTS, MAX_LEASE_STREAMS } from './constants.ts'
import {
  type LoadProgress,
  type LoadRequest,
  type OpenReply,
  type OpenRequest,
  parseRequest,
  type RelinkRequest,
  type RenewReply,
  type Request,
  type ReserveReply,
  type ReserveRequest,
  requestMessage,
  type StandReply
} from './messages.ts'

const log = logger('edgeshard:lease')

/**
 * What a serving node decides. `peerId` is authenticated. A thrown {RefusedError} reaches the source with its code,
 * anything else as `internal`. Lease ids in requests are only those granted on the same stream.
 */
export interface LeaseHandlers {
  /** `signal` aborts when the source's stream ends: it no longer waits. */
  reserve(
    peerId: string,
    request: ReserveRequest,
    options: { signal: AbortSignal }
  ): ReserveReply | Promise<ReserveReply>
  /** The source stands beside the line of those who wait, until nobody is before it, its time is over or `signal` aborts. */
  stand(
    peerId: string,
    request: ReserveRequest,
    options: { signal: AbortSignal }
  ): StandReply | Promise<StandReply>
  /** Fetches what is missing and loads it. `signal` aborts when the lease ends. */
  load(
    peerId: string,
    request: LoadRequest,
    options: { signal: AbortSignal; onProgress: (progress: LoadProgress) => void }
  ): Promise<void>
  relink(peerId: string, request: RelinkRequest): void
  open(peerId: string, request: OpenRequest): Promise<OpenReply>
  close(peerId: string, sessionId: string): void | Promise<void>
  renew(peerId: string, leaseId: string): RenewReply
  /** The source released the lease, or its stream ended: everything under it goes. Called once per lease. */
  release(peerId: string, leaseId: string): void | Promise<void>
}

export async function serveLeases(
  transport: Transport,
  handlers: LeaseHandlers
): Promise<{ stop(): Promise<void> }> {
  const served = new Set<LeaseStream>()
  const unhandle = await transport.handle(
    transport.protocols.lease,
    (stream, peerId) => {
      const lease = new LeaseStream(transport, stream, peerId, handlers)
      served.add(lease)
      void lease.run().finally(() => served.delete(lease))
    },
    { maxInboundStreams: MAX_LEASE_STREAMS }
  )
  return {
    async stop() {
      await unhandle()
      for (const lease of served) lease.end(new Error('the node stops'))
    }
  }
}

/** One source's stream: its requests are answered side by side, its leases end with it. */
class LeaseStream {
  readonly #messages: JsonStream
  readonly #peerId: string
  readonly #handlers: LeaseHandlers
  readonly #ended = new AbortController()
  readonly #leases = new Set<string>()
  #requests = 0

  constructor(transport: Transport, stream: Stream, peerId: string, handlers: LeaseHandlers) {
    this.#messages = new JsonStream(stream, { onBytes: () => transport.touch(peerId) })
    this.#peerId = peerId
    this.#handlers = handlers
  }

  end(error: Error): void {
    this.#messages.abort(error)
  }

  async run(): Promise<void> {
    try {
      for (;;) {
        const request = await this.#understood(await this.#messages.read(requestMessage))
        if (request === null) continue
        if (++this.#requests > MAX_LEASE_REQUESTS) {
          throw new LimitExceededError(`more than ${MAX_LEASE_REQUESTS} requests at once`)
        }
        void this.#reply(request).finally(() => this.#requests--)
      }
    } catch (error) {
      this.#messages.abort(error instanceof Error ? error : new Error(String(error)))
      this.#ended.abort(error)
    }
    await Promise.allSettled([...this.#leases].map(leaseId => this.#release(leaseId)))
  }

  /** What needs a later version to be read is answered; what is malformed ends the stream. */
  async #understood(message: z.output<typeof requestMessage>): Promise<Request | null> {
    try {
      return parseRequest(message)
    } catch (error) {
      if (!(error instanceof NotUnderstoodError)) throw error
      const { id } = message
      await this.#messages.send({ type: 'failed', id, code: 'not-understood', reason: error.message })
      return null
    }
  }

  async #reply(request: Request): Promise<void> {
    const { id } = request
    try {
      const body = await this.#handle(request)
      await this.#messages.send({ type: 'ok', id, body: body ?? null })
    } catch (error) {
      const code = error instanceof RefusedError ? error.code : 'internal'
      await this.#messages
        .send({ type: 'failed', id, code, reason: plainText(messageOf(error)) })
        .catch(
          log
            .of('requestId' in request.body ? request.body.requestId : undefined)
            .passOver('a refusal was not taken; its stream has ended', { peerId: this.#peerId })
        )
    }
  }

  async #handle(request: Request): Promise<unknown> {
    const peerId = this.#peerId
    if (request.type === 'reserve') {
      const { stand, ...asked } = request.body
      const options = { signal: this.#ended.signal }
      if (stand === true) return await this.#handlers.stand(peerId, asked, options)
      const reply = await this.#handlers.reserve(peerId, asked, options)
      if (reply.type !== 'granted') return reply
      this.#leases.add(reply.leaseId)
      // The stream may have ended while the handler was deciding.
      if (this.#ended.signal.aborted) await this.#release(reply.leaseId)
      return reply
    }
    if (request.type === 'close') return await this.#handlers.close(peerId, request.body.sessionId)
    const { leaseId } = request.body
    if (!this.#leases.has(leaseId))
      throw new RefusedError('unknown-lease', `lease ${leaseId} is not on this stream`)
    switch (request.type) {
      case 'load':
        return await this.#handlers.load(peerId, request.body, {
          signal: this.#ended.signal,
          onProgress: body => {
            this.#messages
              .send({ type: 'progress', id: request.id, body })
              .catch(
                log.passOver('progress was not taken; the end of the stream ends the loading', { leaseId })
              )
          }
        })
      case 'relink':
        return this.#handlers.relink(peerId, request.body)
      case 'open':
        return await this.#handlers.open(peerId, request.body)
      case 'renew':
        return this.#handlers.renew(peerId, leaseId)
      case 'release':
        return await this.#release(leaseId)
    }
  }

  async #release(leaseId: string): Promise<void> {
    if (this.#leases.delete(leaseId)) await this.#handlers.release(this.#peerId, leaseId)
  }
}

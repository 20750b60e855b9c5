import { LEASE_RENEW_MS } from '../../../node/constants.ts'
import type { LeaseStream } from '../../../node/mesh/peers.ts'
import { OPEN_STREAM_TIMEOUT_MS, REQUEST_TIMEOUT_MS } from '../../../protocols/constants.ts'
import { DeadlineError, PeerLostError, RemoteError } from '../../../protocols/errors.ts'
import { MANIFEST_TIMEOUT_MS } from '../../../protocols/lease/constants.ts'
import type {
  LoadProgress,
  LoadRequest,
  OpenReply,
  OpenRequest,
  RelinkRequest,
  RenewReply,
  ReserveReply,
  ReserveRequest
} from '../../../protocols/lease/index.ts'
import { RefusedError } from '../../../protocols/lease/index.ts'
import { messageOf } from '../../../protocols/text.ts'
import { sleep } from './clock.ts'
import type { SimulatedNode } from './mesh.ts'
import type { Meeting } from './peers.ts'

interface CallOptions {
  signal?: AbortSignal
  timeoutMs?: number
}

/** Both ends of a lease stream, by the rules of protocols/lease: deadlines here, leases that end with it there. */
export class SimulatedLease implements LeaseStream {
  readonly peerId: string
  readonly ended: Promise<Error>
  readonly #from: SimulatedNode
  readonly #to: SimulatedNode
  readonly #pending = new Set<(error: Error) => void>()
  readonly #granted = new Set<string>()
  readonly #over = new AbortController()
  #resolveEnded!: (reason: Error) => void

  constructor(from: SimulatedNode, to: SimulatedNode) {
    this.#from = from
    this.#to = to
    this.peerId = to.id
    this.ended = new Promise(resolve => {
      this.#resolveEnded = resolve
    })
  }

  async connect(signal: AbortSignal): Promise<void> {
    const { mesh, id } = this.#from
    if (mesh.isGone(this.peerId) || mesh.isApart(id, this.peerId))
      throw new PeerLostError(this.peerId, 'it cannot be reached')
    await this.#call('connect', { signal, timeoutMs: OPEN_STREAM_TIMEOUT_MS }, async () => {})
  }

  async reserve(request: ReserveRequest, options: CallOptions = {}): Promise<ReserveReply> {
    const timeoutMs = REQUEST_TIMEOUT_MS + MANIFEST_TIMEOUT_MS + (request.waitMs ?? 0)
    return await this.#call('reserve', { timeoutMs, ...options }, async () => {
      const { serving } = this.#to
      const reply = await serving.reserve(this.#from.id, request, { signal: this.#over.signal })
      if (reply.type === 'granted') {
        this.#granted.add(reply.leaseId)
        if (this.#over.signal.aborted) await this.#release(reply.leaseId)
      }
      return reply
    })
  }

  async stand(request: ReserveRequest, options: CallOptions = {}): Promise<boolean> {
    const timeoutMs = REQUEST_TIMEOUT_MS + MANIFEST_TIMEOUT_MS + (request.waitMs ?? 0)
    return await this.#call('reserve', { timeoutMs, ...options }, async () => {
      const { serving } = this.#to
      const reply = await serving.stand(this.#from.id, request, { signal: this.#over.signal })
      return reply.type === 'first'
    })
  }

  async load(
    request: LoadRequest,
    {
      onProgress = () => {},
      ...options
    }: CallOptions & { timeoutMs: number; onProgress?: (progress: LoadProgress) => void }
  ): Promise<void> {
    await this.#call('load', options, () =>
      this.#to.serving.load(this.#from.id, request, { signal: this.#over.signal, onProgress })
    )
  }

  async relink(request: RelinkRequest, options: CallOptions = {}): Promise<void> {
    await this.#call('relink', options, async () => this.#to.serving.relink(this.#from.id, request))
  }

  async open(request: OpenRequest, options: CallOptions = {}): Promise<OpenReply> {
    return await this.#call('open', options, () => this.#to.serving.open(this.#from.id, request))
  }

  async close(sessionId: string, options: CallOptions = {}): Promise<void> {
    await this.#call('close', options, () => this.#to.serving.close(this.#from.id, sessionId))
  }

  async renew(leaseId: string, options: CallOptions = {}): Promise<RenewReply> {
    const timeoutMs = Math.min(REQUEST_TIMEOUT_MS, LEASE_RENEW_MS)
    return await this.#call('renew', { timeoutMs, ...options }, async () =>
      this.#to.serving.renew(this.#from.id, leaseId)
    )
  }

  async release(leaseId: string, options: CallOptions = {}): Promise<void> {
    await this.#call('release', options, () => this.#release(leaseId))
  }

  end(): void {
    this.#end('the lease was ended here')
  }

  /** The connection is gone. */
  break(): void {
    this.#end(`the lease stream to ${this.peerId} broke`)
  }

  #end(reason: string): void {
    if (this.#over.signal.aborted) return
    const error = new PeerLostError(this.peerId, reason)
    this.#over.abort(error)
    this.#from.peers.leases.delete(this)
    for (const reject of this.#pending) reject(error)
    this.#resolveEnded(error)
    for (const leaseId of this.#granted) void this.#release(leaseId)
  }

  async #release(leaseId: string): Promise<void> {
    if (this.#granted.delete(leaseId)) await this.#to.serving.release(this.#from.id, leaseId)
  }

  async #call<T>(
    what: Meeting,
    { signal, timeoutMs = REQUEST_TIMEOUT_MS }: CallOptions,
    work: () => Promise<T>
  ): Promise<T> {
    signal?.throwIfAborted()
    this.#over.signal.throwIfAborted()
    let timer: NodeJS.Timeout | undefined
    let giveUp: ((error: Error) => void) | undefined
    const onAbort = () => giveUp?.(signal?.reason)
    try {
      return await new Promise<T>((resolve, reject) => {
        giveUp = reject
        this.#pending.add(reject)
        signal?.addEventListener('abort', onAbort, { once: true })
        timer = setTimeout(
          () => reject(new DeadlineError(`${this.peerId} did not answer '${what}' within ${timeoutMs} ms`)),
          timeoutMs
        )
        this.#answered(what, work).then(resolve, reject)
      })
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      this.#pending.delete(giveUp!)
    }
  }

  async #answered<T>(what: Meeting, work: () => Promise<T>): Promise<T> {
    const { latencyMs } = this.#from.mesh
    await sleep(latencyMs)
    try {
      await this.#to.peers.meeting(what, this.#from.id)
      const answer = await work()
      await sleep(latencyMs)
      // What a peer that fell silent meanwhile says does not arrive.
      if (this.#from.mesh.isSilent(this.peerId) || this.#from.mesh.isDeaf(this.#from.id, this.peerId))
        return await new Promise(() => {})
      return answer
    } catch (error) {
      const code = error instanceof RefusedError ? error.code : 'internal'
      throw new RemoteError(this.peerId, code, messageOf(error))
    }
  }
}

import { randomUUID } from 'node:crypto'
import { EventEmitter } from 'node:events'
import type { LeaseState } from '../api.ts'
import { Claims } from './claims.ts'
import {
  bytesBeside,
  bytesOf,
  idleToEvict,
  type Lease,
  type LeaseRequest,
  MAX_LEASES,
  shardKey
} from './lease-room.ts'
import { Standings } from './standings.ts'

export type { Lease, LeaseRequest } from './lease-room.ts'
export { shardKey } from './lease-room.ts'

export interface LeaseTableInit {
  /** Memory for the weights, KV caches and working memory of all stages. */
  budgetBytes: number
  /** How long a lease lasts without a renewal. */
  termMs: number
  /** Milliseconds from any fixed moment; injected so that tests need not wait. */
  now: () => number
}

export interface LeaseTableEvents {
  /** The bytes that can be had have changed. */
  change: []
  /** A lease had to make room: an idle one, or one that yields. */
  evict: [lease: Lease]
}

export interface AcquireOptions {
  /** How long to stand in line where the memory is in use. @default 0 */
  waitMs?: number | undefined
  /** Leaves the line when it aborts. */
  signal?: AbortSignal | undefined
}

interface Waiting {
  requests: readonly LeaseRequest[]
  /** Since when its source wants it. */
  sinceMs: number
  untilMs: number
  settle(leases: Lease[] | undefined): void
}

/** Far more stages than a source has in use here at once: half of all that there may be. */
const MAX_LEASES_PER_SOURCE = MAX_LEASES / 2
/** Places in the line: a source has one for each model that it places. */
const MAX_WAITING_PER_SOURCE = 8
const MAX_WAITING = 256

/**
 * What this node has promised to sources: never more than its budget. Granting is synchronous, so two sources that
 * ask at the same time cannot both get the last byte. A lease that no session uses keeps its weights warm, but makes
 * room when another one needs it; one that is being recruited for or used never does unless it yields, so no source loses
 * what it builds on.
 *
 * A source that may wait stands in line, first come first served, and none overtakes: memory that frees itself bit by bit
 * reaches the large request too. A source that needs several devices stands beside the lines of all until it is the first on each
 * (standings.ts), so those that hold memory seldom wait for each other. A source that was refused after its wait and asks again is
 * where it was (claims.ts).
 */
export class LeaseTable {
  readonly events = new EventEmitter<LeaseTableEvents>()
  readonly #init: LeaseTableInit
  readonly #leases = new Map<string, Lease>()
  readonly #claims: Claims
  readonly #standings = new Standings()
  /** In the order in which sources have wanted memory, the longest first. */
  #line: Waiting[] = []
  #idleCount = 0
  #budgetBytes: number

  constructor(init: LeaseTableInit) {
    this.#init = init
    this.#claims = new Claims(init.now)
    this.#budgetBytes = init.budgetBytes
  }

  get budgetBytes(): number {
    return this.#budgetBytes
  }

  /** Bytes that leases hold now, idle ones too. */
  get heldBytes(): number {
    return bytesOf([...this.#leases.values()])
  }

  /** The memory has turned out to be less. What is held stays; what waits for more than there is now is refused. */
  lowerBudget(bytes: number): void {
    if (bytes < this.#budgetBytes) this.resize(bytes)
  }

  /** There is so much memory from now on; nothing is said where that is what there was. See `lowerBudget`. */
  resize(bytes: number): void {
    if (bytes === this.#budgetBytes) return
    this.#budgetBytes = bytes
    const never = this.#line.filter(({ requests }) => bytesOf(requests) > bytes)
    this.#line = this.#line.filter(waiting => !never.includes(waiting))
    for (const { settle } of never) settle(undefined)
    this.#standings.refuse(requests => bytesOf(requests) > bytes)
    this.#changed()
  }

  /** How long a lease lasts without a renewal, in ms. */
  get termMs(): number {
    return this.#init.termMs
  }

  /** What a new lease can have: budget that no lease holds, or only idle ones, and that no source stands in line for. */
  get freeBytes(): number {
    const held = [...this.#leases.values()].filter(({ idleSince }) => idleSince === undefined)
    const wanted = this.#line.flatMap(({ requests }) => requests)
    return bytesBeside([...held, ...wanted], this.#budgetBytes)
  }

  /** What a new lease can have without the end of any other, idle or not, and that no source stands in line for. */
  get unheldBytes(): number {
    const wanted = this.#line.flatMap(({ requests }) => requests)
    return bytesBeside([...this.#leases.values(), ...wanted], this.#budgetBytes)
  }

  /** Requests that stand in line. */
  get waiting(): number {
    return this.#line.length
  }

  /** Leases for all requests or for none: where they do not fit now (an exact fit is a fit) or others wait already. */
  reserve(requests: readonly LeaseRequest[]): Lease[] | undefined {
    return this.#line.length > 0 ? undefined : this.#grant(requests)
  }

  /**
   * Leases for all requests or for none, at once or within `waitMs`. Resolves to undefined where they do not fit, ever
   * or in time.
   */
  acquire(
    requests: readonly LeaseRequest[],
    { waitMs = 0, signal }: AcquireOptions = {}
  ): Promise<Lease[] | undefined> {
    const granted = this.reserve(requests)
    if (granted !== undefined || waitMs <= 0 || signal?.aborted || !this.#mayWait(requests)) {
      return Promise.resolve(granted)
    }
    return new Promise(resolve => {
      const leave = () => this.#leave(waiting)
      const [first] = requests
      const waiting: Waiting = {
        requests,
        sinceMs: first === undefined ? this.#init.now() : this.#claims.note(first.source, first.modelId),
        untilMs: this.#init.now() + waitMs,
        settle: leases => {
          signal?.removeEventListener('abort', leave)
          resolve(leases)
        }
      }
      signal?.addEventListener('abort', leave, { once: true })
      const behind = this.#line.findIndex(({ sinceMs }) => sinceMs > waiting.sinceMs)
      this.#line.splice(behind < 0 ? this.#line.length : behind, 0, waiting)
      this.events.emit('change')
    })
  }

  /**
   * Stands beside the line until `signal` aborts or `waitMs` are over, for a source that needs other devices as well: takes nothing
   * and holds up nobody in the line.
   *
   * @returns whether nobody is before it any more who has wanted memory for longer; false at once for more memory than there is, as
   * whoever stood for that would be before all others and never be told
   */
  async first(
    requests: readonly LeaseRequest[],
    { waitMs = 0, signal }: AcquireOptions = {}
  ): Promise<boolean> {
    const [one] = requests
    if (one === undefined) return true
    if (bytesOf(requests) > this.#budgetBytes) return false
    const sinceMs = this.#claims.note(one.source, one.modelId)
    const stander = { requests, sinceMs, untilMs: this.#init.now() + waitMs }
    // One that steps aside is back at once, and before others where it has wanted memory for longer.
    const isFirst = this.#standings.enter(stander, signal, () => this.#tellFirst())
    this.#tellFirst()
    return await isFirst
  }

  /** Marks a lease as used by a session, or as waiting for the next one. */
  setIdle(id: string, idle: boolean): void {
    const lease = this.#leases.get(id)
    if (lease === undefined) return
    // What was given back before it was used has not been had.
    if (!idle && lease.uses++ === 0) this.#claims.settle(lease.source, lease.modelId)
    lease.idleSince = idle ? (lease.idleSince ?? this.#idleCount++) : undefined
    this.#changed()
  }

  /** @returns false for a lease that is unknown or has expired. */
  renew(id: string): boolean {
    const lease = this.#leases.get(id)
    if (lease === undefined) return false
    lease.expiresAtMs = this.#init.now() + this.#init.termMs
    return true
  }

  release(id: string): Lease | undefined {
    const lease = this.#leases.get(id)
    if (this.#leases.delete(id)) this.#changed()
    return lease
  }

  /** Removes and returns the leases whose time is over; a source that has stood in line for too long is refused. */
  expire(): Lease[] {
    const now = this.#init.now()
    const expired = [...this.#leases.values()].filter(({ expiresAtMs }) => expiresAtMs <= now)
    for (const { id } of expired) this.#leases.delete(id)
    const late = this.#line.filter(({ untilMs }) => untilMs <= now)
    this.#line = this.#line.filter(waiting => !late.includes(waiting))
    for (const { requests, settle } of late) {
      // It may ask again, and has not come later for that.
      for (const { source, modelId } of requests) this.#claims.note(source, modelId)
      settle(undefined)
    }
    this.#standings.expire(now)
    if (expired.length + late.length > 0) this.#changed()
    else this.#tellFirst()
    return expired
  }

  /** True while a source holds a lease on the range. */
  isLeased(key: string): boolean {
    return [...this.#leases.values()].some(lease => shardKey(lease) === key)
  }

  /** How a model's leases are: one is recruited for or used, all wait for their next session, or there is none. */
  useOf(modelId: string): 'busy' | 'idle' | 'no' {
    const leases = [...this.#leases.values()].filter(lease => lease.modelId === modelId)
    if (leases.length === 0) return 'no'
    return leases.some(({ idleSince }) => idleSince === undefined) ? 'busy' : 'idle'
  }

  /** Ends all leases that wait for their next session. */
  evictAllIdle(): void {
    const idle = [...this.#leases.values()].filter(({ idleSince }) => idleSince !== undefined)
    for (const { id } of idle) this.#leases.delete(id)
    for (const lease of idle) this.events.emit('evict', lease)
    if (idle.length > 0) this.#changed()
  }

  /** Ends a model's leases, unless one of them is recruited for or used. @returns whether the model is without leases */
  evictIdle(modelId: string): boolean {
    if (this.useOf(modelId) === 'busy') return false
    const evicted = [...this.#leases.values()].filter(lease => lease.modelId === modelId)
    for (const { id } of evicted) this.#leases.delete(id)
    for (const lease of evicted) this.events.emit('evict', lease)
    if (evicted.length > 0) this.#changed()
    return true
  }

  state(sessions: (leaseId: string) => number): LeaseState[] {
    const now = this.#init.now()
    return [...this.#leases.values()].map(lease => ({
      id: lease.id,
      source: lease.source,
      modelId: lease.modelId,
      layers: lease.range,
      bytes: lease.weightBytes + lease.ownBytes,
      sessions: sessions(lease.id),
      expiresInMs: Math.max(0, lease.expiresAtMs - now)
    }))
  }

  #grant(requests: readonly LeaseRequest[]): Lease[] | undefined {
    const { termMs, now } = this.#init
    const grantedAtMs = now()
    const source = requests[0]?.source
    const ofSource = (lease: Lease) => lease.source === source && lease.idleSince === undefined
    const held = [...this.#leases.values()].filter(ofSource).length
    if (held + requests.length > MAX_LEASES_PER_SOURCE) return undefined
    const evicted = idleToEvict([...this.#leases.values()], requests, this.#budgetBytes, grantedAtMs)
    if (evicted === undefined) return undefined
    for (const { id } of evicted) this.#leases.delete(id)
    const leases = requests.map(
      (request): Lease => ({
        ...request,
        id: randomUUID(),
        grantedAtMs,
        expiresAtMs: grantedAtMs + termMs,
        uses: 0,
        idleSince: undefined
      })
    )
    for (const lease of leases) this.#leases.set(lease.id, lease)
    for (const lease of evicted) this.events.emit('evict', lease)
    this.events.emit('change')
    return leases
  }

  #mayWait(requests: readonly LeaseRequest[]): boolean {
    const source = requests[0]?.source
    const places = this.#line.filter(waiting => waiting.requests[0]?.source === source).length
    return (
      bytesOf(requests) <= this.#budgetBytes &&
      places < MAX_WAITING_PER_SOURCE &&
      this.#line.length < MAX_WAITING
    )
  }

  #leave(waiting: Waiting): void {
    if (!this.#line.includes(waiting)) return
    this.#line = this.#line.filter(other => other !== waiting)
    waiting.settle(undefined)
    this.#changed()
  }

  /** Grants to the head of the line for as long as it fits, then says that something is different. */
  #changed(): void {
    for (let head = this.#line.shift(); head !== undefined; head = this.#line.shift()) {
      const leases = this.#grant(head.requests)
      if (leases === undefined) {
        this.#line.unshift(head)
        break
      }
      head.settle(leases)
    }
    this.#tellFirst()
    this.events.emit('change')
  }

  #tellFirst(): void {
    // What is recruited for may be held for as long as its source waits for other devices; what is used, for an answer.
    const recruited = [...this.#leases.values()].filter(
      ({ uses, idleSince, yields }) => uses === 0 && idleSince === undefined && yields !== true
    )
    const told = this.#standings.look(
      this.#line[0]?.sinceMs ?? Number.POSITIVE_INFINITY,
      requests => bytesOf([...recruited, ...requests]) <= this.#budgetBytes
    )
    for (const { source, modelId } of told?.requests ?? []) this.#claims.isFirst(source, modelId)
  }
}

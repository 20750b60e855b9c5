import { LEASE_TERM_MS } from '../../../node/constants.ts'
import { type LeaseRequest, LeaseTable } from '../../../node/stage/lease-table.ts'
import { REQUEST_TIMEOUT_MS } from '../../../protocols/constants.ts'
import { DeadlineError, PeerLostError } from '../../../protocols/errors.ts'
import type { Random } from '../../protocols/mutate.ts'
import type { SimulatedTime } from './simulated-time.ts'

/** Bytes of a range's weights: in the simulation its start says which model it is of, its end how large. */
export const weightBytesOf = (range: readonly [number, number]) => range[1] - range[0]

/** What a stream from one source to one server has at the server. */
interface Served {
  ended: AbortController
  leases: Set<string>
}

/** A serving node: the real table of leases, the rules of protocols/lease/server.ts around it, and crashes. */
export class SimulatedServer {
  readonly id: string
  readonly budgetBytes: number
  readonly time: SimulatedTime
  table: LeaseTable
  /** Counts the lives: nothing from before a crash reaches the next one. */
  life = 0
  up = true
  #served = new Set<Served>()
  #busy = new Set<string>()
  readonly violations: string[] = []

  constructor(id: string, budgetBytes: number, time: SimulatedTime) {
    this.id = id
    this.budgetBytes = budgetBytes
    this.time = time
    this.table = this.#newTable()
  }

  crash(downMs: number): void {
    this.up = false
    this.life++
    for (const { ended } of this.#served) ended.abort(new Error('the server crashed'))
    this.#served.clear()
    this.#busy.clear()
    this.table = this.#newTable()
    this.time.at(downMs, () => {
      this.up = true
    })
  }

  async reserve(stream: Served, request: LeaseRequest, waitMs: number): Promise<string | undefined> {
    const { table } = this
    const [lease] = (await table.acquire([request], { waitMs, signal: stream.ended.signal })) ?? []
    if (lease === undefined) return undefined
    stream.leases.add(lease.id)
    if (stream.ended.signal.aborted) table.release(lease.id)
    return lease.id
  }

  /** @returns false where the lease is over */
  use(leaseId: string, inUse: boolean): boolean {
    if (!this.table.state(() => 0).some(({ id }) => id === leaseId)) return false
    if (inUse) this.#busy.add(leaseId)
    else this.#busy.delete(leaseId)
    this.table.setIdle(leaseId, !inUse)
    return true
  }

  expire(): void {
    for (const { id } of this.table.expire()) this.#busy.delete(id)
  }

  opened(): Served {
    const served = { ended: new AbortController(), leases: new Set<string>() }
    this.#served.add(served)
    return served
  }

  end(stream: Served): void {
    this.#served.delete(stream)
    stream.ended.abort(new Error('the source ended the stream'))
    for (const id of stream.leases) {
      this.#busy.delete(id)
      this.table.release(id)
    }
  }

  #newTable(): LeaseTable {
    const table = new LeaseTable({
      budgetBytes: this.budgetBytes,
      termMs: LEASE_TERM_MS,
      now: () => this.time.nowMs
    })
    table.events.on('change', () => this.#check())
    table.events.on('evict', ({ id }) => {
      if (this.#busy.has(id)) this.violations.push(`${this.id} took a lease that was in use`)
    })
    return table
  }

  /** Adds up what is granted, independently of how the table does it. */
  #check(): void {
    const ranges = new Map<string, number>()
    let bytes = 0
    for (const { modelId, layers, bytes: all } of this.table.state(() => 0)) {
      const weightBytes = weightBytesOf(layers)
      ranges.set(`${modelId} ${layers}`, weightBytes)
      bytes += all - weightBytes
    }
    for (const weightBytes of ranges.values()) bytes += weightBytes
    if (bytes > this.budgetBytes) this.violations.push(`${this.id} granted ${bytes} of ${this.budgetBytes}`)
  }
}

/** How bad the network is. */
export interface Weather {
  /** Share of the messages that never arrive. */
  loss: number
  maxDelayMs: number
}

/** A source's lease stream to a server over a network that delays and loses, in order. */
export class SimulatedStream {
  readonly server: SimulatedServer
  readonly #random: Random
  readonly #weather: Weather
  readonly #life: number
  readonly #served: Served
  #lastArrivalMs = 0
  #ended = false

  constructor(server: SimulatedServer, random: Random, weather: Weather) {
    this.server = server
    this.#random = random
    this.#weather = weather
    this.#life = server.life
    this.#served = server.opened()
  }

  /** @throws {DeadlineError} {PeerLostError} as the real stream does */
  async call<T>(
    handle: (server: SimulatedServer, stream: Served) => T | Promise<T>,
    { timeoutMs = REQUEST_TIMEOUT_MS, signal }: { timeoutMs?: number; signal: AbortSignal }
  ): Promise<T> {
    const { server } = this
    const { time } = server
    return await new Promise<T>((resolve, reject) => {
      const onAbort = () => reject(signal.reason)
      signal.addEventListener('abort', onAbort, { once: true })
      const answered = (settle: () => void) => {
        signal.removeEventListener('abort', onAbort)
        settle()
      }
      time.at(timeoutMs, () => answered(() => reject(new DeadlineError(`${server.id} did not answer`))))
      this.#deliver(async () => {
        if (!this.#isAlive) {
          const lost = new PeerLostError(server.id, `${server.id} is gone`)
          return this.#reply(() => answered(() => reject(lost)))
        }
        const result = await handle(server, this.#served)
        if (this.#isAlive) this.#reply(() => answered(() => resolve(result)))
      })
    })
  }

  /** Where the end is lost, the server only notices that no lease is renewed. */
  end(): void {
    if (this.#ended) return
    this.#ended = true
    this.#deliver(() => {
      if (this.#isAlive) this.server.end(this.#served)
    })
  }

  get #isAlive(): boolean {
    return this.server.up && this.server.life === this.#life
  }

  #deliver(arrive: () => void): void {
    if (this.#random.next() < this.#weather.loss) return
    const { time } = this.server
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, time.nowMs + this.#delayMs())
    time.at(this.#lastArrivalMs - time.nowMs, arrive)
  }

  #reply(arrive: () => void): void {
    if (this.#random.next() >= this.#weather.loss) this.server.time.at(this.#delayMs(), arrive)
  }

  #delayMs(): number {
    return this.#random.next() * this.#weather.maxDelayMs
  }
}

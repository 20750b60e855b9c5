import { LEASE_RENEW_MS, WAIT_FOR_MEMORY_MS } from '../../../node/constants.ts'
import { BusyError, PlanRefusedError, StageLostError } from '../../../node/errors.ts'
import { type PlacingHistory, place } from '../../../node/source/placement/place.ts'
import { OfferRefusedError } from '../../../node/source/placement/recruit.ts'
import { reserveAll, type Standing } from '../../../node/source/placement/reserve.ts'
import type { LeaseRequest } from '../../../node/stage/lease-table.ts'
import { REQUEST_TIMEOUT_MS } from '../../../protocols/constants.ts'
import type { Random } from '../../protocols/mutate.ts'
import { type SimulatedServer, SimulatedStream, type Weather, weightBytesOf } from './simulated-server.ts'
import type { SimulatedTime } from './simulated-time.ts'

/** What a source wants to have loaded, one part on one server each. */
export interface Wish {
  modelId: string
  parts: { range: [number, number]; ownBytes: number }[]
}

interface Stage {
  stream: SimulatedStream
  leaseId: string
}

/** A model placed on servers for one source, kept for its next request. */
class Placed {
  readonly wish: Wish
  readonly stages: Stage[]
  ended = false

  constructor(wish: Wish, stages: Stage[]) {
    this.wish = wish
    this.stages = stages
  }

  end(): void {
    this.ended = true
    for (const { stream } of this.stages) stream.end()
  }
}

export interface SimulatedSourceInit {
  id: string
  servers: readonly SimulatedServer[]
  time: SimulatedTime
  random: Random
  weather: Weather
  /** How long a session of a request lasts. */
  answerMs: () => number
  loadMs: () => number
  /** How well a server suits it, as its links say: the same each time. @default none better than another */
  suits?: (server: SimulatedServer) => number
}

/** A source: real policy (place, reserveInOrder) over simulated servers, with a stand-in for the planner. */
export class SimulatedSource {
  readonly #init: SimulatedSourceInit
  #placed: Placed | undefined
  /** Several servers that it last waited for: a planner does not throw dice, and plans the same where nothing has changed. */
  readonly #waited = new Map<Wish, Map<string, Assignment>>()

  constructor(init: SimulatedSourceInit) {
    this.#init = init
  }

  /** One request, start to end. */
  async answer(wish: Wish, signal: AbortSignal): Promise<void> {
    const { time, answerMs } = this.#init
    let placed = this.#placed
    if (placed?.wish !== wish || placed.ended || !(await this.#open(placed, signal))) {
      this.giveBack()
      placed = await this.#deploy(wish, signal)
      if (!(await this.#open(placed, signal))) {
        placed.end()
        throw new StageLostError('a stage was lost before it was used', 'unknown')
      }
    }
    this.#placed = placed
    await time.sleep(answerMs(), signal)
    await Promise.allSettled(
      placed.stages.map(({ stream, leaseId }) =>
        stream.call(server => server.use(leaseId, false), { signal })
      )
    )
  }

  /** What is kept for the next request goes. */
  giveBack(): void {
    this.#placed?.end()
    this.#placed = undefined
  }

  /** A crash: its streams end, or no server hears of it. */
  crash(): void {
    const { random } = this.#init
    for (const { stream } of this.#placed?.stages ?? []) if (random.next() < 0.5) stream.end()
    if (this.#placed) this.#placed.ended = true
    this.#placed = undefined
  }

  async #open(placed: Placed, signal: AbortSignal): Promise<boolean> {
    const opened = placed.stages.map(({ stream, leaseId }) =>
      stream.call(server => server.use(leaseId, true), { signal }).catch(() => false)
    )
    return (await Promise.all(opened)).every(Boolean)
  }

  async #deploy(wish: Wish, signal: AbortSignal): Promise<Placed> {
    const { time, loadMs } = this.#init
    const { recruited } = await place({
      plan: async history => this.#plan(wish, history),
      recruit: async ({ servers, waitMs }) => {
        const stages: Stage[] = []
        let isRecruited = false
        this.#renewUntil(
          () => isRecruited,
          stages,
          () => {}
        )
        try {
          await reserveAll(
            servers.keys(),
            async (id, leftMs, until) => {
              stages.push(await this.#reserve(servers.get(id)!, leftMs, { signal, until }))
            },
            {
              waitMs,
              now: () => time.nowMs,
              sleep: (ms, signal) => time.sleep(ms, signal),
              stand: (id, leftMs) => this.#stand(servers.get(id)!, leftMs, signal)
            }
          )
          await time.sleep(loadMs(), signal)
          const placed = new Placed(wish, stages)
          this.#renewUntil(
            () => placed.ended,
            stages,
            () => placed.end()
          )
          return placed
        } catch (error) {
          for (const { stream } of stages) stream.end()
          if (error instanceof OfferRefusedError && waitMs > 0) throw new BusyError(error.message)
          throw error
        } finally {
          isRecruited = true
        }
      }
    })
    return recruited
  }

  /** Any servers that the parts fit on; where memory is in use, to be waited for. Knows what is free a little late. */
  #plan(wish: Wish, { refused, failed, failure }: PlacingHistory) {
    const { servers, random, suits = () => 0 } = this.#init
    const present = servers.filter(({ id, up }) => up && !failed.has(id))
    const offering = present.filter(({ id }) => !refused.has(id))
    const free = assign(
      wish,
      offering,
      ({ table }) => table.freeBytes * (0.9 + 0.2 * random.next()),
      suits,
      random
    )
    if (free) return { servers: free, waitMs: 0 }
    const waited = wish.parts.length > 1 ? this.#waited.get(wish) : undefined
    const all =
      waited !== undefined && [...waited.values()].every(({ server }) => present.includes(server))
        ? waited
        : assign(wish, present, ({ budgetBytes }) => budgetBytes, suits, random)
    if (all) {
      this.#waited.set(wish, all)
      return { servers: all, waitMs: WAIT_FOR_MEMORY_MS }
    }
    throw failure ?? new PlanRefusedError(`${wish.modelId} fits nowhere`)
  }

  async #reserve(
    { server, request }: Assignment,
    waitMs: number,
    { signal, until }: { signal: AbortSignal; until: AbortSignal }
  ): Promise<Stage> {
    // It may have crashed while it stood beside the lines.
    signal.throwIfAborted()
    const { id: source, random, weather } = this.#init
    const stream = new SimulatedStream(server, random, weather)
    try {
      const leaseId = await stream.call(
        (server, served) => server.reserve(served, { source, ...request }, waitMs),
        { timeoutMs: REQUEST_TIMEOUT_MS + waitMs, signal: AbortSignal.any([signal, until]) }
      )
      if (leaseId === undefined) throw new OfferRefusedError(server.id, `${server.id} has too little memory`)
      return { stream, leaseId }
    } catch (error) {
      stream.end()
      if (signal.aborted || error instanceof OfferRefusedError) throw error
      throw new StageLostError(`${server.id} did not reserve: ${error}`, server.id)
    }
  }

  /**
   * A stream that loses something is one whose connection breaks, which is noticed at once: nobody waits for the end of the time
   * that it may stand.
   */
  #stand({ server, request }: Assignment, waitMs: number, signal: AbortSignal): Standing {
    const { id: source, random, weather } = this.#init
    const stream = new SimulatedStream(server, random, { ...weather, loss: 0 })
    const first = new Promise<boolean>(resolve => {
      stream
        .call(
          ({ table }, { ended }) => {
            ended.signal.addEventListener('abort', () => resolve(false), { once: true })
            return table.first([{ source, ...request }], { waitMs, signal: ended.signal })
          },
          { timeoutMs: REQUEST_TIMEOUT_MS + waitMs, signal }
        )
        .then(resolve, () => resolve(false))
    })
    return { first, leave: () => stream.end() }
  }

  #renewUntil(isOver: () => boolean, stages: readonly Stage[], onLost: () => void): void {
    const { time } = this.#init
    const { signal } = new AbortController()
    const renew = () => {
      if (isOver()) return
      for (const { stream, leaseId } of stages) {
        stream
          .call(({ table }) => table.renew(leaseId), { signal })
          .then(kept => kept || onLost())
          .catch(onLost)
      }
      time.at(LEASE_RENEW_MS, renew)
    }
    time.at(LEASE_RENEW_MS, renew)
  }
}

interface Assignment {
  server: SimulatedServer
  request: Omit<LeaseRequest, 'source'>
}

/** A server for each part: the one that suits best, at random among equals, of those that seem to have room. */
function assign(
  { modelId, parts }: Wish,
  servers: readonly SimulatedServer[],
  room: (server: SimulatedServer) => number,
  suits: (server: SimulatedServer) => number,
  random: Random
): Map<string, Assignment> | undefined {
  const taken = new Map<string, Assignment>()
  for (const { range, ownBytes } of parts) {
    const weightBytes = weightBytesOf(range)
    const fitting = servers.filter(server => !taken.has(server.id) && room(server) >= weightBytes + ownBytes)
    if (fitting.length === 0) return undefined
    const best = Math.max(...fitting.map(suits))
    const server = random.pick(fitting.filter(server => suits(server) === best))
    taken.set(server.id, { server, request: { modelId, range, weightBytes, ownBytes } })
  }
  return taken
}

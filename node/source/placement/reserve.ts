import { delay } from '../../delay.ts'

/** How long a source stands where it is the first, while it is not on other devices, before it steps aside. */
const STANDOFF_MS = 2_000

export interface ReserveAllOptions {
  /** For all devices together, in ms. */
  waitMs: number
  now: () => number
  /** Waits so long by the clock of `now`, or rejects once the signal aborts. @default `delay` */
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>
  /** Stands beside a device's line for `waitMs` at most, without taking anything, until it leaves. */
  stand: (device: string, waitMs: number) => Standing
}

export interface Standing {
  /**
   * Resolves to true once nobody is before this source on the device who has wanted memory for longer, and to false when the time
   * is over, or where the device cannot tell. Never rejects.
   */
  first: Promise<boolean>
  leave(): void
}

/**
 * One attempt on one device. May wait for `waitMs` at most, and no longer than until `signal` aborts; rejects where it is refused.
 */
export type Reserve<R> = (device: string, waitMs: number, signal: AbortSignal) => Promise<R>

/**
 * Reserves on all devices or on none.
 *
 * A source that may wait for several stands beside all their lines at once, and takes nothing before it is the first on each: what
 * it held while others are before it elsewhere would be of use to nobody. Then it asks all of them at once. A device tells a second
 * one that it is the first, while that one stands there, only where it is before that one: so mostly, and not always, of two that
 * wait for each other none holds anything. Nor do they stand in each other's way for long: devices may have seen them come in another
 * order, and every STANDOFF_MS each steps aside where it is the first behind, in the order below, a device where it is not.
 *
 * Otherwise, and as soon as one device cannot tell, it asks one device after the other, in an order that is the same for every
 * source: by device id. A source that waits for memory then only ever holds memory of devices before the one it waits for, so no ring of
 * sources can wait for each other, and the one that is furthest always gets on.
 */
export async function reserveAll<R>(
  devices: Iterable<string>,
  reserve: Reserve<R>,
  { waitMs, now, sleep = delay, stand }: ReserveAllOptions
): Promise<Map<string, R>> {
  const untilMs = now() + waitMs
  const leftMs = () => Math.max(0, untilMs - now())
  const inOrder = [...new Set(devices)].sort()
  const mayStand = waitMs > 0 && inOrder.length > 1
  const row = new StandingRow(inOrder, { stand: device => stand(device, leftMs()), sleep })
  try {
    if (mayStand && (await row.firstOnAll())) return await reserveAtOnce(inOrder, reserve, leftMs())
    // It may wait for long from here on, and others would stand behind it wherever it was told that it is the first.
    row.leaveFrom(0)
    const reserved = new Map<string, R>()
    const { signal } = new AbortController()
    for (const device of inOrder) reserved.set(device, await reserve(device, leftMs(), signal))
    return reserved
  } finally {
    row.leaveFrom(0)
  }
}

/** A source beside the lines of several devices. */
class StandingRow {
  readonly #devices: readonly string[]
  readonly #stand: (device: string) => Standing
  readonly #sleep: (ms: number, signal: AbortSignal) => Promise<void>
  /** In the order of the devices. */
  readonly #standings: Standing[] = []
  /** Those of them that were told that nobody is before the source. */
  readonly #told = new Set<Standing>()

  /** @param devices in the order that is the same for every source */
  constructor(
    devices: readonly string[],
    init: {
      stand: (device: string) => Standing
      sleep: (ms: number, signal: AbortSignal) => Promise<void>
    }
  ) {
    this.#devices = devices
    this.#stand = init.stand
    this.#sleep = init.sleep
  }

  /** Resolves to whether the source is the first on all of them; false as soon as that is clear. */
  async firstOnAll(): Promise<boolean> {
    for (;;) {
      this.#enter()
      const isFirst = await this.#allWithin(STANDOFF_MS)
      if (isFirst !== undefined) return isFirst
      // Sources may wait for each other in a ring; one of them waits here for a device before one where it is the first. It steps aside
      // there for a moment and no longer: others are told meanwhile, and mostly it waits in no ring but for those before it.
      const at = this.#standings.findIndex(standing => !this.#told.has(standing))
      if (at < 0) return true
      this.leaveFrom(at + 1)
    }
  }

  leaveFrom(at: number): void {
    for (const { leave } of this.#standings.splice(at)) leave()
  }

  /** Stands on those where it does not. */
  #enter(): void {
    for (const device of this.#devices.slice(this.#standings.length)) {
      const standing = this.#stand(device)
      this.#standings.push(standing)
      void standing.first.then(isFirst => {
        if (isFirst) this.#told.add(standing)
      })
    }
  }

  /** Whether all are told so, false as soon as one is not; undefined where some are told neither in time. */
  async #allWithin(ms: number): Promise<boolean | undefined> {
    const known = new AbortController()
    const never = Promise.withResolvers<boolean>()
    for (const { first } of this.#standings) void first.then(isFirst => isFirst || never.resolve(false))
    const all = Promise.all(this.#standings.map(({ first }) => first)).then(told => told.every(Boolean))
    const late = this.#sleep(ms, known.signal).then(() => undefined)
    return await Promise.race([never.promise, all, late]).finally(() => known.abort())
  }
}

/** Rejects with what was refused first, once nothing is waited for any more. */
async function reserveAtOnce<R>(
  devices: readonly string[],
  reserve: Reserve<R>,
  waitMs: number
): Promise<Map<string, R>> {
  const refused = new AbortController()
  const asked = devices.map(async device => {
    try {
      return [device, await reserve(device, waitMs, refused.signal)] as const
    } catch (error) {
      refused.abort(error)
      throw error
    }
  })
  await Promise.allSettled(asked)
  if (refused.signal.aborted) throw refused.signal.reason
  return new Map(await Promise.all(asked))
}

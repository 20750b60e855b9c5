export interface ReserveAllOptions {
  /** For all devices together, in ms. */
  waitMs: number
  now: () => number
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
 * it held while others are before it elsewhere would be of use to nobody. Then it asks all of them at once. A device tells no second
 * one that it is the first while that one stands there, so no two that wait for each other hold anything.
 *
 * Otherwise, and as soon as one device cannot tell, it asks one device after the other, in an order that is the same for every
 * source: by device id. A source that waits for memory then only ever holds memory of devices before the one it waits for, so no ring of
 * sources can wait for each other, and the one that is furthest always gets on.
 */
export async function reserveAll<R>(
  devices: Iterable<string>,
  reserve: Reserve<R>,
  { waitMs, now, stand }: ReserveAllOptions
): Promise<Map<string, R>> {
  const untilMs = now() + waitMs
  const leftMs = () => Math.max(0, untilMs - now())
  const inOrder = [...new Set(devices)].sort()
  const mayStand = waitMs > 0 && inOrder.length > 1
  const standings = mayStand ? inOrder.map(device => stand(device, waitMs)) : []
  try {
    if (mayStand && (await isFirstOnAll(standings))) return await reserveAtOnce(inOrder, reserve, leftMs())
    // It may wait for long from here on, and others would stand behind it wherever it was told that it is the first.
    for (const { leave } of standings) leave()
    const reserved = new Map<string, R>()
    const { signal } = new AbortController()
    for (const device of inOrder) reserved.set(device, await reserve(device, leftMs(), signal))
    return reserved
  } finally {
    for (const { leave } of standings) leave()
  }
}

/** Resolves to false once one of them has: what is left of the time is for asking then. */
async function isFirstOnAll(standings: readonly Standing[]): Promise<boolean> {
  const never = Promise.withResolvers<boolean>()
  for (const { first } of standings) void first.then(isFirst => isFirst || never.resolve(false))
  const all = Promise.all(standings.map(({ first }) => first)).then(each => each.every(Boolean))
  return await Promise.race([never.promise, all])
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

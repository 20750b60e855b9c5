/**
 * Reserves on one device after the other, in an order that is the same for every source: by device id. A source that
 * waits for memory then only ever holds memory of devices before the one it waits for, so no ring of sources can wait
 * for each other, and the one that is furthest always gets on.
 *
 * @param reserve one attempt on one device; throws where it is refused. May wait for `waitMs` at most.
 * @param options `waitMs`: for all devices together
 */
export async function reserveInOrder<R>(
  devices: Iterable<string>,
  reserve: (device: string, waitMs: number) => Promise<R>,
  { waitMs, now }: { waitMs: number; now: () => number }
): Promise<Map<string, R>> {
  const untilMs = now() + waitMs
  const reserved = new Map<string, R>()
  for (const device of [...new Set(devices)].sort()) {
    reserved.set(device, await reserve(device, Math.max(0, untilMs - now())))
  }
  return reserved
}

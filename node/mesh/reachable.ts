/**
 * Devices to which a path of connections leads from `start`, which is among them. What `start` sees of its own connections
 * counts; any other one counts where both of its ends say that they have it: so nobody makes a device appear, and one is
 * gone when all that were connected to it say so.
 *
 * @param neighboursOf - whom each device says it is connected to
 * @param until - looks no further once this device is found
 */
export function reachable(
  start: string,
  own: Iterable<string>,
  neighboursOf: ReadonlyMap<string, ReadonlySet<string>>,
  until?: string
): Set<string> {
  const found = new Set([start, ...own])
  const open = [...found].slice(1)
  for (let device = open.pop(); device !== undefined; device = open.pop()) {
    for (const other of neighboursOf.get(device) ?? []) {
      if (found.has(other) || !neighboursOf.get(other)?.has(device)) continue
      found.add(other)
      if (other === until) return found
      open.push(other)
    }
  }
  return found
}

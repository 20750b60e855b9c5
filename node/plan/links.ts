/** Builds the matrix of links of a scenario. */
import { ScenarioError } from './errors.ts'
import type { Link } from './problem.ts'
import type { Scenario } from './scenario.ts'

/** The same in every figure, whichever pair it is of. */
const NO_LINK: Link = { mbps: 0, delayMs: 0 }

type Pair = Scenario['links']['pairs'][number]

/**
 * `links[from][to]` for every ordered pair: the default, replaced wholly by a `between` entry, replaced by a
 * `from`/`to` entry. Two that are not connected have a link of 0 Mbps.
 *
 * @throws ScenarioError for an unknown device, a pair given twice, or a pair without entry and default.
 */
export function buildLinks(
  links: Scenario['links'],
  devices: readonly { readonly id: string }[],
  indexOf: (id: string, path: string) => number
): Link[][] {
  const count = devices.length
  const withHop = ({ mbps, latencyMs }: { mbps: number; latencyMs: number }): Link => ({
    mbps,
    delayMs: latencyMs + links.hopOverheadMs
  })
  const fallback = links.default === undefined ? undefined : withHop(links.default)
  const matrix: (Link | undefined)[][] = Array.from({ length: count }, () => Array(count).fill(fallback))
  const bothWays = new Set<number>()
  const oneWay = new Set<number>()
  const set = (from: number, to: number, pair: Pair, path: string, given: Set<number>): void => {
    if (from === to) throw new ScenarioError(path, 'a device has no link to itself')
    if (given.has(from * count + to)) throw new ScenarioError(path, 'the same pair twice')
    given.add(from * count + to)
    ;(matrix[from] as (Link | undefined)[])[to] = 'connected' in pair ? NO_LINK : withHop(pair)
  }
  const directed: [number, Extract<Pair, { from: string }>][] = []
  links.pairs.forEach((pair, at) => {
    const path = `links.pairs[${at}]`
    if ('from' in pair) {
      directed.push([at, pair])
      return
    }
    const a = indexOf(pair.between[0], `${path}.between[0]`)
    const b = indexOf(pair.between[1], `${path}.between[1]`)
    set(a, b, pair, path, bothWays)
    set(b, a, pair, path, bothWays)
  })
  for (const [at, pair] of directed) {
    const path = `links.pairs[${at}]`
    set(indexOf(pair.from, `${path}.from`), indexOf(pair.to, `${path}.to`), pair, path, oneWay)
  }
  matrix.forEach((row, from) => {
    // A device has no link to itself: never read, but there.
    row[from] ??= NO_LINK
    row.forEach((link, to) => {
      if (link !== undefined) return
      const pair = `${JSON.stringify(devices[from]?.id)} to ${JSON.stringify(devices[to]?.id)}`
      throw new ScenarioError('links.default', `missing, and no entry for ${pair}`)
    })
  })
  return matrix as Link[][]
}

/**
 * Links between places: those of their devices, and within a device its own between processors, which has no delay.
 *
 * @param links between devices
 * @param counts of places of each device
 * @param ownMbps between places of one device, by device; not read where it has one
 */
export function linksOfPlaces(
  links: Link[][],
  counts: readonly number[],
  ownMbps: readonly number[]
): Link[][] {
  if (counts.every(count => count === 1)) return links
  const deviceOf = counts.flatMap((count, device) => Array<number>(count).fill(device))
  return deviceOf.map(from =>
    deviceOf.map(to => (from === to ? { mbps: ownMbps[from]!, delayMs: 0 } : links[from]![to]!))
  )
}

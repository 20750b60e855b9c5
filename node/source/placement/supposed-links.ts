import type { LinkState } from '../../api.ts'

/** A device whose links to fewer others were measured has shown nothing of itself: it may be those that are slow. */
const MIN_MEASURED = 2

/**
 * What is supposed of pairs that nobody has measured: in a large mesh most are none of those that the hour has room for.
 * The fastest that a device has sent to anyone, or got from anyone, is what its own end of a link takes, and a link is no
 * faster than the slower of its ends. Pairs of devices that have shown too little are left out.
 *
 * @param ids of the devices
 * @param source is measured with every device before a plan: nothing is supposed of it
 */
export function supposedLinks(
  ids: readonly string[],
  links: readonly LinkState[],
  source: string
): LinkState[] {
  const known = new Set(links.map(({ from, to }) => `${from} ${to}`))
  const sends = fastestBy(links, ({ from }) => from)
  const takes = fastestBy(links, ({ to }) => to)
  const others = ids.filter(id => id !== source)
  return others.flatMap(from =>
    others.flatMap(to => {
      const [out, into] = [sends.get(from), takes.get(to)]
      if (from === to || known.has(`${from} ${to}`) || out === undefined || into === undefined) return []
      const mbps = Math.min(out.mbps, into.mbps)
      return [{ from, to, mbps, rttMs: Math.max(out.rttMs, into.rttMs), spread: 1, ageMs: 0 }]
    })
  )
}

/** The largest rate and the shortest round trip of each device that enough was measured of. */
function fastestBy(links: readonly LinkState[], deviceOf: (link: LinkState) => string) {
  const grouped = Map.groupBy(links, deviceOf)
  return new Map(
    [...grouped]
      .filter(([, own]) => own.length >= MIN_MEASURED)
      .map(([id, own]) => {
        const mbps = Math.max(...own.map(link => link.mbps))
        return [id, { mbps, rttMs: Math.min(...own.map(link => link.rttMs)) }]
      })
  )
}

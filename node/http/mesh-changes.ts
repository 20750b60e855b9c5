import type { LinkState, MeshState } from '../api.ts'
import { afterEvent, type MeshEvent, type RestOfMesh } from '../mesh-events.ts'

/** What only says how much time has passed, or how often something was said. */
const TIMES: readonly string[] = ['ageMs', 'inAgeMs', 'lastSeenMs', 'expiresInMs', 'sequence']
/** Measurements, which are never twice the same, and by how much at least one has to be off what was told to be news. */
const TREMBLES: ReadonlyMap<string, number> = new Map([
  // A heartbeat waits for what the two devices do.
  ['rttMs', 1],
  ['mbps', 0.1],
  ['outMbps', 0.1],
  ['inMbps', 0.1],
  ['spread', 0.05]
])
/** Share of the larger one by which a measurement has to be off, besides. */
const NEWS_SHARE = 0.2
/** A link whose age is off by more than passing time explains was measured again. */
const REMEASURED_MS = 5_000

/**
 * What is to be said of the mesh to somebody who was told `before` of it `elapsedMs` ago: nothing of what follows from the
 * passing of time.
 */
export function changesBetween(before: MeshState, after: MeshState, elapsedMs: number): MeshEvent[] {
  return [
    ...peerChanges(before, after),
    ...linkChanges(before.links, after.links, elapsedMs),
    ...(differs(before.deployments, after.deployments)
      ? [{ type: 'plan', data: { deployments: after.deployments } } as const]
      : []),
    ...(differs(before.fetches, after.fetches)
      ? [{ type: 'load', data: { fetches: after.fetches } } as const]
      : []),
    ...restChanges(before, after)
  ]
}

/** What somebody knows of the mesh who knew `before` `elapsedMs` ago, and was told `events` now. */
export function toldOf(before: MeshState, events: readonly MeshEvent[], elapsedMs: number): MeshState {
  const links = before.links.map(link => ({ ...link, ageMs: link.ageMs + elapsedMs }))
  return events.reduce<MeshState>((mesh, event) => afterEvent(mesh, event)!, { ...before, links })
}

function peerChanges(before: MeshState, after: MeshState): MeshEvent[] {
  const known = new Map(before.peers.map(peer => [peer.peerId, peer]))
  const there = new Set(after.peers.map(({ peerId }) => peerId))
  return [
    ...(differs(before.self, after.self) ? [{ type: 'peer', data: { self: after.self } } as const] : []),
    ...after.peers
      .filter(peer => differs(known.get(peer.peerId), peer))
      .map(peer => ({ type: 'peer', data: { peer } }) as const),
    ...before.peers
      .filter(({ peerId }) => !there.has(peerId))
      .map(({ peerId }) => ({ type: 'peer', data: { gone: peerId } }) as const)
  ]
}

function linkChanges(
  before: readonly LinkState[],
  after: readonly LinkState[],
  elapsedMs: number
): MeshEvent[] {
  const keyOf = ({ from, to }: LinkState) => `${from} ${to}`
  const known = new Map(before.map(link => [keyOf(link), link]))
  const there = new Set(after.map(keyOf))
  const isNews = (link: LinkState) => {
    const old = known.get(keyOf(link))
    return differs(old, link) || Math.abs(old!.ageMs + elapsedMs - link.ageMs) > REMEASURED_MS
  }
  return [
    ...after.filter(isNews).map(link => ({ type: 'link', data: { link } }) as const),
    ...before
      .filter(link => !there.has(keyOf(link)))
      .map(({ from, to }) => ({ type: 'link', data: { gone: { from, to } } }) as const)
  ]
}

function restChanges(before: MeshState, after: MeshState): MeshEvent[] {
  const names = ['unreached', 'copies', 'leases', 'sessions', 'droppedFrames', 'prefixCache'] as const
  const changed = names.filter(name => differs(before[name], after[name]))
  if (changed.length === 0) return []
  const data = Object.fromEntries(changed.map(name => [name, after[name]])) as Partial<RestOfMesh>
  return [{ type: 'rest', data }]
}

function differs(before: unknown, after: unknown, name = ''): boolean {
  if (typeof before === 'number' && typeof after === 'number') return isNews(before, after, name)
  if (!isObject(before) || !isObject(after)) return before !== after
  const names = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...names].some(part => !TIMES.includes(part) && differs(before[part], after[part], part))
}

function isNews(before: number, after: number, name: string): boolean {
  const trembles = TREMBLES.get(name)
  if (trembles === undefined) return before !== after
  return Math.abs(after - before) > Math.max(trembles, NEWS_SHARE * Math.max(before, after))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

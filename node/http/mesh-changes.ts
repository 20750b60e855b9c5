import type { LinkState, MeshState } from '../api.ts'
import type { MeshEvent, RestOfMesh } from '../mesh-events.ts'

/** What only says how much time has passed, or how often something was said. */
const TIMES: readonly string[] = ['ageMs', 'inAgeMs', 'lastSeenMs', 'expiresInMs', 'sequence']
/** Measurements, which are never twice the same: two digits of them are news. */
const MEASURED: readonly string[] = ['rttMs', 'mbps', 'outMbps', 'inMbps', 'spread']
/** A link whose age is off by more than passing time explains was measured again. */
const REMEASURED_MS = 5_000

/**
 * What is to be said of the mesh to somebody who knows what it was `elapsedMs` before: nothing of what follows from the
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
  const names = ['unreached', 'copies', 'leases', 'sessions', 'droppedFrames'] as const
  const changed = names.filter(name => differs(before[name], after[name]))
  if (changed.length === 0) return []
  const data = Object.fromEntries(changed.map(name => [name, after[name]])) as Partial<RestOfMesh>
  return [{ type: 'rest', data }]
}

function differs(before: unknown, after: unknown): boolean {
  return JSON.stringify(before, essential) !== JSON.stringify(after, essential)
}

function essential(key: string, value: unknown): unknown {
  if (TIMES.includes(key)) return undefined
  return MEASURED.includes(key) && typeof value === 'number' ? Number(value.toPrecision(2)) : value
}

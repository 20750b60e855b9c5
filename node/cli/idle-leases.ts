import type { MeshState, NodeRecord } from '../api.ts'
import { allMemory } from '../record-processors.ts'

type Device = Pick<NodeRecord, 'peerId' | 'leases' | 'memory' | 'processors'>
type Lease = NodeRecord['leases'][number]
type Known = Pick<MeshState, 'self' | 'deployments' | 'leases'>

/**
 * True where nothing is computed on a lease now, so that its memory is anybody's who asks for it. That is certain of leases of
 * the node that is asked, and of those on it. One between two others counts as idle where its device says that all of its
 * memory can be had, that of each of its processors: a record does not say on which of them a lease is.
 */
export function isIdle(lease: Lease, device: Device, { self, deployments, leases }: Known): boolean {
  const { peerId } = device
  const own = peerId === self.peerId ? leases.filter(each => isSame(each, lease)) : []
  const placed = lease.source === self.peerId ? placedOn(peerId, lease, deployments) : []
  const sessions = [...own, ...placed].map(each => each.sessions)
  if (sessions.length > 0) return sessions.every(count => count === 0)
  // No lease says on which of its processors it is.
  const { budgetBytes, freeBytes } = allMemory(device)
  return freeBytes >= budgetBytes
}

function isSame(one: Lease, other: Lease): boolean {
  return (
    one.modelId === other.modelId &&
    one.source === other.source &&
    one.layers.every((layer, at) => layer === other.layers[at])
  )
}

/** Deployments that have the lease's layers there. */
function placedOn(peerId: string, { modelId, layers }: Lease, deployments: Known['deployments']) {
  return deployments.filter(
    deployment =>
      deployment.modelId === modelId &&
      [...deployment.plan.stages, ...(deployment.standby?.stages ?? [])].some(
        stage => stage.peerId === peerId && stage.layers.every((layer, at) => layer === layers[at])
      )
  )
}

import type { NodeRecord } from '../api.ts'

type Device = Pick<NodeRecord, 'peerId' | 'memory' | 'leases' | 'draining'>

/**
 * How much a plan could depend on the link between two devices: 2 where a deployment uses it now, 1 where one could, 0
 * where one of them gives no memory to stages.
 */
export function importanceOf(a: Device, b: Device): 0 | 1 | 2 {
  if (usesLink(a, b)) return 2
  return isOffered(a) && isOffered(b) ? 1 : 0
}

function isOffered({ memory, draining }: Device): boolean {
  return memory.budgetBytes > 0 && draining !== true
}

/** True where one is the source of the other's stage, or both have neighbouring stages of one source's model. */
export function usesLink(a: Device, b: Device): boolean {
  const isSource = (source: Device, holder: Device) =>
    holder.leases.some(lease => lease.source === source.peerId)
  if (isSource(a, b) || isSource(b, a)) return true
  return a.leases.some(one =>
    b.leases.some(
      other =>
        one.source === other.source &&
        one.modelId === other.modelId &&
        (one.layers[1] === other.layers[0] || other.layers[1] === one.layers[0])
    )
  )
}

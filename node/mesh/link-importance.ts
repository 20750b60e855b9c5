import type { NodeRecord } from '../api.ts'
import { allMemory } from '../record-processors.ts'

type Device = Pick<NodeRecord, 'peerId' | 'memory' | 'processors' | 'leases' | 'draining'>

/**
 * How much a plan could depend on the link between two devices: 2 where a deployment uses it now, 1 where one could, 0
 * where one of them gives no memory to stages.
 */
export function importanceOf(a: Device, b: Device): 0 | 1 | 2 {
  if (usesLink(a, b)) return 2
  return isOffered(a) && isOffered(b) ? 1 : 0
}

function isOffered(device: Device): boolean {
  return allMemory(device).budgetBytes > 0 && device.draining !== true
}

/** Those of some devices that have most memory for another stage, `most` of them at most. */
export function roomiest<T extends Pick<NodeRecord, 'memory' | 'processors'>>(
  devices: readonly T[],
  most: number
): T[] {
  return devices.toSorted((a, b) => allMemory(b).freeBytes - allMemory(a).freeBytes).slice(0, most)
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

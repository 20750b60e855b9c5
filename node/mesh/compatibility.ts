import { type Difference, differences, isNode, type ProtocolIds } from '../../protocols/versions.ts'
import type { Incompatibility } from './directory.ts'
import type { Identified } from './host.ts'

export interface CompatibilityNeeds {
  /** What this node speaks, and the version that it runs. */
  protocols: ProtocolIds
  version: string
  /** What the peer is called, as far as is known. */
  name: string
  /** The version that the peer's record says it runs, where it has one. */
  recordVersion: string | undefined
}

/**
 * Whether a peer and this node can work together: each protocol needs a version that both speak. Undefined where they
 * can; otherwise why not and which of the two to update, in the same words for every reader.
 */
export function incompatibilityOf(
  { protocols: spoken, version: said }: Identified,
  { protocols, version: own, name, recordVersion }: CompatibilityNeeds
): Incompatibility | undefined {
  const found = differences(spoken, protocols)
  if (found.length === 0) return undefined
  const version = said ?? recordVersion ?? 'unknown'
  if (!isNode(spoken)) {
    return {
      name,
      isNode: false,
      mute: true,
      version,
      reason: 'it speaks no protocol of edgeshard: it is no node'
    }
  }
  const advice = adviceFor(found, own)
  const reason = `version ${version}, ${advice}: ${found.map(differenceText).join('; ')}`
  // Without a membership in common it proves nothing to this node, which hears nothing else of it.
  const mute = found.some(({ protocol }) => protocol === 'directory' || protocol === 'membership')
  return { name, isNode: true, mute, version, reason }
}

/** The one that lacks the newer version of a protocol is the one to update. */
function adviceFor(found: readonly Difference[], own: string): string {
  const newer = found.some(({ own, theirs }) => theirs > own)
  const older = found.some(({ own, theirs }) => theirs < own)
  if (newer && older) return `update both it and this device, which runs ${own}`
  return newer ? `update this device, which runs ${own}` : 'update it'
}

function differenceText({ protocol, own, theirs }: Difference): string {
  return theirs === 0
    ? `it has no ${protocol} protocol`
    : `its ${protocol} protocol is ${theirs}, here it is ${own}`
}

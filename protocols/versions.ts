import { DIRECTORY_PROTOCOL, DIRECTORY_PROTOCOL_3 } from './directory/constants.ts'
import { LEASE_PROTOCOL } from './lease/constants.ts'
import { LINKS_PROTOCOL } from './links/constants.ts'
import { MEMBERSHIP_PROTOCOL } from './membership/constants.ts'
import { STAGE_PROTOCOL } from './stage/constants.ts'
import { WEIGHTS_PROTOCOL } from './weights/constants.ts'

/** Ids of every protocol that a node speaks, each protocol's newest first. */
export type ProtocolIds = Readonly<Record<ProtocolName, readonly [string, ...string[]]>>

export type ProtocolName = 'directory' | 'lease' | 'stage' | 'weights' | 'links' | 'membership'

/** What this version speaks. Two ids in one list: both are registered, and the newer one is offered first. */
export const PROTOCOLS: ProtocolIds = {
  directory: [DIRECTORY_PROTOCOL, DIRECTORY_PROTOCOL_3],
  lease: [LEASE_PROTOCOL],
  stage: [STAGE_PROTOCOL],
  weights: [WEIGHTS_PROTOCOL],
  links: [LINKS_PROTOCOL],
  membership: [MEMBERSHIP_PROTOCOL]
}

/** The rest of an id is the protocol's name and its version: `/edgeshard/lease/4`. */
const PREFIX = '/edgeshard/'

/** A protocol of which two peers have no version in common. */
export interface Difference {
  protocol: ProtocolName
  /** The newest version here, and at the peer; 0 where the peer speaks none at all. */
  own: number
  theirs: number
}

/**
 * Compares the protocols that a peer says it speaks with those of this node, all of them: a peer that lacks one is of
 * no use to it, however well the others go.
 *
 * @param spoken - protocol ids as the peer's identify message lists them; others than ours are passed over
 */
export function differences(spoken: readonly string[], ids: ProtocolIds = PROTOCOLS): Difference[] {
  return (Object.keys(ids) as ProtocolName[])
    .filter(protocol => !ids[protocol].some(id => spoken.includes(id)))
    .map(protocol => {
      const prefix = `${PREFIX}${protocol}/`
      const theirs = spoken.filter(id => id.startsWith(prefix)).map(versionOf)
      return { protocol, own: versionOf(ids[protocol][0]), theirs: Math.max(0, ...theirs) }
    })
}

/** True of a peer that speaks anything of ours, in whatever version. */
export function isNode(spoken: readonly string[]): boolean {
  return spoken.some(id => id.startsWith(PREFIX))
}

/** The number that an id ends in; 0 where it ends in none. */
function versionOf(id: string): number {
  const digits = /\/(\d{1,9})$/.exec(id)?.[1]
  return digits === undefined ? 0 : Number(digits)
}

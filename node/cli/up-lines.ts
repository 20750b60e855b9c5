import type { NodeInit } from '../index.ts'
import { hostAndPort } from '../mesh/contacts.ts'
import { shortId } from '../short-names.ts'
import { clean } from './format.ts'
import { withHome } from './home.ts'

type PeerEvent = Parameters<NonNullable<NodeInit['onPeer']>>[0]

const WHAT = {
  'peer:connect': '+ connected:',
  'peer:disconnect': '- gone:',
  'peer:suspect': '? silent, answers go round it:',
  'peer:recovered': '! speaks again:'
} as const

/** What became of a peer: `+ connected: laptop (AnayNkTo)`. Its id is as short as other commands have it. */
export function peerLine({ event, name, peerId }: PeerEvent): string {
  return `${WHAT[event]} ${clean(name)} (${shortId(peerId)})`
}

/**
 * What a person wants to know of a node that has started: where its page is, where the others reach it, and, while there is no
 * other one, how one is added.
 *
 * @param addresses multiaddrs that it listens at
 */
export function readyLines({
  name,
  url,
  peerId,
  addresses,
  alone,
  home
}: {
  name: string
  url: string
  peerId: string
  addresses: readonly string[]
  alone: boolean
  /** The home of the node. */
  home: string
}): string {
  const at = addresses.map(address => hostAndPort(address.replace(/\/p2p\/[^/]+$/, '')))
  return [
    `${clean(name)} is ready: ${url}`,
    `  it is ${shortId(peerId)} to the others, at ${at.join(', ')}`,
    ...(alone
      ? [`  to add a device: '${withHome('edgeshard pair', home)}' here, then 'edgeshard join' on that one`]
      : [])
  ].join('\n')
}

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
 * @param usualApiPort the API's port where nobody asked for one: that it is taken is said
 * @param usualPort the same of the port for peers
 */
export function readyLines({
  name,
  url,
  peerId,
  addresses,
  alone,
  home,
  usualApiPort,
  usualPort
}: {
  name: string
  url: string
  peerId: string
  addresses: readonly string[]
  alone: boolean
  /** The home of the node. */
  home: string
  usualApiPort?: number
  usualPort?: number
}): string {
  const at = addresses.map(address => hostAndPort(address.replace(/\/p2p\/[^/]+$/, '')))
  const isTaken = (port: number | undefined, all: readonly string[]) =>
    port !== undefined && all.length > 0 && all.every(each => !each.endsWith(`:${port}`))
  return [
    `${clean(name)} is ready: ${url}`,
    ...(isTaken(usualApiPort, [url]) ? [`  port ${usualApiPort} is taken; --api HOST:PORT chooses one`] : []),
    `  it is ${shortId(peerId)} to the others, at ${at.join(', ')}`,
    ...(isTaken(usualPort, at)
      ? [`  port ${usualPort} is taken; --port chooses one, for a firewall to let in`]
      : []),
    ...(alone
      ? [`  to add a device: '${withHome('edgeshard pair', home)}' here, then 'edgeshard join' on that one`]
      : [])
  ].join('\n')
}

import type { EdgeNode, NodeInit } from '../../node/index.ts'
import { type Nodes, until } from '../fixtures/nodes.ts'
import { SlowRelay } from '../node/mesh/slow-relay.ts'

/** A device that reaches the source through a relay, which passes so many Mbps each way, and is reached through it. */
export interface RelayedDevice {
  node: EdgeNode
  relay: SlowRelay
}

/** Starts one; resolves when the source is connected to it. */
export async function joinOver(
  nodes: Nodes,
  source: EdgeNode,
  init: Partial<NodeInit> & { name: string },
  mbps: number
): Promise<RelayedDevice> {
  const port = Number(/\/tcp\/(\d+)/.exec(source.addresses[0]!)![1])
  const relay = await SlowRelay.start(port, bytesPerSecond(mbps))
  const peers = [`/ip4/127.0.0.1/tcp/${relay.port}/p2p/${source.peerId}`]
  const node = await nodes.add({ ...init, peers, bundled: false })
  await until(() => source.mesh().peers.some(({ peerId, connected }) => peerId === node.peerId && connected))
  return { node, relay }
}

export function bytesPerSecond(mbps: number): number {
  return (mbps * 1e6) / 8
}

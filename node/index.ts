/**
 * EdgeShard: one device's node of a mesh that runs a large language model together.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { createNode } from 'edgeshard'
 *
 * const node = await createNode({ home: '/var/lib/edgeshard' })
 * const input = { kind: 'chat', messages: [{ role: 'user', content: 'What does a thermostat do?' }] } as const
 * for await (const event of node.generate({ input, temperature: 0 })) {
 *   if (event.type === 'text') process.stdout.write(event.text)
 * }
 * await node.stop()
 * ```
 */

import type { EdgeNode } from './api.ts'
import { startNode } from './node.ts'

export type * from './api.ts'
export * from './errors.ts'

export interface NodeInit {
  /** Directory for keys, settings and models; made when it does not exist. One node at a time. */
  home: string
  /**
   * What the others call this device.
   *
   * @default its host name
   */
  name?: string
  /**
   * TCP port for peers; the next free one when it is taken, any with 0.
   *
   * @default 7446
   */
  port?: number
  /**
   * Budget for the weights and KV caches of stages, in bytes.
   *
   * @default half of the device's memory (DEFAULT_MEMORY_SHARE)
   */
  memoryBytes?: number
  /**
   * Threads that compute.
   *
   * @default half of the logical cores, at least 1
   */
  threads?: number
  /** Multiaddrs of peers to connect to, besides those that are found. */
  peers?: string[]
  /**
   * Look for peers on the local network.
   *
   * @default true
   */
  mdns?: boolean
  /**
   * Put the bundled model into a store that has no model yet.
   *
   * @default true
   */
  bundled?: boolean
  /** Called when a peer has come or gone, has fallen silent, or speaks again before it was given up. */
  onPeer?: (event: {
    event: 'peer:connect' | 'peer:disconnect' | 'peer:suspect' | 'peer:recovered'
    peerId: string
    name: string
  }) => void
  /**
   * Called with one line for people: why nobody is found, which peer broke a protocol, what is fetched, who changed the
   * mesh.
   */
  onNotice?: (message: string) => void
}

/**
 * Starts this device's node: it finds its peers, serves layers to them and answers prompts, until it is stopped.
 *
 * @throws {HomeInUseError} when a node runs on that home already
 */
export function createNode(init: NodeInit): Promise<EdgeNode> {
  return startNode(init)
}

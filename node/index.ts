/**
 * EdgeShard: one device's node of a mesh that runs a large language model together.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { createNode } from 'edgeshard'
 *
 * await using node = await createNode({ home: '/var/lib/edgeshard' })
 * const messages = [{ role: 'user', content: 'What does a thermostat do?' }]
 * for await (const event of node.generate({ input: { kind: 'chat', messages }, temperature: 0 })) {
 *   if (event.type === 'text') process.stdout.write(event.text)
 * }
 * ```
 *
 * @example Errors have a stable `code`, and `outcomeOf` says which HTTP and exit status belongs to it:
 * ```ts
 * import { createNode, HomeInUseError, outcomeOf } from 'edgeshard'
 *
 * try {
 *   const node = await createNode({ home: '/var/lib/edgeshard', mdns: false })
 *   console.log(await node.models())
 *   await node.stop()
 * } catch (error) {
 *   if (error instanceof HomeInUseError) console.error('a node runs there already')
 *   process.exitCode = outcomeOf(error).exit
 * }
 * ```
 */

import { logger } from '../models/log.ts'
import type { EdgeNode, Speculate } from './api.ts'
import { NodeTooOldError } from './errors.ts'
import type { DeviceChoice } from './processor/choices.ts'

export type { LayerRange } from '../models/layers.ts'
export type * from '../models/manifest.ts'
export * from '../models/tokenizer/errors.ts'
export type { AnswerObserver } from './answers.ts'
export type * from './api.ts'
export { type ApiAccess, readApiFile } from './api-file.ts'
export * from './error-codes.ts'
export * from './errors.ts'
export { HomeInUseError, HomeUnwritableError } from './home-errors.ts'
export { AddressError, HomeFileError, NotOwnerError, OvertakenError } from './mesh/errors.ts'
export { METHODS, type Method } from './plan/problem.ts'
export type { ScenarioInput } from './plan/scenario.ts'
export type { DeviceChoice } from './processor/choices.ts'

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
   * Budget for the weights and KV caches of stages and what computing them takes, in bytes.
   *
   * @default half of the device's memory (DEFAULT_MEMORY_SHARE)
   */
  memoryBytes?: number
  /**
   * How much of that budget is for what conversations had in KV caches when others took their slots: who comes back to one
   * goes on from there. Of models with recurrent layers, and of layers on a GPU, nothing is kept.
   *
   * @default 0
   */
  prefixCacheBytes?: number
  /**
   * How much of the disk takes what has no room there, in files of `home` that only this process can read and that are removed when it ends.
   *
   * @default 0
   */
  prefixCacheDiskBytes?: number
  /**
   * What weights may take of the disk that other devices' answers would need here if one of their devices died; they come while
   * nothing else is done. 0: none.
   *
   * @default 4 GiB (DEFAULT_PREFETCH_BYTES)
   */
  prefetchBytes?: number
  /**
   * Threads that compute.
   *
   * @default half of the logical cores, at least 1
   */
  threads?: number
  /**
   * What computes stages. `auto`: the GPU where it was measured to be faster for prompts and for tokens; with it the first
   * start tries the GPU, if there may be one, in a process of its own.
   *
   * @default 'cpu'
   */
  device?: DeviceChoice
  /** What of `memoryBytes` is on the GPU; the CPU has the rest. @default 0.8 of what it was found to give */
  gpuMemoryBytes?: number
  /**
   * Check one answer of so many that peers helped to compute, at random, where all of the model's files are here: some of
   * its tokens are drawn again while nothing else is done here. 0: none.
   *
   * @default 50
   */
  verify?: number
  /** Addresses of peers to connect to, besides those that are found: `HOST:PORT`, or multiaddrs. */
  peers?: string[]
  /**
   * Look for peers on the local network.
   *
   * @default true
   */
  mdns?: boolean
  /**
   * Put the bundled model into the store where it is not there: false, never; true, also where the user has removed it.
   *
   * @default unless the user has removed it
   */
  bundled?: boolean
  /**
   * A prompt will come as soon as the node has started, for this model (name or id; absent: the default one): its
   * tokenizer, and where this device knows no other one its weights, are loaded meanwhile.
   */
  firstPrompt?: { model?: string | undefined }
  /**
   * How long a placed model stays loaded without requests, in ms; negative: until others need its memory.
   *
   * @default -1
   */
  keepAliveMs?: number
  /**
   * Whether tokens of answers are guessed ahead, where a request does not say: it changes none of them.
   *
   * @default 'off'
   */
  speculate?: Speculate
  /** Name or id of the model that drafts. @default one of the same vocabulary that is far smaller, if there is any */
  draft?: string
  /**
   * Whether answers are exact where a request does not say (`GenerateRequest`).
   *
   * @default false
   */
  exact?: boolean
  /**
   * Whether others stand by for answers where a request does not say (`GenerateRequest`).
   *
   * @default false
   */
  standby?: boolean
  /** Called when a peer has come or gone, has fallen silent, or speaks again before it was given up. */
  onPeer?: (event: {
    event: 'peer:connect' | 'peer:disconnect' | 'peer:suspect' | 'peer:recovered'
    peerId: string
    name: string
  }) => void
  /**
   * Called with one line for people: why no peer is found, which one broke a protocol or changed the mesh, what is
   * fetched.
   */
  onNotice?: (message: string) => void
}

const log = logger('edgeshard:node')

/** What a node needs of Node; the rest (`edgeshard/client`, `edgeshard/plan`) works from 20 on. */
const OLDEST_NODE = '22.18'

/**
 * Starts this device's node: it finds its peers, serves layers to them and answers prompts, until it is stopped.
 *
 * On Linux decode is 7 to 17 % faster with weights in huge pages, which glibc is told at a process's start: run the program with
 * `GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1048576` in its environment. The command line does so by itself.
 *
 * @throws {HomeInUseError} when a node runs on that home already, {HomeFileError} when one of its files is damaged,
 * {AddressError} for a peer's address that is none, {NodeTooOldError} below Node 22.18
 */
export async function createNode(init: NodeInit): Promise<EdgeNode> {
  if (isOlder(process.versions.node, OLDEST_NODE)) {
    throw new NodeTooOldError(
      `a node of EdgeShard needs Node ${OLDEST_NODE} or newer, this is ${process.versions.node}: start your program ` +
        'with a newer one, or run `npx edgeshard up`, which brings its own, and ask that with edgeshard/client'
    )
  }
  log.debug('node starting')
  // Loaded only now: an older Node cannot even load libp2p.
  const { startNode } = await import('./node.ts')
  return await startNode(init)
}

function isOlder(version: string, oldest: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const [oldestMajor = 0, oldestMinor = 0] = oldest.split('.').map(Number)
  return major < oldestMajor || (major === oldestMajor && minor < oldestMinor)
}

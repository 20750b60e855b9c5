/**
 * Gossipsub on real hosts in this process, over TCP, noise and yamux on loopback: `count` of them, each connected to some eight
 * others, with nothing else spoken than identify.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { noise } from '@chainsafe/libp2p-noise'
import { type GossipSub, gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { createLibp2p, type Libp2p } from 'libp2p'
import { prng } from '../fixtures/prng.ts'
import { GOSSIPSUB, TOPIC } from './gossipsub-simulated.ts'

/** As many as a device of a large mesh chooses (MESH_SIZE); as many choose it. */
const DIALS = 4
const SUBSCRIBED_LIMIT_MS = 60_000

type Host = Libp2p<{ pubsub: GossipSub }>

export class RealGossip {
  readonly #hosts: Host[] = []
  readonly #has = new Map<Host, Set<string>>()

  static async create(count: number): Promise<RealGossip> {
    const mesh = new RealGossip()
    for (let i = 0; i < count; i++) await mesh.#add()
    const random = prng(count)
    for (const [at, host] of mesh.#hosts.entries()) {
      const others = mesh.#hosts.filter((_, i) => i !== at)
      for (let i = 0; i < DIALS; i++) {
        const [other] = others.splice(Math.floor(random() * others.length), 1)
        await host.dial(other!.getMultiaddrs())
      }
    }
    const deadline = AbortSignal.timeout(SUBSCRIBED_LIMIT_MS)
    while (mesh.#hosts.some(({ services }) => services.pubsub.getSubscribers(TOPIC).length < DIALS))
      await delay(100, undefined, { signal: deadline })
    return mesh
  }

  get neighbours(): number[] {
    return this.#hosts.map(host => host.getPeers().length)
  }

  async publish(at: number, text: string): Promise<void> {
    await this.#hosts[at]!.services.pubsub.publish(TOPIC, new TextEncoder().encode(text))
  }

  /** Whether all but the one that published it have a text. */
  allHave(at: number, text: string): boolean {
    return this.#hosts.every((host, i) => i === at || this.#has.get(host)!.has(text))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#hosts.map(host => host.stop()))
  }

  async #add(): Promise<void> {
    const host = await createLibp2p({
      addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false },
      // All are at one address.
      connectionManager: { inboundConnectionThreshold: 1000, maxConnections: 100 },
      services: { identify: identify(), pubsub: gossipsub(GOSSIPSUB) }
    })
    this.#hosts.push(host)
    const has = new Set<string>()
    this.#has.set(host, has)
    host.services.pubsub.addEventListener('message', ({ detail }) =>
      has.add(Buffer.from(detail.data).toString())
    )
    host.services.pubsub.subscribe(TOPIC)
  }
}

/**
 * Gossipsub itself on simulated connections and a clock that is stopped: what its devices send, with the headers below it, and
 * when they have what others published. Messages are records that their device has signed, so it signs nothing itself.
 */
import { createHash } from 'node:crypto'
import { mock } from 'node:test'
import { type GossipSub, type GossipsubOpts, gossipsub, StrictNoSign } from '@libp2p/gossipsub'
import type { Connection, PeerId, Stream, Topology } from '@libp2p/interface'
import { defaultLogger } from '@libp2p/logger'
import { peerIdFromString } from '@libp2p/peer-id'
import { multiaddr } from '@multiformats/multiaddr'
import { BELOW_MESSAGE_BYTES } from '../node/mesh/simulated-relays.ts'

export const TOPIC = 'records'
/** A dial and the handshake, and what multistream says before a stream is open. */
const CONNECT_MS = 40

/** As the package has it by default, but for what messages that are signed already need not have. */
export const GOSSIPSUB: Partial<GossipsubOpts> = {
  globalSignaturePolicy: StrictNoSign,
  msgIdFn: ({ data }) => new Uint8Array(createHash('sha256').update(data).digest().subarray(0, 20)),
  fallbackToFloodsub: false,
  // The peer store's, which nothing here asks.
  tagMeshPeers: false
}

type Components = Parameters<ReturnType<typeof gossipsub>>[0]
type Sent = Parameters<Stream['send']>[0]
type Handler = (stream: Stream, connection: Connection) => void

interface Device {
  readonly peerId: PeerId
  readonly pubsub: GossipSub & { start(): Promise<void>; stop(): Promise<void> }
  readonly address: string
  readonly protocols: Map<string, Handler>
  topology: Topology | undefined
  sentBytes: number
  /** Texts that have come, each once. */
  readonly has: Set<string>
}

export class SimulatedGossip {
  readonly #devices = new Map<string, Device>()

  constructor() {
    mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: Date.now() })
  }

  get devices(): string[] {
    return [...this.#devices.keys()]
  }

  /** Bytes that a device has sent, in the mean. */
  get sentBytes(): number {
    const devices = [...this.#devices.values()]
    return devices.reduce((sum, { sentBytes }) => sum + sentBytes, 0) / devices.length
  }

  async add(id: string): Promise<void> {
    const at = this.#devices.size
    const peerId = peerIdFromString(id)
    const protocols = new Map<string, Handler>()
    const registrar = {
      handle: async (protocol: string, handler: Handler) => void protocols.set(protocol, handler),
      unhandle: async () => {},
      // Of each protocol the same one.
      register: async (_: string, topology: Topology) => {
        device.topology = topology
        return 'topology'
      },
      unregister: () => {}
    }
    const components = { peerId, registrar, logger: defaultLogger(), connectionManager: {}, peerStore: {} }
    const pubsub = gossipsub(GOSSIPSUB)(components as unknown as Components) as Device['pubsub']
    const address = `/ip4/10.0.${at >> 8}.${at & 255}/tcp/7446`
    const device: Device = {
      ...{ peerId, pubsub, address, protocols, topology: undefined },
      ...{ sentBytes: 0, has: new Set<string>() }
    }
    pubsub.addEventListener('message', ({ detail }) => device.has.add(Buffer.from(detail.data).toString()))
    this.#devices.set(id, device)
    await pubsub.start()
    pubsub.subscribe(TOPIC)
  }

  /** Connects two devices; `latencyMs` is one way. */
  connect(dialler: string, dialled: string, latencyMs: number): void {
    const [a, b] = [dialler, dialled].map(id => this.#devices.get(id)!) as [Device, Device]
    setTimeout(() => {
      const ends = {} as { a: Connection; b: Connection }
      const end = (own: Device, other: Device, direction: Connection['direction'], far: () => Connection) =>
        ({
          ...{ remotePeer: other.peerId, remoteAddr: multiaddr(other.address), direction, status: 'open' },
          newStream: async ([protocol]: string[]) => {
            const handler = other.protocols.get(protocol!)!
            const incoming = new Incoming()
            setTimeout(() => handler(incoming as unknown as Stream, far()), latencyMs)
            return outgoing(protocol!, own, data => setTimeout(() => incoming.push(data), latencyMs))
          }
        }) as unknown as Connection
      ends.a = end(a, b, 'outbound', () => ends.b)
      ends.b = end(b, a, 'inbound', () => ends.a)
      a.topology?.onConnect?.(b.peerId, ends.a)
      b.topology?.onConnect?.(a.peerId, ends.b)
    }, CONNECT_MS)
  }

  async publish(by: string, text: string): Promise<void> {
    await this.#devices.get(by)!.pubsub.publish(TOPIC, new TextEncoder().encode(text))
  }

  has(device: string, text: string): boolean {
    return this.#devices.get(device)!.has.has(text)
  }

  /** Lets so much time pass, or less where something is so before. @returns how much has passed, in ms; Infinity: it never was so */
  async pass(ms: number, until?: () => boolean): Promise<number> {
    for (let passedMs = 0; passedMs < ms; passedMs++) {
      if (until?.()) return passedMs
      mock.timers.tick(1)
      // What came is worked on before the next millisecond.
      await new Promise(setImmediate)
    }
    return until === undefined || until() ? ms : Number.POSITIVE_INFINITY
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#devices.values()].map(({ pubsub }) => pubsub.stop()))
    mock.timers.reset()
  }
}

/** The end of a stream that is written to. */
function outgoing(protocol: string, own: Device, deliver: (data: Sent) => void): Stream {
  return {
    ...{ protocol, status: 'open', addEventListener: () => {} },
    send: (data: Sent) => {
      own.sentBytes += data.byteLength + BELOW_MESSAGE_BYTES
      deliver(data)
      return true
    },
    close: async () => {},
    abort: () => {}
  } as unknown as Stream
}

/** The end of a stream that is read. */
class Incoming implements AsyncIterable<Sent> {
  readonly #queue: Sent[] = []
  #isClosed = false
  #wake = () => {}

  push(data: Sent): void {
    this.#queue.push(data)
    this.#wake()
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.#wake()
  }

  abort(): void {
    void this.close()
  }

  async *[Symbol.asyncIterator](): AsyncIterator<Sent> {
    while (!this.#isClosed) {
      const data = this.#queue.shift()
      if (data !== undefined) yield data
      else
        await new Promise<void>(resolve => {
          this.#wake = resolve
        })
    }
  }
}

import { noise } from '@chainsafe/libp2p-noise'
import { identify } from '@libp2p/identify'
import type { Connection, PeerId, PrivateKey, Stream } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p, type Libp2p } from 'libp2p'
import { logger } from '../../models/log.ts'
import { OPEN_STREAM_TIMEOUT_MS } from '../../protocols/constants.ts'
import { PeerLostError } from '../../protocols/errors.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { messageOf } from '../../protocols/text.ts'
import type { Transport } from '../../protocols/transport.ts'
import { PROTOCOLS, type ProtocolIds } from '../../protocols/versions.ts'
import { hostLogger } from '../log.ts'
import { AddressError } from './errors.ts'
import { HandshakePlaces, MAX_HANDSHAKES } from './handshake-places.ts'
import { ANY_IPV4, listenAddresses, reachable, withoutPeerId } from './host-addresses.ts'
import { withJoinedWrites } from './joined-writes.ts'
import { MdnsService } from './mdns-service.ts'
import { hostOf } from './peer-addresses.ts'
import { freePort } from './port.ts'
import { isSelfDial } from './self-dial.ts'
import { updateWindowSeldom } from './window-updates.ts'

const log = logger('edgeshard:mesh')

export interface HostInit {
  privateKey: PrivateKey
  /** 32 bytes derived from the mesh's secret; both sides of a connection must have the same. */
  prologue: Uint8Array
  /** TCP port; when it is taken the next free one; 0 for any. */
  port: number
  /** IP address to listen on. @default '0.0.0.0' */
  listen?: string
  /** mDNS service tag derived from the mesh's secret; undefined: no mDNS. */
  serviceTag: string | undefined
  /** @default MDNS_INTERVAL_MS */
  mdnsIntervalMs?: number
  /** Ids of the protocols that this node speaks. @default PROTOCOLS */
  protocols?: ProtocolIds
  /** What this node runs, for peers that cannot speak with it; `edgeshard/` and a version. */
  version?: string
  /** Peers that are not dialled. */
  banned?: (peerId: string) => boolean
  /** Whether a member was met at a host before, a multiaddr of an IP alone: its handshakes have places of their own. */
  isProvenHost?: (host: string) => boolean
  /** Who may speak other protocols than the membership's with this node. */
  gate: Gate
}

/** Judges who has proven that it was admitted to the mesh; the secret alone proves nothing. */
export interface Gate {
  /** Streams that the peer opens are served. */
  accepts(peerId: string): boolean
  /** Streams to the peer may be opened: it serves them. */
  hasMet(peerId: string): boolean
}

/** What the host learns; all ids are authenticated except in `onAnnounced`. */
export interface HostEvents {
  /** mDNS heard of a peer, again and again: all members answer every question. */
  onAnnounced(peerId: string, addresses: string[]): void
  onConnected(peerId: string): void
  onDisconnected(peerId: string): void
  /** The peer said where it listens, which protocols it speaks and what it runs. */
  onIdentified(peerId: string, peer: Identified): void
  /** A peer sent bytes. */
  onTouched(peerId: string): void
  /** A stream to a peer is wanted and there is no connection to it: resolves when there is one, or cannot be. */
  onNeeded?(peerId: string, signal: AbortSignal | undefined): Promise<void>
}

/** What a peer says of itself to every node it is connected to, whatever else the two have in common. */
export interface Identified {
  addresses: string[]
  /** Ids of the protocols that it speaks, foreign ones too. */
  protocols: string[]
  /** The version of edgeshard that it runs; undefined where it does not say. */
  version: string | undefined
}

/** A peer that was unplugged is found again within this time; at 1 s eight nodes would fill half a 1 Mbps link. */
export const MDNS_INTERVAL_MS = 10_000
/** Below libp2p's read buffer of 4 MiB, else pausing a fast stream resets it; 2 MiB is 100 MB/s at 20 ms. */
const MAX_STREAM_WINDOW_BYTES = 2 << 20
/**
 * Limit for one address. libp2p's 5 refuses nodes that start together on one device; a stranger's handshake costs a
 * millisecond or two before it fails, so a flood of them may take no more than a few percent of a processor.
 */
const INBOUND_CONNECTIONS_PER_SECOND = 20
const HANDSHAKE_TIMEOUT_MS = 4000
const DIAL_TIMEOUT_MS = 10_000
/** The one that stays, and while the peer closes them: a dial of an address, of a contact and of its own may meet. */
const MAX_CONNECTIONS_PER_PEER = 3

/** What identify says of the program: `edgeshard/0.2.0 node/24.0.0`. */
const PROGRAM = 'edgeshard'
const VERSION_OF = /^edgeshard\/([\w.+-]{1,40})(?: |$)/

/** Connections that others have begun, counted before anything is known of them. */
interface Arrivals {
  count: number
}

type Mdns = MdnsService<Parameters<ReturnType<typeof mdns>>[0]>

/**
 * The libp2p host: TCP, noise with the mesh's prologue, yamux, mDNS and identify, as facts about these libraries demand.
 * The only file that imports them. It neither dials nor speaks on its own: discovery and protocols do.
 */
export class Host implements Transport {
  readonly peerId: string
  readonly protocols: ProtocolIds
  readonly #node: Libp2p
  readonly #prologue: Uint8Array
  readonly #gate: Gate
  readonly #arrivals: Arrivals
  readonly #mdns: Mdns | undefined
  #events: HostEvents | undefined
  readonly #sentAtMs = new Map<string, number>()
  /** When leases, stages or weights opened a stream to a peer, or sent on one. */
  readonly #usedAtMs = new Map<string, number>()

  /** A host that does not listen yet: register the protocols' handlers, then `start()`. */
  static async create(init: HostInit): Promise<Host> {
    const listen = init.listen ?? ANY_IPV4
    const prologue = init.prologue.slice()
    const port = await freePort(init.port, listen)
    const interval = init.mdnsIntervalMs ?? MDNS_INTERVAL_MS
    const announcing =
      init.serviceTag === undefined
        ? undefined
        : new MdnsService(init.serviceTag, serviceTag => mdns({ interval, serviceTag }))
    const arrivals = { count: 0 }
    const node = await createNode({ ...init, prologue, listen, port }, arrivals, announcing)
    return new Host(node, { ...init, prologue }, arrivals, announcing)
  }

  private constructor(
    node: Libp2p,
    { protocols, prologue, gate }: HostInit,
    arrivals: Arrivals,
    announcing: Mdns | undefined
  ) {
    this.#node = node
    this.protocols = protocols ?? PROTOCOLS
    this.#mdns = announcing
    this.#prologue = prologue
    this.#gate = gate
    this.#arrivals = arrivals
    this.peerId = node.peerId.toString()
  }

  /**
   * Changes the prologue that handshakes need and the tag that mDNS uses. Connections that exist go on, and so do running
   * answers; which peers may keep theirs is the caller's to decide.
   */
  async rekey({ prologue, serviceTag }: { prologue: Uint8Array; serviceTag: string }): Promise<void> {
    // Noise keeps this array and reads it at every handshake.
    this.#prologue.set(prologue)
    await this.#mdns?.retag(serviceTag)
  }

  /** While `isQuiet`, mDNS does not ask who is there; it goes on answering. */
  quietWhile(isQuiet: () => boolean): void {
    this.#mdns?.quietWhile(isQuiet)
  }

  async start(events: HostEvents): Promise<void> {
    const node = this.#node
    this.#events = events
    this.#mdns?.onPeer(events.onAnnounced)
    node.addEventListener('peer:connect', ({ detail }) => events.onConnected(detail.toString()))
    node.addEventListener('peer:disconnect', ({ detail }) => {
      this.#sentAtMs.delete(detail.toString())
      this.#usedAtMs.delete(detail.toString())
      events.onDisconnected(detail.toString())
    })
    node.addEventListener('connection:open', ({ detail }) => this.#closeSecond(detail))
    node.addEventListener('peer:identify', ({ detail }) => {
      const { peerId, listenAddrs, protocols, agentVersion } = detail
      const addresses = listenAddrs.map(withoutPeerId)
      const version = VERSION_OF.exec(agentVersion ?? '')?.[1]
      events.onIdentified(peerId.toString(), { addresses, protocols, version })
    })
    await node.start()
  }

  /** Multiaddrs that others can dial, ending in this node's peer id. */
  get addresses(): string[] {
    return this.#node.getMultiaddrs().map(String)
  }

  /** Peers that are connected and may be spoken with. */
  get connected(): string[] {
    const peerIds = new Set(this.#node.getConnections().map(({ remotePeer }) => textOf(remotePeer)))
    return [...peerIds].filter(peerId => this.#gate.hasMet(peerId))
  }

  /** Where the peer is connected from or to. */
  addressesOf(peerId: string): string[] {
    return this.#connections(peerId).map(({ remoteAddr }) => withoutPeerId(remoteAddr))
  }

  /** Addresses at which this node reached the peer: those can be dialled again, a caller's own port cannot. */
  outboundAddresses(peerId: string): string[] {
    const outbound = this.#connections(peerId).filter(({ direction }) => direction === 'outbound')
    return outbound.map(({ remoteAddr }) => withoutPeerId(remoteAddr))
  }

  isConnected(peerId: string): boolean {
    return this.#connections(peerId).length > 0
  }

  /** It is connected and may be spoken with. */
  hasMet(peerId: string): boolean {
    return this.isConnected(peerId) && this.#gate.hasMet(peerId)
  }

  /**
   * Connects to the peer that answers at the addresses, or only to `peerId`. What is no multiaddr is passed over.
   *
   * @returns the peer id that the connection has authenticated
   */
  async dial(
    addresses: string[],
    peerId?: string,
    { timeoutMs } = { timeoutMs: DIAL_TIMEOUT_MS }
  ): Promise<string> {
    const suffix = peerId === undefined ? '' : `/p2p/${peerId}`
    const targets = addresses.flatMap(address => parsed(address + suffix) ?? [])
    if (targets.length === 0) throw new AddressError(`there is no address of ${peerId ?? 'anybody'} to dial`)
    const connection = await this.#node.dial(targets, { signal: AbortSignal.timeout(timeoutMs) })
    return connection.remotePeer.toString()
  }

  /**
   * Whether another one that answers at the address proves to have this node's own key: a copy of its home. Where a
   * connection arrives meanwhile it may be this node itself, behind a router that leads its own address back: unclear then.
   */
  async provesSelf(address: string): Promise<'yes' | 'no' | 'unclear'> {
    const before = this.#arrivals.count
    try {
      await this.dial([address])
      return 'no'
    } catch (error) {
      if (!isSelfDial(error)) return 'no'
      return this.#arrivals.count === before ? 'yes' : 'unclear'
    }
  }

  /** Drops the peer's connections at once. */
  disconnect(peerId: string, reason: Error): void {
    for (const connection of this.#connections(peerId)) connection.abort(reason)
  }

  async handle(...[ids, handler, options]: Parameters<Transport['handle']>): Promise<() => Promise<void>> {
    await this.#node.handle(
      [...ids],
      (stream, { remotePeer }) => {
        const peerId = remotePeer.toString()
        if (this.#isGated(ids) && !this.#gate.accepts(peerId)) stream.abort(new Error('it is not admitted'))
        else handler(this.#noting(stream, peerId, this.#isWork(ids)), peerId)
      },
      // With a handler registered, its options also decide how many streams may be opened.
      { ...options, maxOutboundStreams: options.maxInboundStreams }
    )
    return () => this.#node.unhandle([...ids])
  }

  async newStream(...[peerId, ids, options = {}]: Parameters<Transport['newStream']>) {
    if (this.#isWork(ids)) this.#usedAtMs.set(peerId, performance.now())
    if (!this.hasMet(peerId) && this.#isGated(ids)) await this.#events?.onNeeded?.(peerId, options.signal)
    const connection = this.#connections(peerId)[0]
    if (connection === undefined) throw new PeerLostError(peerId, `there is no connection to ${peerId}`)
    if (this.#isGated(ids) && !this.#gate.hasMet(peerId))
      throw new PeerLostError(peerId, `${peerId} has not proven that it was admitted to the mesh`)
    try {
      const stream = await connection.newStream([...ids], {
        ...options,
        signal: options.signal ?? AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)
      })
      // Over the peer's limit a stream arrives already reset, without an event.
      if (stream.status !== 'open') throw new Error(`the stream is ${stream.status}`)
      return this.#noting(stream, peerId, this.#isWork(ids))
    } catch (error) {
      if (options.signal?.aborted && options.signal.reason?.name === 'AbortError') throw error
      throw new PeerLostError(peerId, `no stream to ${peerId} for ${ids.join(' or ')}: ${messageOf(error)}`, {
        cause: error
      })
    }
  }

  /** Milliseconds since leases, stages or weights have used the connection; Infinity: they have not. */
  sinceUsedMs(peerId: string): number {
    return performance.now() - (this.#usedAtMs.get(peerId) ?? Number.NEGATIVE_INFINITY)
  }

  touch(peerId: string): void {
    this.#events?.onTouched(peerId)
  }

  sinceSentMs(peerId: string): number {
    return performance.now() - (this.#sentAtMs.get(peerId) ?? Number.NEGATIVE_INFINITY)
  }

  async stop(): Promise<void> {
    await this.#node.stop()
  }

  /** A heartbeat is only needed where nothing else was sent. */
  #noting(stream: Stream, peerId: string, isWork: boolean): Stream {
    updateWindowSeldom(stream)
    const send = stream.send.bind(stream)
    stream.send = data => {
      const now = performance.now()
      this.#sentAtMs.set(peerId, now)
      if (isWork) this.#usedAtMs.set(peerId, now)
      return send(data)
    }
    return stream
  }

  /** All protocols are behind the gate but the one that opens it. */
  #isGated(ids: readonly string[]): boolean {
    return !ids.every(id => this.protocols.membership.includes(id))
  }

  /** What a connection is kept for in a mesh where not all are connected. */
  #isWork(ids: readonly string[]): boolean {
    const { lease, stage, weights } = this.protocols
    return [...lease, ...stage, ...weights].some(id => ids.includes(id))
  }

  #connections(peerId: string): Connection[] {
    return this.#node
      .getConnections()
      .filter(({ remotePeer, status }) => status === 'open' && textOf(remotePeer) === peerId)
  }

  /**
   * When both sides dialled at once, the one with the smaller id keeps the older connection and closes the other. Of
   * one that does not the larger one keeps the newest: what a peer may do is counted per connection, and an older one
   * may lead nowhere since the peer changed its network.
   */
  #closeSecond(connection: Connection): void {
    const peerId = connection.remotePeer.toString()
    const others = this.#connections(peerId).filter(other => other !== connection)
    if (others.length > 0 && this.peerId < peerId)
      void connection
        .close()
        .catch(
          log.passOver('closing a second connection failed; the peer is reached by the first', { peerId })
        )
    else if (others.length >= MAX_CONNECTIONS_PER_PEER)
      others[0]!.abort(new Error('the peer has opened others'))
  }
}

const texts = new WeakMap<PeerId, string>()

/** A peer id's text, which the library encodes anew each time: everybody asks who is connected, again and again. */
function textOf(peerId: PeerId): string {
  let text = texts.get(peerId)
  if (text === undefined) {
    text = peerId.toString()
    texts.set(peerId, text)
  }
  return text
}

function parsed(text: string): Multiaddr | null {
  try {
    return multiaddr(text)
  } catch (error) {
    log.passOver('what is no address is not dialled')(error)
    return null
  }
}

function createNode(
  init: HostInit & { listen: string },
  arrivals: Arrivals,
  announcing?: Mdns
): Promise<Libp2p> {
  const places = new HandshakePlaces({ isProvenHost: init.isProvenHost ?? (() => false) })
  // Keys of other kinds have ids that no member takes from another one.
  const isForeign = (peerId: PeerId) => !isPeerId(peerId.toString())
  const deny = (peerId: PeerId) => isForeign(peerId) || (init.banned?.(peerId.toString()) ?? false)
  return createLibp2p({
    start: false,
    logger: hostLogger(),
    privateKey: init.privateKey,
    ...(init.version !== undefined && { nodeInfo: { name: PROGRAM, version: init.version } }),
    addresses: { listen: listenAddresses(init), announceFilter: reachable },
    transports: [tcp()],
    connectionEncrypters: [
      withJoinedWrites(noise({ prologueBytes: init.prologue }), connection => places.spoke(connection))
    ],
    streamMuxers: [yamux({ streamOptions: { maxStreamWindowSize: MAX_STREAM_WINDOW_BYTES } })],
    connectionGater: {
      denyDialPeer: deny,
      denyDialMultiaddr: () => false,
      denyInboundConnection: connection => {
        arrivals.count++
        connection.addEventListener('close', () => places.leave(connection))
        return !places.enter(connection, hostOf(connection.remoteAddr.toString()), error =>
          connection.abort(error)
        )
      },
      // Who is banned may say that it is no more: the membership protocol judges, before any other one.
      denyInboundEncryptedConnection: (peerId, connection) => {
        places.leave(connection)
        return isForeign(peerId)
      },
      denyOutboundEncryptedConnection: deny
    },
    // Its ping stands behind data on a slow link and then cuts it; the directory's heartbeat judges instead.
    connectionMonitor: { enabled: false },
    connectionManager: {
      inboundConnectionThreshold: INBOUND_CONNECTIONS_PER_SECOND,
      // The places are given out above, to those that come within the rate; one that was dropped counts here until it has ended.
      maxIncomingPendingConnections: 2 * MAX_HANDSHAKES,
      inboundUpgradeTimeout: HANDSHAKE_TIMEOUT_MS,
      // Redialling is discovery's.
      reconnectRetries: 0
    },
    // Not as `peerDiscovery`: libp2p would remember what strangers announce.
    services: { identify: identify(), ...(announcing && { mdns: announcing.service }) }
  })
}

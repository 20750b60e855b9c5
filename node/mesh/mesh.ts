import { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import type { BlobRef } from '../../models/manifest.ts'
import { createDirectoryService, type DirectoryService } from '../../protocols/directory/index.ts'
import { isViolation } from '../../protocols/errors.ts'
import { LeaseClient, serveLeases } from '../../protocols/lease/index.ts'
import { createLinkService } from '../../protocols/links/index.ts'
import { createMembershipService } from '../../protocols/membership/index.ts'
import { createStageLinks, type StageLinks } from '../../protocols/stage/index.ts'
import { plainText } from '../../protocols/text.ts'
import { createWeightsService, type WeightsService } from '../../protocols/weights/index.ts'
import type {
  LinkState,
  MembershipControl,
  MeshState,
  NodeCounters,
  NodeRecord,
  PeerName,
  UnreachedPeer
} from '../types.ts'
import { isAddress, splitAddress, writeContacts } from './contacts.ts'
import { DialNotices } from './dial-notices.ts'
import { Directory, type PeerEntry } from './directory.ts'
import type { DialFailure, Discovery } from './discovery.ts'
import { type FetchBlobOptions, fetchVerified } from './fetch.ts'
import { type Host, MDNS_INTERVAL_MS } from './host.ts'
import { InterfaceAnnouncer } from './interface-announcer.ts'
import { Introductions } from './introductions.ts'
import { LinkScheduler } from './link-scheduler.ts'
import { aged, LinkTable, linkMatrix } from './link-table.ts'
import { type Membership, meshKeys } from './membership.ts'
import type { MeshEvents, MeshHandlers, MeshInit } from './mesh-types.ts'
import { nodeRecordSchema } from './record.ts'
import { MeshRotation } from './rotation.ts'
import { encodeTicket, TICKET_TTL_MS } from './ticket.ts'
import { watchLoneliness, watchSilence } from './watch.ts'

/** After a frame, tokens are taken to flow for so long: links are not measured meanwhile. */
const TOKENS_FLOW_MS = 1000
/** Heartbeats that a round-trip time should rest on before a plan, and how they are got in a hurry. */
const RTT_SAMPLES_WANTED = 4
const RTT_PING_EVERY_MS = 30
const RTT_WAIT_MS = 500

/** One node's side of the mesh. */
export class Mesh implements MembershipControl {
  readonly events = new EventEmitter<MeshEvents>()
  readonly #links = new LinkTable()
  readonly #init: MeshInit
  readonly #host: Host
  readonly #membership: Membership
  readonly #discovery: Discovery
  readonly #directory: Directory
  readonly #watches: (() => void)[] = []
  readonly #services: { stop(): Promise<void> }[] = []
  /** Peers for which `connect` was emitted and `disconnect` was not. */
  readonly #introduced = new Set<string>()
  readonly #introductions = new Introductions()
  readonly #dialNotices: DialNotices
  #stage: StageLinks | undefined
  #weights: WeightsService | undefined
  #control: DirectoryService | undefined
  #rotation: MeshRotation | undefined
  #announcer: InterfaceAnnouncer | undefined
  #scheduler: LinkScheduler | undefined
  #stopped = false

  constructor(init: MeshInit, host: Host, membership: Membership, discovery: Discovery) {
    this.#init = init
    this.#host = host
    this.#membership = membership
    this.#discovery = discovery
    this.#dialNotices = new DialNotices(init.peers ?? [])
    this.#directory = new Directory({ ...init.record, peerId: host.peerId, sequence: 1, links: {} })
  }

  get peerId(): string {
    return this.#host.peerId
  }

  /** Multiaddrs that others can dial, ending in this node's peer id; empty before `start`. */
  get addresses(): string[] {
    return this.#host.addresses
  }

  /** This node's own record as the others get it. */
  get self(): NodeRecord {
    return { ...this.#directory.own, links: this.#links.row }
  }

  /** Peers that have said what they are, connected or lately so, by name. */
  get peers(): PeerEntry[] {
    return this.#directory.peers.map(entry => ({
      ...entry,
      addresses: this.#addressesOf(entry.record.peerId)
    }))
  }

  /** Members that others are connected to and this node dialled in vain. */
  get unreached(): UnreachedPeer[] {
    return this.#introductions.unreached(
      peerId =>
        peerId !== this.peerId &&
        !this.#host.isConnected(peerId) &&
        !this.isBanned(peerId) &&
        this.#discovery.isFailing(peerId)
    )
  }

  /** Streams of hidden states and tokens; only after `start`. */
  get stage(): StageLinks {
    return started(this.#stage)
  }

  get counters(): NodeCounters {
    return { ...started(this.#stage).counters, ...started(this.#weights).counters }
  }

  /** Serves the peers and looks for them. */
  async start(handlers: MeshHandlers): Promise<void> {
    const host = this.#host
    this.#stage = await createStageLinks(host, {
      allocate: (peerId, header) => handlers.stage.allocate(peerId, header),
      onFrame: (peerId, frame) => handlers.stage.onFrame(peerId, frame),
      onLost: (peerId, reason) => handlers.stage.onLost(peerId, reason),
      onTransfer: (peerId, bytes, ms) => this.#links.transferred(peerId, bytes, ms)
    })
    const links = await createLinkService(host, { isBusy: () => this.#tokensFlow })
    this.#scheduler = new LinkScheduler({
      peerId: host.peerId,
      service: links,
      table: this.#links,
      connected: () => host.connected,
      onMeasured: () => this.update({})
    })
    this.#weights = await createWeightsService(host, handlers.weights)
    this.#control = await createDirectoryService<NodeRecord>(host, {
      schema: nodeRecordSchema,
      own: () => this.self,
      onRecord: (peerId, record) => this.#onRecord(peerId, record),
      onRtt: (peerId, rttMs) => this.#directory.measured(peerId, rttMs),
      contacts: () =>
        host.connected.map(peerId => ({
          peerId,
          name: this.nameOf(peerId),
          addresses: this.#discovery.addressesOf(peerId)
        })),
      onContacts: (sender, contacts) => {
        this.#introductions.told(sender, contacts)
        for (const { peerId, addresses } of contacts)
          this.#discovery.hinted(peerId, addresses.filter(isAddress))
      },
      onError: (peerId, error) => {
        if (!isViolation(error)) return
        this.#notice(`${this.nameOf(peerId)} broke the directory protocol: ${plainText(error.message)}`)
      }
    })
    const membership = await createMembershipService(host, {
      onRotation: (peerId, rotation) => started(this.#rotation).onRotation(peerId, rotation)
    })
    this.#rotation = new MeshRotation(this.#membership, {
      home: this.#init.home,
      host,
      membership,
      onNotice: message => this.#notice(message),
      onKeys: async keys => {
        this.#announcer?.retag(keys.interfaceTag)
        await host.rekey(keys)
        this.#discovery.forgetRefusals()
      }
    })
    const leases = await serveLeases(host, handlers.leases)
    this.#services.push(this.#stage, this.#weights, this.#control, links, membership, leases)
    await host.start({
      onAnnounced: (peerId, addresses) => this.#discovery.heard(peerId, addresses),
      onConnected: peerId => this.#onConnected(peerId),
      onDisconnected: peerId => this.#onDisconnected(peerId),
      onListens: (peerId, addresses) => {
        this.#discovery.heard(peerId, addresses)
        this.#control?.announce()
      },
      onTouched: peerId => this.#directory.touched(peerId)
    })
    this.#discovery.start()
    this.#scheduler.start()
    this.#watches.push(
      watchSilence(this.#directory, {
        suspect: (peerId, suspect) => this.events.emit('suspect', peerId, suspect),
        gone: peerId => host.disconnect(peerId, new Error('the peer fell silent'))
      })
    )
    if (this.#init.mdns !== false) this.#announce()
  }

  /** Changes what this node says of itself; every peer hears of it. */
  update(change: Partial<Omit<NodeRecord, 'peerId' | 'sequence' | 'links'>>): void {
    this.#directory.update(change)
    this.#control?.announce()
    this.events.emit('change')
  }

  /** A peer's name, or a short form of its id. */
  nameOf(peerId: string): string {
    if (peerId === this.peerId) return this.self.name
    return this.#directory.get(peerId)?.record.name ?? peerId.slice(-8)
  }

  /**
   * Makes sure that the round-trip times to these peers rest on a few heartbeats, for a plan right after a connect.
   * Waits no longer than RTT_WAIT_MS; who does not answer keeps the value it has.
   */
  async measureRtt(peerIds: readonly string[], options: { signal?: AbortSignal } = {}): Promise<void> {
    const deadlineMs = performance.now() + RTT_WAIT_MS
    const missing = () =>
      peerIds.filter(id => this.#host.isConnected(id) && this.#directory.rttSamples(id) < RTT_SAMPLES_WANTED)
    while (missing().length > 0 && performance.now() < deadlineMs) {
      for (const peerId of missing()) this.#control?.ping(peerId)
      await delay(RTT_PING_EVERY_MS, undefined, options)
    }
  }

  /** Measures the links to these peers that were never measured; for a plan right after a connect. */
  async measureLinks(peerIds: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    await started(this.#scheduler).measureMissing(peerIds, signal)
  }

  /** The link matrix: every direction between connected members that one of its ends measured. */
  get links(): LinkState[] {
    const rows = new Map([[this.peerId, this.#links.row]])
    for (const { record, recordAgeMs, connected } of this.#directory.peers) {
      if (connected) rows.set(record.peerId, aged(record.links, recordAgeMs))
    }
    return linkMatrix(rows)
  }

  /** Opens a lease stream to a peer. When it ends, whoever ends it, the peer releases what was leased on it. */
  lease(peerId: string, options: { signal?: AbortSignal } = {}): Promise<LeaseClient> {
    return LeaseClient.connect(this.#host, peerId, options)
  }

  /**
   * Fetches a blob from the holders in turn, going on where one broke off. `put` stores and verifies it.
   *
   * @throws {BlobUnavailableError} naming every holder with its reason
   */
  fetchBlob(
    ref: BlobRef,
    holders: readonly string[],
    put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>,
    options: Omit<FetchBlobOptions, 'link'> = {}
  ): Promise<void> {
    const link = (peerId: string) => {
      const measured = this.links.find(({ from, to }) => from === peerId && to === this.peerId)
      const rttMs = this.#directory.get(peerId)?.rttMs ?? measured?.rttMs ?? 1
      return { rttMs, ...(measured && { mbps: measured.mbps }) }
    }
    return fetchVerified(started(this.#weights), ref, holders, put, { ...options, link })
  }

  /** A blob of unknown size, such as a manifest by its model's id, from one peer. Not verified. */
  fetchRaw(
    peerId: string,
    sha256: string,
    options: { maxBytes: number; signal?: AbortSignal }
  ): AsyncGenerator<Uint8Array> {
    return started(this.#weights).fetch(peerId, sha256, options)
  }

  /** A ticket that lets another device join this node's mesh. */
  invite(ttlMs: number = TICKET_TTL_MS): string {
    const { secret, epoch } = this.#rotation?.membership ?? this.#membership
    return encodeTicket({ secret, epoch, addresses: this.addresses, expiresAtMs: Date.now() + ttlMs })
  }

  /**
   * Changes the mesh's secret. Peers that are connected get the new one; everybody else, and `ban` in any case, is cut
   * off and needs a new ticket.
   */
  async rotate(
    options: { ban?: string | undefined } = {}
  ): Promise<{ reached: PeerName[]; missed: PeerName[] }> {
    const known = [...this.#discovery.contacts.keys()].filter(peerId => peerId !== options.ban)
    const { reached } = await started(this.#rotation).rotate(options)
    const named = (peerId: string) => ({ peerId, name: this.nameOf(peerId) })
    const missed = known.filter(peerId => !reached.includes(peerId) && !this.isBanned(peerId))
    return { reached: reached.map(named), missed: missed.map(named) }
  }

  /** Peers that are not let in. */
  get banned(): string[] {
    return (this.#rotation?.membership ?? this.#membership).banned
  }

  isBanned(peerId: string): boolean {
    return this.banned.includes(peerId)
  }

  /** Takes a peer off this node's ban list; it needs a new ticket to come back. */
  unban(peerId: string): Promise<void> {
    return started(this.#rotation).unban(peerId)
  }

  /** What `/api/mesh` says of the mesh itself. */
  state(): Omit<MeshState, 'leases' | 'deployments' | 'sessions' | 'droppedFrames'> {
    return {
      self: { ...this.self, addresses: this.addresses, counters: this.counters },
      peers: this.peers.map(({ record, connected, suspect, rttMs, lastSeenMs, addresses }) => ({
        ...record,
        connected,
        suspect,
        rttMs,
        lastSeenMs,
        addresses
      })),
      unreached: this.unreached,
      links: this.links
    }
  }

  /** A dial failed; people hear of it once, where it concerns them. */
  dialFailed(failure: DialFailure): void {
    const notice = this.#dialNotices.noticeOf(failure, peerId => this.nameOf(peerId))
    if (notice !== null) this.#notice(notice)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const end of this.#watches) end()
    this.#discovery.stop()
    this.#scheduler?.stop()
    await this.#announcer?.stop()
    await Promise.allSettled(this.#services.map(service => service.stop()))
    await this.#host.stop()
    await writeContacts(this.#init.home, this.#discovery.contacts).catch(() => {})
  }

  #onConnected(peerId: string): void {
    this.#discovery.heard(peerId, this.#host.outboundAddresses(peerId))
    this.#discovery.connected(peerId)
    this.#directory.connected(peerId)
    this.#scheduler?.connected(peerId)
    this.#control?.connected(peerId)
    this.#control?.announce()
  }

  #onDisconnected(peerId: string): void {
    const record = this.#directory.get(peerId)?.record
    this.#directory.disconnected(peerId)
    this.#scheduler?.disconnected(peerId)
    this.#control?.disconnected(peerId)
    this.#introductions.left(peerId)
    this.#discovery.disconnected(peerId)
    if (this.#stopped) return
    this.#control?.announce()
    if (this.#introduced.delete(peerId) && record) this.events.emit('disconnect', peerId, record)
    this.events.emit('change')
  }

  #onRecord(peerId: string, record: NodeRecord): void {
    if (!this.#host.isConnected(peerId)) return
    this.#directory.record(peerId, record)
    if (!this.#introduced.has(peerId)) {
      this.#introduced.add(peerId)
      this.events.emit('connect', peerId, record)
      void writeContacts(this.#init.home, this.#discovery.contacts).catch((error: Error) =>
        this.#notice(`peers could not be remembered: ${error.message}`)
      )
    }
    this.events.emit('change')
  }

  #announce(): void {
    const host = this.#host
    this.#announcer = new InterfaceAnnouncer({
      peerId: host.peerId,
      serviceTag: meshKeys((this.#rotation?.membership ?? this.#membership).secret).interfaceTag,
      intervalMs: this.#init.mdnsIntervalMs ?? MDNS_INTERVAL_MS,
      addresses: () => host.addresses.map(text => splitAddress(text).address),
      connected: () => host.connected,
      onPeer: (peerId, addresses) => this.#discovery.heard(peerId, addresses.filter(isAddress))
    })
    this.#announcer.start()
    this.#watches.push(
      watchLoneliness(
        () => !this.#stopped && host.connected.length === 0,
        why => this.#notice(why)
      )
    )
  }

  #addressesOf(peerId: string): string[] {
    const known = this.#discovery.addressesOf(peerId)
    return known.length > 0 ? known : this.#host.addressesOf(peerId)
  }

  get #tokensFlow(): boolean {
    return performance.now() - started(this.#stage).lastFrameAtMs < TOKENS_FLOW_MS
  }

  #notice(message: string): void {
    if (!this.#stopped) this.events.emit('notice', message)
  }
}

function started<T>(service: T | undefined): T {
  if (service === undefined) throw new Error('the mesh is not started')
  return service
}

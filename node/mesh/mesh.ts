import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { logger } from '../../models/log.ts'
import type { BlobRef } from '../../models/manifest.ts'
import { MAX_NAME_CHARS } from '../../protocols/directory/constants.ts'
import type { Timers } from '../../protocols/directory/index.ts'
import { createLeaseService, type LeaseClient, type LeaseService } from '../../protocols/lease/index.ts'
import { createLinkService } from '../../protocols/links/index.ts'
import { createStageStreams, type StageStreams } from '../../protocols/stage/index.ts'
import { plainText } from '../../protocols/text.ts'
import { isNode } from '../../protocols/versions.ts'
import { createWeightsService, type WeightsService } from '../../protocols/weights/index.ts'
import type { LinkState, MeshState, NodeCounters, NodeRecord, UnreachedPeer } from '../api.ts'
import { type FetchBlobOptions, fetchVerified } from '../weights/fetch.ts'
import { isListenAddress, splitAddress, writeContacts } from './contacts.ts'
import { Copies } from './copies.ts'
import { DialNotices } from './dial-notices.ts'
import { Directory, type FarSight, type KnownPeer } from './directory.ts'
import type { DialFailure, Discovery } from './discovery.ts'
import { type Host, type Identified, MDNS_INTERVAL_MS } from './host.ts'
import { InterfaceAnnouncer } from './interface-announcer.ts'
import { importanceOf, roomiest, usesLink } from './link-importance.ts'
import { aged, linkMatrix } from './link-matrix.ts'
import { Members, type MembersInit } from './members.ts'
import { meshKeys } from './membership.ts'
import type { MeshEvents, MeshHandlers, MeshInit } from './mesh-types.ts'
import { multicastProblems } from './multicast.ts'
import { MESH_SIZE } from './neighbourhood.ts'
import { OwnLinks } from './own-links.ts'
import { Pairing } from './pairing.ts'
import { type DoorInit, PairingDoor } from './pairing-door.ts'
import { Presence } from './presence.ts'
import { Reach } from './reach.ts'
import { Relays } from './relays.ts'
import { openName, sealName } from './sealed-name.ts'
import { reachedByOthers } from './secret-spread.ts'
import { isSignedBy } from './signing.ts'
import { Spaced } from './spaced.ts'
import { watchStarvation } from './starvation.ts'
import { watchLoneliness } from './watch.ts'

const log = logger('edgeshard:mesh')

/** After a frame, tokens are taken to flow for so long: links are not measured meanwhile. */
const TOKENS_FLOW_MS = 1000
/** A dial that shows whose identity an address has takes a small part of it. */
const MAX_PAUSE_MS = 2000
/** The round-trip time of a link that was never timed. */
const DEFAULT_RTT_MS = 1

/** A connection that was used so lately is kept. */
const USED_LATELY_MS = 60_000
/** What far devices say makes one change of so many. */
const FAR_NEWS_PAUSE_MS = 100
/** Of devices that are not connected so many are, and measured, right before a plan: those with most memory. */
const MEASURED_FAR = 4
/** With so many peers nobody is looked for by mDNS in a large mesh. */
const ENOUGH_PEERS = 3

/** What the mesh is made on. */
export type MeshParts = Pick<MembersInit, 'host' | 'discovery' | 'membership' | 'signer' | 'tickets'>

/** One node's side of the mesh. */
export class Mesh {
  readonly events = new EventEmitter<MeshEvents>()
  readonly members: Members
  readonly pairing: Pairing
  readonly #links = new OwnLinks(() => this.update({}))
  readonly #init: MeshInit
  readonly #host: Host
  readonly #discovery: Discovery
  readonly #directory: Directory
  readonly #watches: (() => void)[] = []
  readonly #services: { stop(): Promise<void> }[] = []
  /** What connected peers have said of themselves, kept until they have proven that they are in the mesh. */
  readonly #identified = new Map<string, Identified>()
  readonly #presence: Presence
  readonly #relays: Relays
  readonly #reach: Reach
  readonly #farNews = new Spaced(FAR_NEWS_PAUSE_MS, () => this.events.emit('change'))
  readonly #dialNotices: DialNotices
  readonly #copies: Copies
  #stageStreams: StageStreams | undefined
  #weights: WeightsService | undefined
  #leases: LeaseService | undefined
  #announcer: InterfaceAnnouncer | undefined
  #stopped = false

  constructor(init: MeshInit, parts: MeshParts) {
    const { host, discovery } = parts
    this.#init = init
    this.#host = host
    this.#discovery = discovery
    this.#dialNotices = new DialNotices(init.peers ?? [])
    this.#directory = new Directory(
      {
        ...init.record,
        name: plainText(init.record.name, MAX_NAME_CHARS),
        peerId: host.peerId,
        sequence: 1,
        start: randomBytes(8).toString('hex'),
        leases: [],
        links: {}
      },
      () => performance.now(),
      this.#farSight
    )
    const { home } = init
    const onNotice = (message: string) => this.#notice(message)
    this.members = new Members({
      ...parts,
      home,
      heardName: peerId => this.#presence.heardName(peerId),
      onNotice,
      onMet: peerId => this.#met(peerId),
      onKeys: keys => {
        this.#announcer?.retag(keys.interfaceTag)
        this.#relays.changed()
      },
      onRoll: () => this.#relays.membershipChanged(),
      reachedByOthers: epoch => reachedByOthers(this.#relays, epoch)
    })
    this.#reach = new Reach(peerId =>
      discovery.seek(peerId, this.#relays.get(peerId)?.addresses ?? [], { isUrgent: true })
    )
    this.#relays = this.#createRelays(parts)
    this.pairing = new Pairing({
      openDoor: handlers => PairingDoor.open(doorOf(init), handlers),
      invite: (ttlMs, device) => this.members.invite(ttlMs, device),
      checkIsIn: () => this.members.checkIsIn(),
      onNotice
    })
    this.events.on('connect', peerId => this.members.introduced(peerId))
    this.events.on('suspect', () => this.#relays.changed())
    // What was measured of one that was only parted from held until now.
    this.events.on('disconnect', peerId => {
      if (!host.isConnected(peerId)) this.#links.disconnected(peerId)
    })
    this.#copies = new Copies({
      home,
      own: () => this.#ownAddresses,
      provesSelf: address => host.provesSelf(address),
      pause: () => delay(Math.random() * MAX_PAUSE_MS, undefined, { ref: false }),
      onNotice,
      now: () => performance.now()
    })
    this.#presence = new Presence({
      home,
      host,
      discovery,
      directory: this.#directory,
      events: this.events,
      own: () => this.self,
      nameOf: peerId => this.nameOf(peerId),
      whyOut: peerId => this.members.whyOut(peerId),
      onNotice,
      onRtt: (peerId, rttMs) => this.#links.answered(peerId, rttMs),
      onLink: (peerId, estimate) => this.#links.heard(peerId, estimate),
      // Who tells it does not know which of the two it tells.
      onOwnId: (addresses, name) => this.#heardOfSelf(addresses, name === this.self.name ? undefined : name),
      relays: {
        onRelaysOpen: peerId => this.#relays.opened(peerId),
        onRelaysEnd: peerId => this.#relays.closed(peerId),
        onRelay: (peerId, message) => this.#relays.heard(peerId, message)
      }
    })
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
  get peers(): KnownPeer[] {
    return this.#presence.peers
  }

  /** Members that others are connected to and this node dialled in vain. */
  get unreached(): UnreachedPeer[] {
    return this.#presence.unreached
  }

  /** Streams of hidden states and tokens; only after `start`. */
  get stageStreams(): StageStreams {
    return started(this.#stageStreams)
  }

  get counters(): NodeCounters {
    return { ...started(this.#stageStreams).counters, ...started(this.#weights).counters }
  }

  /** Serves the peers and looks for them. */
  async start(handlers: MeshHandlers): Promise<void> {
    const host = this.#host
    this.#stageStreams = await createStageStreams(host, {
      allocate: (peerId, header) => handlers.stage.allocate(peerId, header),
      onFrame: (peerId, frame) => {
        this.#links.frameCame(peerId, frame)
        return handlers.stage.onFrame(peerId, frame)
      },
      onLost: (peerId, reason) => handlers.stage.onLost(peerId, reason),
      onTransfer: (peerId, bytes, ms) => this.#links.transferred(peerId, { bytes, ms })
    })
    const links = await createLinkService(host, {
      isBusy: () => this.#tokensFlow,
      watchStarvation,
      onTaken: (peerId, rate) => this.#links.probedIn(peerId, rate)
    })
    this.#links.measureBy({
      peerId: host.peerId,
      service: links,
      connected: () => host.connected.filter(peerId => !this.#isIncompatible(peerId)),
      isBusy: () => this.#tokensFlow,
      importance: peerId => {
        const record = this.#directory.get(peerId)?.record
        return record === undefined ? 0 : importanceOf(this.#directory.own, record)
      },
      weightBytes: () => {
        const { weightBytesSent, weightBytesReceived } = started(this.#weights).counters
        return weightBytesSent + weightBytesReceived
      }
    })
    const isQuiet = () => !this.#tokensFlow
    this.#weights = await createWeightsService(
      host,
      { ...handlers.weights, isQuiet },
      { onCame: (peerId, bytes) => this.#links.weightsCame(peerId, bytes) }
    )
    this.#leases = await createLeaseService(host, handlers.leases)
    await this.#presence.start()
    await this.members.start()
    this.#services.push(this.#stageStreams, this.#weights, this.#presence, links, this.members, this.#leases)
    await host.start({
      onAnnounced: (peerId, addresses) => this.#discovery.heard(peerId, addresses),
      onConnected: peerId => this.members.connected(peerId),
      onDisconnected: peerId => {
        this.members.disconnected(peerId)
        this.#identified.delete(peerId)
        if (this.#stopped) return
        const isThere = this.#relays.disconnected(peerId)
        // What was measured of a device that is only parted from holds.
        if (!isThere) this.#links.disconnected(peerId)
        this.#presence.disconnected(peerId, isThere)
      },
      onNeeded: async (peerId, signal) => {
        const far = this.#relays.get(peerId)
        if (far !== undefined && far.state !== 'gone') await this.#reach.connect(peerId, signal)
      },
      onIdentified: (peerId, identified) => {
        if (!host.isConnected(peerId)) return
        this.#identified.set(peerId, identified)
        if (this.members.hasMet(peerId)) this.#onIdentified(peerId, identified)
        else if (isOtherVersion(host, identified)) {
          // It can prove nothing to this version, so that it is shown with why, and spoken with by nobody.
          this.members.unable(peerId)
          this.#presence.foreign(peerId, identified)
        }
      },
      onTouched: peerId => this.#directory.touched(peerId)
    })
    host.quietWhile(() => this.#isQuiet)
    this.#discovery.start()
    this.#links.start()
    if (this.#init.mdns !== false) this.#announce()
  }

  /** Changes what this node says of itself; every peer hears of it. */
  update(change: Partial<Omit<NodeRecord, 'peerId' | 'sequence' | 'links'>>): void {
    this.#directory.update(change)
    // The record has the links in it, whatever else has changed.
    this.#links.told()
    this.#presence.announce()
    this.#relays.changed()
    this.events.emit('change')
  }

  /** A peer's name, or a short form of its id. */
  nameOf(peerId: string): string {
    return this.members.nameOf(peerId)
  }

  /** Makes sure that the round-trip times to these peers are known, for a plan right after a connect. */
  async measureRtt(peerIds: readonly string[], options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#presence.measureRtt(peerIds, options)
  }

  /** Measures the links to these peers that were never measured; for a plan right after a connect. */
  async measureLinks(peerIds: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    const far = peerIds.filter(peerId => !this.#host.isConnected(peerId))
    const known = far.flatMap(peerId => this.#directory.get(peerId)?.record ?? [])
    const worth = roomiest(known, MEASURED_FAR).map(({ peerId }) => peerId)
    const near = peerIds.filter(peerId => this.#host.isConnected(peerId))
    await this.#links.measureMissing([...near, ...worth], signal)
  }

  /** Looks roughly at the links to these peers of which nothing is known, also while tokens flow. */
  async glanceAt(peerIds: readonly string[], { signal }: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#links.glanceAt(peerIds, signal)
  }

  /** The link matrix: every direction between connected members that one of its ends measured. */
  get links(): LinkState[] {
    const rows = new Map([[this.peerId, this.#links.row]])
    for (const { record, recordAgeMs, connected } of this.#directory.peers) {
      if (connected) rows.set(record.peerId, aged(record.links, recordAgeMs))
    }
    return linkMatrix(rows, this.#links.statesOf(this.peerId))
  }

  /** Pairs of connected peers that are not connected to each other, as far as they say. */
  get apart(): [string, string][] {
    // Devices that know each other from afar make a link when they need one.
    return this.#presence.apart.filter(pair => pair.some(peerId => this.#relays.get(peerId) === undefined))
  }

  /** Opens a lease stream to a peer. When it ends, from either side, the peer releases what was leased on it. */
  lease(peerId: string, options: { signal?: AbortSignal } = {}): Promise<LeaseClient> {
    return started(this.#leases).connect(peerId, options)
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
      const known = [this.#directory.get(peerId)?.rttMs, measured?.rttMs].filter(ms => ms != null)
      const rttMs = known.length === 0 ? DEFAULT_RTT_MS : Math.min(...known)
      return { rttMs, ...(measured && { mbps: measured.mbps }), isQuiet: () => !this.#tokensFlow }
    }
    const onLiar = (peerId: string) => {
      this.#notice(
        `${this.nameOf(peerId)} sent a damaged weight file ${ref.sha256.slice(0, 12)}; it was not kept`
      )
      options.onLiar?.(peerId)
    }
    // A silent one is asked last: it may be gone, and a stream to it costs seconds to find that out.
    const silent = (peerId: string) => {
      const state = this.#directory.get(peerId)?.state
      return Number(state === 'suspect' || state === 'incompatible')
    }
    const inOrder = [...holders].sort((a, b) => silent(a) - silent(b))
    return fetchVerified(started(this.#weights), ref, inOrder, put, { ...options, link, onLiar })
  }

  /** A blob of unknown size, such as a manifest by its model's id, from one peer. Not verified. */
  fetchRaw(
    peerId: string,
    sha256: string,
    options: { maxBytes: number; signal?: AbortSignal }
  ): AsyncGenerator<Uint8Array> {
    return started(this.#weights).fetch(peerId, sha256, options)
  }

  /** What `/api/mesh` says of the mesh itself. */
  state(): Omit<MeshState, 'leases' | 'fetches' | 'deployments' | 'sessions' | 'droppedFrames'> {
    return {
      self: { ...this.self, addresses: this.addresses, counters: this.counters },
      peers: this.peers.map(({ record, recordAgeMs: _, ...seen }) => ({
        ...record,
        ...seen,
        admittedBy: this.members.admittersOf(record.peerId)
      })),
      unreached: this.unreached,
      copies: this.#copies.found,
      links: this.links
    }
  }

  /** A dial failed; people hear of it once, where it concerns them. */
  dialFailed(failure: DialFailure): void {
    if (failure.isSelf && isListenAddress(failure.target)) this.#heardOfSelf([failure.target])
    const notice = this.#dialNotices.noticeOf(failure, peerId => this.nameOf(peerId))
    if (notice !== null) this.#notice(notice)
    if (this.#reach.failed(failure.target)) this.#farNews.ask()
  }

  /** Whether a peer is to be dialled now, while these others are. */
  mayDial(peerId: string, underWay: readonly string[]): boolean {
    return this.#reach.isWanted(peerId) || this.#relays.mayDial(peerId, underWay)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const end of this.#watches) end()
    this.#discovery.stop()
    this.#relays.stop()
    this.#farNews.stop()
    this.#links.stop()
    await this.#announcer?.stop()
    await this.pairing.stop()
    await Promise.allSettled(this.#services.map(service => service.stop()))
    await this.#host.stop()
    await writeContacts(this.#init.home, this.#discovery.contacts).catch(
      log.passOver('remembering peers failed; the next start finds them by itself')
    )
  }

  /** A peer that is in the mesh has come. */
  #met(peerId: string): void {
    this.#presence.connected(peerId)
    this.#reach.came(peerId)
    this.#links.connected(peerId)
    const identified = this.#identified.get(peerId)
    if (identified !== undefined) this.#onIdentified(peerId, identified)
  }

  #onIdentified(peerId: string, identified: Identified): void {
    this.#discovery.said(peerId, identified.addresses, this.#host.addressesOf(peerId))
    this.#presence.identified(peerId, identified)
    this.#presence.announce()
  }

  #announce(): void {
    const host = this.#host
    this.#announcer = new InterfaceAnnouncer({
      peerId: host.peerId,
      serviceTag: meshKeys(this.members.membership.secret).interfaceTag,
      intervalMs: this.#init.mdnsIntervalMs ?? MDNS_INTERVAL_MS,
      addresses: () => this.#ownAddresses,
      connected: () => host.connected,
      isQuiet: () => this.#isQuiet,
      onPeer: (peerId, addresses, from) => this.#discovery.heard(peerId, addresses, from),
      sealedName: () => sealName(this.#nameKey, this.self.name),
      onOwnId: (addresses, sealed) => {
        const name = sealed === undefined ? undefined : openName(this.#nameKey, sealed)
        this.#heardOfSelf(addresses, name)
      }
    })
    this.#announcer.start()
    this.#watches.push(
      watchLoneliness({
        isLonely: () => !this.#stopped && host.connected.length === 0,
        reasons: multicastProblems,
        say: reason => this.#notice(reason)
      })
    )
  }

  /** The directory is there before what it looks into. */
  get #farSight(): FarSight {
    const devices = () => this.#relays.devices
    return {
      get devices() {
        return devices()
      },
      get: peerId => this.#relays.get(peerId),
      isOutOfReach: peerId => this.#reach.isOutOfReach(peerId)
    }
  }

  #createRelays({ host, discovery, signer }: MeshParts): Relays {
    return new Relays({
      peerId: host.peerId,
      mesh: this.members.membership.mesh,
      size: this.#init.size ?? MESH_SIZE,
      timers: TIMERS,
      sign: bytes => signer.sign(bytes),
      isSigned: isSignedBy,
      isIn: peerId => this.members.isIn(peerId),
      isOwners: peerId => this.members.isOwners(peerId),
      own: () => ({
        record: this.#presence.told,
        addresses: this.#ownAddresses,
        epoch: this.members.membership.epoch
      }),
      connected: () => host.connected,
      silent: () => host.connected.filter(peerId => this.#directory.get(peerId)?.state !== 'connected'),
      dialable: () => discovery.dialable,
      isInUse: peerId => this.#isInUse(peerId),
      isFailing: peerId => discovery.isFailing(peerId),
      dial: peerId => discovery.seek(peerId, this.#relays.get(peerId)?.addresses ?? []),
      part: peerId => host.disconnect(peerId, new Error('neither of the two needs the connection')),
      send: (peerId, message) => this.#presence.say(peerId, message),
      onChange: peerId => {
        this.#presence.heardFromAfar(peerId)
        this.#farNews.ask()
      }
    })
  }

  /** Work is done over the connection, or a deployment needs it. */
  #isInUse(peerId: string): boolean {
    if (this.#reach.isWanted(peerId) || this.#host.sinceUsedMs(peerId) < USED_LATELY_MS) return true
    const record = this.#directory.get(peerId)?.record
    return record !== undefined && usesLink(this.#directory.own, record)
  }

  get #isQuiet(): boolean {
    return this.#relays.isLarge && this.#host.connected.length >= ENOUGH_PEERS
  }

  get #ownAddresses(): string[] {
    return this.#host.addresses.map(text => splitAddress(text).address)
  }

  get #nameKey(): Uint8Array {
    return meshKeys(this.members.membership.secret).nameKey
  }

  #heardOfSelf(addresses: string[], name?: string): void {
    void this.#copies
      .heard(addresses, name)
      .catch(log.passOver('asking who has this identity failed; the next announcement asks again'))
  }

  #isIncompatible(peerId: string): boolean {
    return this.#directory.get(peerId)?.state === 'incompatible'
  }

  get #tokensFlow(): boolean {
    return performance.now() - started(this.#stageStreams).lastFrameAtMs < TOKENS_FLOW_MS
  }

  #notice(message: string): void {
    if (!this.#stopped) this.events.emit('notice', message)
  }
}

const TIMERS: Timers = {
  now: () => performance.now(),
  after(ms, act) {
    const timer = setTimeout(act, ms)
    return () => clearTimeout(timer)
  }
}

/** A node that has no version of the membership in common with this one. */
function isOtherVersion({ protocols }: Host, { protocols: spoken }: Identified): boolean {
  return isNode(spoken) && !protocols.membership.some(id => spoken.includes(id))
}

function started<T>(service: T | undefined): T {
  if (service === undefined) throw new Error('the mesh is not started')
  return service
}

/** The listener of pairing stands two ports above the node's own, behind that of the API. */
function doorOf({ port = 0, listen, mdns = true }: MeshInit): DoorInit {
  return { port: port === 0 ? 0 : port + 2, ...(listen !== undefined && { listen }), mdns }
}

import type { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { logger } from '../../models/log.ts'
import { MAX_NAME_CHARS } from '../../protocols/directory/constants.ts'
import {
  createDirectoryService,
  type DirectoryHandlers,
  type DirectoryService,
  type RelayMessage
} from '../../protocols/directory/index.ts'
import { isViolation, NotUnderstoodError, RemoteError } from '../../protocols/errors.ts'
import { plainText } from '../../protocols/text.ts'
import type { LinkEstimate, NodeRecord, UnreachedPeer } from '../api.ts'
import { incompatibilityOf } from './compatibility.ts'
import { isListenAddress, writeContacts } from './contacts.ts'
import type { Directory, KnownPeer } from './directory.ts'
import type { Discovery } from './discovery.ts'
import type { Host, Identified } from './host.ts'
import { Introductions } from './introductions.ts'
import { LatestWrite } from './latest-write.ts'
import type { MeshEvents } from './mesh-types.ts'
import { type LeftOut, sayable } from './own-record.ts'
import { Spaced } from './spaced.ts'
import { Twins } from './twins.ts'
import { watchSilence } from './watch.ts'

const log = logger('edgeshard:mesh')

/** Heartbeats that a round-trip time should rest on before a plan, and how they are got in a hurry. */
const RTT_SAMPLES_WANTED = 4
const RTT_PING_EVERY_MS = 30
const RTT_WAIT_MS = 500
/** Named to people: a member that comes under ever new ids must fill neither the log nor the memory. */
const MAX_INCOMPATIBLE_NAMED = 64
const MAX_TWINS = 64
/** Peers are written at most once in so long: of many that come at once the first is remembered at once. */
const CONTACTS_PAUSE_MS = 5000

export interface PresenceInit {
  home: string
  host: Host
  discovery: Discovery
  directory: Directory
  events: EventEmitter<MeshEvents>
  /** This node's record as the others get it. */
  own(): NodeRecord
  /** A peer's name, or a short form of its id. */
  nameOf(peerId: string): string
  /** Why a peer is not let in; null where it is. */
  whyOut(peerId: string): string | null
  onNotice(message: string): void
  /** The least round trip of the last heartbeats to a peer, once there are some. */
  onRtt(peerId: string, rttMs: number): void
  /** What a peer says of its link to this node. */
  onLink(peerId: string, estimate: LinkEstimate): void
  /** A member says that this node itself listens there. */
  onOwnId(addresses: string[], name: string): void
  /** What peers say of records that others hand on. */
  relays: Required<Pick<DirectoryHandlers, 'onRelay' | 'onRelaysOpen' | 'onRelaysEnd'>>
}

/** Keeps the directory true by what peers say of themselves, by their silence, and by what others know. */
export class Presence {
  readonly #init: PresenceInit
  readonly #introductions = new Introductions()
  readonly #twins = new Twins()
  /** Peers that two run as, each with what the other one is called. */
  readonly #twinNames = new Map<string, string>()
  /** Peers that are connected and were met. */
  readonly #met = new Set<string>()
  /** Peers for which `connect` was emitted and `disconnect` was not. */
  readonly #introduced = new Set<string>()
  /** Lists of the own record of which people know that entries were left out. */
  readonly #leftOut = new Set<LeftOut['list']>()
  /** What it was that told, since a peer is connected, whether its version fits: its protocols' ids, or a message. */
  readonly #judgedBy = new Map<string, 'ids' | 'message'>()
  /** Peers of which people know that their version does not fit, and why. */
  readonly #named = new Map<string, string>()
  readonly #contactsFile: LatestWrite
  readonly #contactsWrite = new Spaced(CONTACTS_PAUSE_MS, () => {
    this.#contactsFile
      .ask()
      .catch((error: Error) => this.#init.onNotice(`peers could not be remembered: ${error.message}`))
  })
  #control: DirectoryService | undefined
  #endWatch = () => {}

  constructor(init: PresenceInit) {
    this.#init = init
    this.#contactsFile = new LatestWrite(() => writeContacts(init.home, init.discovery.contacts))
  }

  /** Registers the protocol; before the host starts. */
  async start(): Promise<void> {
    const { host, discovery, directory, events, onNotice } = this.#init
    this.#control = await createDirectoryService(host, {
      own: () => this.#sayable(),
      onRecord: (peerId, record) => this.#onRecord(peerId, record),
      onRtt: (peerId, rttMs) => {
        directory.measured(peerId, rttMs)
        if (directory.rttSamples(peerId) >= RTT_SAMPLES_WANTED)
          this.#init.onRtt(peerId, directory.get(peerId)?.rttMs ?? rttMs)
      },
      contacts: () =>
        host.connected.map(peerId => ({
          peerId,
          name: this.#init.nameOf(peerId),
          addresses: discovery.addressesOf(peerId).filter(isListenAddress)
        })),
      twinOf: peerId => this.#twinOf(peerId),
      ...this.#init.relays,
      onContacts: (sender, contacts) => {
        this.#introductions.told(sender, contacts)
        for (const { peerId, name, addresses } of contacts) {
          if (peerId === host.peerId) this.#init.onOwnId(addresses, plainText(name, MAX_NAME_CHARS))
          else discovery.hinted(peerId, addresses, sender)
        }
        // Who is connected to whom is part of what a plan is made of.
        events.emit('change')
      },
      onError: (peerId, error) => {
        if (error instanceof NotUnderstoodError) this.#unread(peerId, error.message)
        else if (error instanceof RemoteError) this.#unread(peerId, `it refused: ${error.message}`)
        else if (isViolation(error))
          onNotice(`${this.#init.nameOf(peerId)} broke the directory protocol: ${plainText(error.message)}`)
      }
    })
    this.#endWatch = watchSilence(directory, {
      suspect: (peerId, suspect) => events.emit('suspect', peerId, suspect),
      gone: peerId => host.disconnect(peerId, new Error('the peer fell silent'))
    })
  }

  async stop(): Promise<void> {
    this.#endWatch()
    await this.#control?.stop()
    this.#contactsWrite.stop()
    await this.#contactsFile.last.catch(log.passOver('remembering peers failed, of which people have heard'))
  }

  /** Peers that have said what they are, connected or lately so, by name. */
  get peers(): KnownPeer[] {
    return this.#init.directory.peers.map(entry => ({
      ...entry,
      addresses: this.#addressesOf(entry.record.peerId)
    }))
  }

  /** Members that others are connected to and this node dialled in vain. */
  get unreached(): UnreachedPeer[] {
    const { host, discovery, whyOut } = this.#init
    return this.#introductions.unreached(
      peerId =>
        peerId !== host.peerId &&
        !host.isConnected(peerId) &&
        whyOut(peerId) === null &&
        discovery.isFailing(peerId)
    )
  }

  /** Pairs of connected peers that are not connected to each other. */
  get apart(): [string, string][] {
    return this.#introductions.apart
  }

  /** What a device calls itself; undefined of one that has not said it, or long ago. */
  heardName(peerId: string): string | undefined {
    const { host, own, directory } = this.#init
    return peerId === host.peerId ? own().name : directory.get(peerId)?.record.name
  }

  /** Says something of records that others hand on to a peer that understands it. */
  say(peerId: string, message: RelayMessage): void {
    this.#control?.say(peerId, message)
  }

  /** What this node tells of itself, as peers take it. */
  get told(): NodeRecord {
    return this.#sayable()
  }

  /** What others hand on of a device, or whether they say it is there, has changed. */
  heardFromAfar(peerId: string): void {
    const { host, directory, events } = this.#init
    const known = directory.get(peerId)
    if (known !== undefined && !known.direct && known.connected) {
      const link = known.record.links[host.peerId]
      if (link !== undefined) this.#init.onLink(peerId, link)
      this.#lookForTwin(peerId, known.record)
      if (!this.#introduced.has(peerId) && known.state === 'connected') {
        this.#introduced.add(peerId)
        events.emit('connect', peerId, known.record)
      }
    }
    this.#leaveIfGone(peerId, known)
  }

  #leaveIfGone(peerId: string, known: KnownPeer | undefined): void {
    if (known?.connected || known?.direct) return
    if (this.#introduced.delete(peerId) && known !== undefined)
      this.#init.events.emit('disconnect', peerId, known.record)
  }

  /** Tells the peers what has changed of this node or of the peers that it knows. */
  announce(): void {
    this.#control?.announce()
  }

  /**
   * Makes sure that the round-trip times to these peers rest on a few heartbeats, for a plan right after a connect.
   * Waits no longer than RTT_WAIT_MS; a peer that does not answer keeps the value it has.
   */
  async measureRtt(peerIds: readonly string[], options: { signal?: AbortSignal } = {}): Promise<void> {
    const { host, directory } = this.#init
    const deadlineMs = performance.now() + RTT_WAIT_MS
    const missing = () =>
      peerIds.filter(id => host.isConnected(id) && directory.rttSamples(id) < RTT_SAMPLES_WANTED)
    while (missing().length > 0 && performance.now() < deadlineMs) {
      for (const peerId of missing()) this.#control?.ping(peerId)
      await delay(RTT_PING_EVERY_MS, undefined, options)
    }
  }

  connected(peerId: string): void {
    const { host, discovery, directory } = this.#init
    discovery.connected(peerId, host.outboundAddresses(peerId))
    directory.connected(peerId)
    this.#introductions.came(peerId)
    this.#met.add(peerId)
    this.#control?.connected(peerId)
    this.announce()
  }

  /**
   * A peer is connected no more, whether it was met or not: of who comes and goes unproven nobody hears.
   *
   * @param isThere - the two have parted, and others say that it is there
   */
  disconnected(peerId: string, isThere = false): void {
    const { discovery, directory, events } = this.#init
    const entry = directory.get(peerId)
    const record = entry?.record
    directory.disconnected(peerId, this.#reasonOf(peerId, entry?.suspect ?? false))
    this.#judgedBy.delete(peerId)
    this.#control?.disconnected(peerId)
    this.#introductions.left(peerId)
    discovery.disconnected(peerId)
    const wasMet = this.#met.delete(peerId)
    if (wasMet) this.announce()
    if (!isThere && this.#introduced.delete(peerId) && record) events.emit('disconnect', peerId, record)
    // One of another version is shown, though nothing can be proven to it.
    if (wasMet || entry?.state === 'incompatible') events.emit('change')
  }

  /** A peer cannot prove to this version that it is in the mesh: it is shown, and nothing is spoken with it. */
  foreign(peerId: string, identified: Identified): void {
    this.#init.directory.connected(peerId)
    this.identified(peerId, identified)
  }

  /** A peer said which protocols it speaks. That it lacks one is looked at once a connection, and told to people once. */
  identified(peerId: string, identified: Identified): void {
    const { host, own, directory } = this.#init
    const before = this.#judgedBy.get(peerId)
    // A message that could not be read says more than a list of ids.
    if (!host.isConnected(peerId) || before === 'message') return
    const found = incompatibilityOf(identified, {
      protocols: host.protocols,
      version: own().version,
      name: this.#init.nameOf(peerId),
      recordVersion: directory.get(peerId)?.record.version
    })
    // A node that stops takes its protocols back, one by one; one that was updated and is back has them all.
    if (before !== undefined && found !== undefined) return
    this.#judgedBy.set(peerId, 'ids')
    directory.judged(peerId, found)
    if (found === undefined) this.#named.delete(peerId)
    // Nothing would come of opening control streams that the peer does not know.
    else if (!host.protocols.directory.some(id => identified.protocols.includes(id)))
      this.#control?.unable(peerId)
    this.#nameIncompatible(peerId)
    this.#init.events.emit('change')
  }

  /** One of the two sent the other what it cannot read: a later version of a message. */
  #unread(peerId: string, why: string): void {
    const { directory } = this.#init
    this.#judgedBy.set(peerId, 'message')
    const version = directory.get(peerId)?.record.version ?? 'unknown'
    const reason = `version ${version}: ${plainText(why)}`
    directory.judged(peerId, { name: this.#init.nameOf(peerId), isNode: true, mute: true, version, reason })
    this.#name(peerId, reason)
    this.#init.events.emit('change')
  }

  /** Once its name is known, where it can be. */
  #nameIncompatible(peerId: string): void {
    const entry = this.#init.directory.get(peerId)
    if (entry?.state === 'incompatible') this.#name(peerId, entry.reason ?? '')
  }

  #name(peerId: string, reason: string): void {
    if (this.#named.get(peerId) === reason) return
    if (this.#named.size >= MAX_INCOMPATIBLE_NAMED && !this.#named.has(peerId)) return
    this.#named.set(peerId, reason)
    const [address = 'no address'] = this.#init.host.addressesOf(peerId)
    this.#init.onNotice(`${this.#init.nameOf(peerId)} at ${address} is incompatible: ${reason}`)
  }

  #reasonOf(peerId: string, suspect: boolean): string {
    const whyOut = this.#init.whyOut(peerId)
    if (whyOut !== null) return whyOut
    return suspect ? 'it fell silent' : 'it or the network ended the connection'
  }

  /** The own record as peers take it; people hear, once a list, of what it does not say. */
  #sayable(): NodeRecord {
    const { record, leftOut } = sayable(this.#init.own())
    const unsaid = leftOut.filter(({ list }) => !this.#leftOut.has(list))
    for (const { list } of unsaid) this.#leftOut.add(list)
    if (unsaid.length > 0) {
      const what = unsaid.map(({ list, missing, of }) => `${missing} of ${of} ${list}`).join(', ')
      this.#init.onNotice(`the other devices do not hear of ${what}: a device's record has room for no more`)
    }
    return record
  }

  #onRecord(peerId: string, record: NodeRecord): void {
    const { host, directory, events } = this.#init
    if (!host.isConnected(peerId)) return
    directory.record(peerId, record)
    const link = record.links[host.peerId]
    if (link !== undefined) this.#init.onLink(peerId, link)
    this.#lookForTwin(peerId, record)
    this.#nameIncompatible(peerId)
    if (!this.#introduced.has(peerId) && directory.get(peerId)?.state !== 'incompatible') {
      this.#introduced.add(peerId)
      events.emit('connect', peerId, record)
      this.#contactsWrite.ask()
    }
    events.emit('change')
  }

  /** Two that run under one id are named to people once, and each hears of the other with the next contacts. */
  #lookForTwin(peerId: string, { start, name }: NodeRecord): void {
    if (start === undefined) return
    const other = this.#twins.heard(peerId, { start, name })
    if (other === undefined) return
    const known = this.#twinNames.has(peerId)
    this.#twinNames.set(peerId, other.name)
    if (known || this.#twinNames.size > MAX_TWINS) return
    const where = this.#addressesOf(peerId).join(', ')
    this.#init.onNotice(
      `${other.name} and ${name} run with one identity (${where}): one's home is a copy of the other's. ` +
        'On the one that is the copy stop the node, remove identity.key in its home and start it again'
    )
    this.announce()
  }

  #twinOf(peerId: string): { peerId: string; name: string; addresses: string[] } | undefined {
    const name = this.#twinNames.get(peerId)
    return name === undefined
      ? undefined
      : { peerId, name, addresses: this.#addressesOf(peerId).filter(isListenAddress) }
  }

  #addressesOf(peerId: string): string[] {
    const { host, discovery } = this.#init
    const known = discovery.addressesOf(peerId)
    return known.length > 0 ? known : host.addressesOf(peerId)
  }
}

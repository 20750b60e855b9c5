import type { EventEmitter } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import {
  createDirectoryService,
  type DirectoryService,
  speaksOtherDirectory
} from '../../protocols/directory/index.ts'
import { isViolation } from '../../protocols/errors.ts'
import { plainText } from '../../protocols/text.ts'
import type { NodeRecord, UnreachedPeer } from '../api.ts'
import { isListenAddress, writeContacts } from './contacts.ts'
import type { Directory, PeerEntry } from './directory.ts'
import type { Discovery } from './discovery.ts'
import type { Host } from './host.ts'
import { Introductions } from './introductions.ts'
import type { MeshEvents } from './mesh-types.ts'
import { type LeftOut, sayable } from './own-record.ts'
import { nodeRecordSchema } from './record.ts'
import { watchSilence } from './watch.ts'

/** Heartbeats that a round-trip time should rest on before a plan, and how they are got in a hurry. */
const RTT_SAMPLES_WANTED = 4
const RTT_PING_EVERY_MS = 30
const RTT_WAIT_MS = 500
/** Named to people: a member that comes under ever new ids must fill neither the log nor the memory. */
const MAX_OTHER_VERSIONS = 64

export interface PresenceInit {
  home: string
  host: Host
  discovery: Discovery
  directory: Directory
  events: EventEmitter<MeshEvents>
  /** This node's record as the others get it. */
  own(): NodeRecord
  isBanned(peerId: string): boolean
  onNotice(message: string): void
}

/** Who is there: keeps the directory true by what peers say of themselves, by their silence, and by what others know. */
export class Presence {
  readonly #init: PresenceInit
  readonly #introductions = new Introductions()
  /** Peers for which `connect` was emitted and `disconnect` was not. */
  readonly #introduced = new Set<string>()
  /** Lists of the own record of which people know that entries were left out. */
  readonly #leftOut = new Set<LeftOut['list']>()
  /** Peers of which people know that they run another version. */
  readonly #otherVersions = new Set<string>()
  #control: DirectoryService | undefined
  #endWatch = () => {}

  constructor(init: PresenceInit) {
    this.#init = init
  }

  /** Registers the protocol; before the host starts. */
  async start(): Promise<void> {
    const { host, discovery, directory, events, onNotice } = this.#init
    this.#control = await createDirectoryService<NodeRecord>(host, {
      schema: nodeRecordSchema,
      own: () => this.#sayable(),
      onRecord: (peerId, record) => this.#onRecord(peerId, record),
      onRtt: (peerId, rttMs) => directory.measured(peerId, rttMs),
      contacts: () =>
        host.connected.map(peerId => ({
          peerId,
          name: this.nameOf(peerId),
          addresses: discovery.addressesOf(peerId).filter(isListenAddress)
        })),
      onContacts: (sender, contacts) => {
        this.#introductions.told(sender, contacts)
        for (const { peerId, addresses } of contacts) discovery.hinted(peerId, addresses)
      },
      onError: (peerId, error) => {
        if (!isViolation(error)) return
        onNotice(`${this.nameOf(peerId)} broke the directory protocol: ${plainText(error.message)}`)
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
  }

  /** Peers that have said what they are, connected or lately so, by name. */
  get peers(): PeerEntry[] {
    return this.#init.directory.peers.map(entry => ({
      ...entry,
      addresses: this.#addressesOf(entry.record.peerId)
    }))
  }

  /** Members that others are connected to and this node dialled in vain. */
  get unreached(): UnreachedPeer[] {
    const { host, discovery, isBanned } = this.#init
    return this.#introductions.unreached(
      peerId =>
        peerId !== host.peerId &&
        !host.isConnected(peerId) &&
        !isBanned(peerId) &&
        discovery.isFailing(peerId)
    )
  }

  /** A peer's name, or a short form of its id. */
  nameOf(peerId: string): string {
    const { host, own, directory } = this.#init
    if (peerId === host.peerId) return own().name
    return directory.get(peerId)?.record.name ?? peerId.slice(-8)
  }

  /** Tells the peers what has changed of this node or of whom it knows. */
  announce(): void {
    this.#control?.announce()
  }

  /**
   * Makes sure that the round-trip times to these peers rest on a few heartbeats, for a plan right after a connect.
   * Waits no longer than RTT_WAIT_MS; who does not answer keeps the value it has.
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
    discovery.heard(peerId, host.outboundAddresses(peerId))
    discovery.connected(peerId)
    directory.connected(peerId)
    this.#control?.connected(peerId)
    this.announce()
  }

  disconnected(peerId: string): void {
    const { discovery, directory, events } = this.#init
    const record = directory.get(peerId)?.record
    directory.disconnected(peerId)
    this.#control?.disconnected(peerId)
    this.#introductions.left(peerId)
    discovery.disconnected(peerId)
    this.announce()
    if (this.#introduced.delete(peerId) && record) events.emit('disconnect', peerId, record)
    events.emit('change')
  }

  /** Nothing is ever heard of a peer whose directory has another version, so people hear that, once. */
  identified(peerId: string, protocols: readonly string[]): void {
    if (!speaksOtherDirectory(protocols) || this.#otherVersions.has(peerId)) return
    if (this.#otherVersions.size >= MAX_OTHER_VERSIONS) return
    this.#otherVersions.add(peerId)
    const [address = 'no address'] = this.#init.host.addressesOf(peerId)
    this.#init.onNotice(
      `${this.nameOf(peerId)} at ${address} runs another version of edgeshard, so neither hears what the other offers: ` +
        'update the older one'
    )
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
    const { home, host, discovery, directory, events, onNotice } = this.#init
    if (!host.isConnected(peerId)) return
    directory.record(peerId, record)
    if (!this.#introduced.has(peerId)) {
      this.#introduced.add(peerId)
      events.emit('connect', peerId, record)
      void writeContacts(home, discovery.contacts).catch((error: Error) =>
        onNotice(`peers could not be remembered: ${error.message}`)
      )
    }
    events.emit('change')
  }

  #addressesOf(peerId: string): string[] {
    const { host, discovery } = this.#init
    const known = discovery.addressesOf(peerId)
    return known.length > 0 ? known : host.addressesOf(peerId)
  }
}

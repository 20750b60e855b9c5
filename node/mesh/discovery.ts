import { isPeerId } from '../../protocols/peer-id.ts'
import { messageOf } from '../../protocols/text.ts'
import { isListenAddress } from './contacts.ts'

/** What discovery needs of the host. */
export interface Dialler {
  readonly peerId: string
  isConnected(peerId: string): boolean
  dial(addresses: string[], peerId?: string): Promise<string>
}

export interface DialFailure {
  /** A peer id, or an address from the command line. */
  target: string
  reason: string
  /** It belongs to another mesh. */
  refused: boolean
}

export interface DiscoveryInit {
  host: Dialler
  /** Addresses from the command line: dialled whenever no peer that answered there is connected. */
  peers: { address: string; peerId: string | undefined }[]
  /** Where peers were reached before. */
  remembered: Map<string, string[]>
  /** Peers that are not dialled whatever is heard of them. */
  banned?: (peerId: string) => boolean
  onFailure?: (failure: DialFailure) => void
}

/** Both sides learn of each other at the same time; the one with the larger id leaves the first move to the other. */
const SECOND_MOVE_MS = 1500
const FIRST_RETRY_MS = 1000
const MAX_RETRY_MS = 30_000
/** Addresses from the command line are expected to answer, so they are tried more often. */
const STATIC_RETRY_MS = 3000
/** A failed handshake is another mesh's secret, or a ban: asking again soon changes nothing. */
const REFUSED_RETRY_MS = 60_000
const MAX_ADDRESSES = 16
const MAX_CONTACTS = 512
/** Pause between two dials of one contact: an announcement costs a stranger one packet. */
const DIAL_PAUSE_MS = 1000
/** Dials at a time to contacts never connected: libp2p has 50, and those that a stranger invents take 10 s each. */
const MAX_UNPROVEN_DIALS = 16

interface Contact {
  addresses: string[]
  /** It was connected once, or is named by this node's owner: no invention of a stranger's. */
  proven: boolean
  timer?: NodeJS.Timeout | undefined
  /** When the timer fires. */
  dueMs: number
  dialledMs: number
  dialling: boolean
  failures: number
  refusedUntilMs: number
}

/**
 * Decides when to dial which peer. Every announcement, hint and lost connection leads to a dial where there is no
 * connection, by the smaller id at once and by the larger one a little later, so that a pair ends up with one connection
 * and a network on which only one side is heard still gets connected.
 */
export class Discovery {
  readonly #init: DiscoveryInit
  readonly #contacts = new Map<string, Contact>()
  readonly #timers = new Set<NodeJS.Timeout>()
  #unprovenDials = 0
  #stopped = false

  constructor(init: DiscoveryInit) {
    this.#init = init
  }

  start(): void {
    for (const [peerId, addresses] of this.#init.remembered) this.#expected(peerId, addresses)
    for (const { address, peerId } of this.#init.peers) {
      if (peerId === undefined) void this.#dialAddress(address)
      else this.#expected(peerId, [address])
    }
  }

  /**
   * Hears that `peerId` can be reached at `addresses`. The handshake will prove it, or not; what is no peer id
   * or no address of a node is dropped.
   */
  heard(peerId: string, addresses: string[]): void {
    if (isPeerId(peerId)) this.#learned(peerId, addresses.filter(isListenAddress), this.#headStart(peerId))
  }

  /**
   * A member says where another one is. Unlike an announcement that hurries nothing and replaces no address, so a
   * member that makes things up cannot make this node dial in circles.
   */
  hinted(peerId: string, addresses: string[]): void {
    const contact = this.#contacts.get(peerId)
    if (contact === undefined) this.heard(peerId, addresses)
    else {
      const known = [...contact.addresses, ...addresses.filter(isListenAddress)]
      contact.addresses = [...new Set(known)].slice(0, MAX_ADDRESSES)
    }
  }

  connected(peerId: string): void {
    const contact = this.#contacts.get(peerId)
    if (contact === undefined) return
    clearTimeout(contact.timer)
    contact.timer = undefined
    contact.failures = 0
    contact.refusedUntilMs = 0
    contact.proven = true
    // The last one in the list is the last one that is forgotten.
    this.#contacts.delete(peerId)
    this.#contacts.set(peerId, contact)
  }

  disconnected(peerId: string): void {
    const contact = this.#contacts.get(peerId)
    if (contact === undefined || this.#stopped) return
    const retryMs = Math.max(FIRST_RETRY_MS, contact.refusedUntilMs - performance.now())
    this.#schedule(peerId, contact, retryMs + this.#headStart(peerId))
  }

  /** A peer was connected and has proven no admission, or refuses this node: asking again soon changes nothing. */
  refused(peerId: string): void {
    const contact = this.#contacts.get(peerId)
    if (contact !== undefined) contact.refusedUntilMs = performance.now() + REFUSED_RETRY_MS
  }

  /** Peer ids with their addresses, for the file of remembered peers: those alone that were connected once. */
  get contacts(): Map<string, string[]> {
    const proven = [...this.#contacts].filter(([, contact]) => contact.proven)
    return new Map(proven.map(([peerId, { addresses }]) => [peerId, addresses]))
  }

  /** The mesh's secret changed: a peer that refused the old one may take the new one, and is asked now. */
  forgetRefusals(): void {
    for (const [peerId, contact] of this.#contacts) {
      if (contact.refusedUntilMs === 0) continue
      contact.refusedUntilMs = 0
      if (!this.#init.host.isConnected(peerId)) this.#schedule(peerId, contact, this.#headStart(peerId))
    }
  }

  /** True when the last dial of the peer failed. */
  isFailing(peerId: string): boolean {
    return (this.#contacts.get(peerId)?.failures ?? 0) > 0
  }

  addressesOf(peerId: string): string[] {
    return this.#contacts.get(peerId)?.addresses ?? []
  }

  stop(): void {
    this.#stopped = true
    for (const { timer } of this.#contacts.values()) clearTimeout(timer)
    for (const timer of this.#timers) clearTimeout(timer)
  }

  /** Known from before, or named on the command line. */
  #expected(peerId: string, addresses: string[]): void {
    this.#learned(peerId, addresses, 0)
    const contact = this.#contacts.get(peerId)
    if (contact !== undefined) contact.proven = true
  }

  #learned(peerId: string, addresses: string[], delayMs: number): void {
    if (this.#stopped || peerId === this.#init.host.peerId || addresses.length === 0) return
    if (this.#init.banned?.(peerId)) return
    let contact = this.#contacts.get(peerId)
    if (contact === undefined) {
      this.#makeRoom()
      contact = {
        addresses: [],
        proven: this.#init.host.isConnected(peerId),
        dueMs: 0,
        dialledMs: Number.NEGATIVE_INFINITY,
        dialling: false,
        failures: 0,
        refusedUntilMs: 0
      }
      this.#contacts.set(peerId, contact)
    }
    // What was heard last comes first: addresses change with every DHCP lease.
    contact.addresses = [...new Set([...addresses, ...contact.addresses])].slice(0, MAX_ADDRESSES)
    if (this.#init.host.isConnected(peerId) || contact.dialling) return
    if (performance.now() < contact.refusedUntilMs) return
    this.#schedule(peerId, contact, delayMs)
  }

  /** Makes room for one more contact: one never connected goes first, then the one that has not been for longest. */
  #makeRoom(): void {
    if (this.#contacts.size < MAX_CONTACTS) return
    const contacts = [...this.#contacts]
    const [peerId, contact] =
      contacts.find(([, { proven }]) => !proven) ??
      contacts.find(([peerId]) => !this.#init.host.isConnected(peerId)) ??
      contacts[0]!
    clearTimeout(contact.timer)
    this.#contacts.delete(peerId)
  }

  #headStart(peerId: string): number {
    return this.#init.host.peerId < peerId ? 0 : SECOND_MOVE_MS
  }

  #schedule(peerId: string, contact: Contact, delayMs: number): void {
    const now = performance.now()
    const dueMs = Math.max(now + delayMs, contact.dialledMs + DIAL_PAUSE_MS)
    // News bring a dial forward, never put it off.
    if (this.#stopped || (contact.timer !== undefined && contact.dueMs <= dueMs)) return
    clearTimeout(contact.timer)
    contact.dueMs = dueMs
    contact.timer = setTimeout(() => {
      contact.timer = undefined
      void this.#dial(peerId, contact)
    }, dueMs - now)
  }

  async #dial(peerId: string, contact: Contact): Promise<void> {
    const { host } = this.#init
    if (this.#stopped || contact.dialling || host.isConnected(peerId)) return
    const unproven = contact.proven ? 0 : 1
    if (unproven > 0 && this.#unprovenDials >= MAX_UNPROVEN_DIALS) {
      this.#schedule(peerId, contact, DIAL_PAUSE_MS)
      return
    }
    this.#unprovenDials += unproven
    contact.dialling = true
    contact.dialledMs = performance.now()
    try {
      await host.dial(contact.addresses, peerId)
    } catch (error) {
      this.#init.onFailure?.({ target: peerId, reason: messageOf(error), refused: isRefusal(error) })
      contact.failures++
      if (isRefusal(error)) contact.refusedUntilMs = performance.now() + REFUSED_RETRY_MS
      const backOffMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(contact.failures, 10))
      contact.dialling = false
      if (!host.isConnected(peerId) && this.#contacts.get(peerId) === contact) {
        this.#schedule(peerId, contact, Math.max(backOffMs, contact.refusedUntilMs - performance.now()))
      }
    } finally {
      contact.dialling = false
      this.#unprovenDials -= unproven
    }
  }

  /**
   * Dials an address without a peer id: the peer that answers is a contact like any other. When it is gone another may
   * answer, such as the same device, installed anew.
   */
  async #dialAddress(address: string, found?: string): Promise<void> {
    const { host, onFailure } = this.#init
    if (this.#stopped) return
    let answered = found
    if (answered === undefined || !host.isConnected(answered)) {
      try {
        answered = await host.dial([address])
        this.#learned(answered, [address], 0)
      } catch (error) {
        onFailure?.({ target: address, reason: messageOf(error), refused: isRefusal(error) })
      }
    }
    if (this.#stopped) return
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      void this.#dialAddress(address, answered)
    }, STATIC_RETRY_MS)
    this.#timers.add(timer)
  }
}

/**
 * True when the other side has another secret: what it sends cannot be decrypted. A handshake that was merely too slow
 * or broke off has the same name. With several addresses the errors of all come wrapped in one.
 */
function isRefusal(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isRefusal)
  return error instanceof Error && error.name === 'EncryptionFailedError' && /decrypt/i.test(error.message)
}

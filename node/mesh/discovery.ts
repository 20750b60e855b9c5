import { isPeerId } from '../../protocols/peer-id.ts'
import { messageOf } from '../../protocols/text.ts'
import { isListenAddress } from './contacts.ts'
import { isOtherSecret } from './other-secret.ts'
import { type DialOutcome, hostOf, PeerAddresses } from './peer-addresses.ts'
import { isSelfDial } from './self-dial.ts'

/** What discovery needs of the host. */
export interface Dialler {
  readonly peerId: string
  /** Anybody with the secret can be, admitted or not: a reason not to dial, and none to trust. */
  isConnected(peerId: string): boolean
  /** It is connected, and the two have proven to each other that they are in the mesh. */
  hasMet(peerId: string): boolean
  dial(addresses: string[], peerId?: string, options?: { timeoutMs: number }): Promise<string>
}

export interface DialFailure {
  /** A peer id, or an address from the command line. */
  target: string
  reason: string
  /** Another secret answers where the peer was met before, or where this node's owner says that it is. */
  refused: boolean
  /** The peer was met once, as a member. */
  met: boolean
  /** It has this node's own key. */
  isSelf: boolean
}

export interface DiscoveryInit {
  host: Dialler
  /** Addresses from the command line: dialled whenever no peer that answered there is connected. */
  peers: { address: string; peerId: string | undefined }[]
  /** Where peers were reached before. */
  remembered: Map<string, string[]>
  /** Peers that are not dialled whatever is heard of them. */
  banned?: (peerId: string) => boolean
  /** Whether a peer is to be dialled now, while these others are; one that is not is asked about again. @default all are */
  mayDial?: (peerId: string, underWay: readonly string[]) => boolean
  onFailure?: (failure: DialFailure) => void
}

/** Who told of a peer, where its announcement does not say. */
const SOMEBODY = 'somebody'
/** Both sides learn of each other at the same time; the one with the larger id leaves the first move to the other. */
const SECOND_MOVE_MS = 1500
const FIRST_RETRY_MS = 1000
const MAX_RETRY_MS = 30_000
/** A peer that is in another mesh, or takes this node for no member: a change of the mesh asks sooner. */
const REFUSED_RETRY_MS = 60_000
/** Addresses from the command line are expected to answer, so they are tried more often. */
const STATIC_RETRY_MS = 3000
const MAX_CONTACTS = 512
/** Pause between two dials of one contact: an announcement costs a stranger one packet. */
const DIAL_PAUSE_MS = 1000
/** A contact that is not to be dialled, because the mesh is large, may be later; twice as long each time: of a large mesh that is most. */
const NOT_NOW_MS = 3000
/** One address may take so long, and all of one dial. */
const ADDRESS_DIAL_MS = 5000
const DIAL_MS = 10_000
/** Addresses beside proven ones take no longer together: where the peer was met is asked again within seconds. */
const BESIDE_PROVEN_MS = 3000
/** Dials at a time to contacts never met: libp2p has 50, and those that a stranger invents take 10 s each. */
const MAX_UNPROVEN_DIALS = 16
/** Of these, to what one teller told of. */
const MAX_UNPROVEN_DIALS_PER_TELLER = 4

interface Contact {
  addresses: PeerAddresses
  /** It was met once, or is named by this node's owner: no invention of a stranger's. */
  proven: boolean
  /** It was met once, as a member. */
  met: boolean
  /** Who told of it first. */
  teller: string
  timer?: NodeJS.Timeout | undefined
  /** When the timer fires. */
  dueMs: number
  dialledMs: number
  /** Something was told of it while it was dialled. */
  news: boolean
  failures: number
  /** How often in turn it was not to be dialled. */
  notNow: number
  /** It was reached and proved no admission, or took this node for no member: not asked again before this moment. */
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
  /** Peers that are dialled now. */
  readonly #dialling = new Set<string>()
  readonly #timers = new Set<NodeJS.Timeout>()
  /** Dials under way to contacts never met, by who told of them. */
  readonly #unprovenDials = new Map<string, number>()
  #provenHosts: Set<string> | undefined
  #stopped = false

  constructor(init: DiscoveryInit) {
    this.#init = init
  }

  start(): void {
    for (const [peerId, addresses] of this.#init.remembered) this.#expected(peerId, addresses, true)
    for (const { address, peerId } of this.#init.peers) {
      if (peerId === undefined) void this.#dialAddress(address)
      else this.#expected(peerId, [address], false)
    }
  }

  /**
   * Hears that `peerId` can be reached at `addresses`; `teller` is where that was sent from. The handshake will prove it,
   * or not; what is no peer id or no address of a node is dropped.
   */
  heard(peerId: string, addresses: string[], teller = SOMEBODY): void {
    const told = addresses.filter(isListenAddress)
    if (!isPeerId(peerId) || told.length === 0) return
    const contact = this.#contact(peerId, teller)
    contact?.addresses.tell(told, teller)
    if (contact !== undefined) this.#scheduleNews(peerId, contact)
  }

  /**
   * A member says where another one is. Unlike an announcement that hurries nothing, so a member that makes things up
   * cannot make this node dial in circles.
   */
  hinted(peerId: string, addresses: string[], member: string): void {
    const hints = addresses.filter(isListenAddress)
    if (!isPeerId(peerId) || hints.length === 0) return
    const isNew = !this.#contacts.has(peerId)
    const contact = this.#contact(peerId, member)
    contact?.addresses.hint(hints, member)
    if (isNew && contact !== undefined) this.#scheduleNews(peerId, contact)
  }

  /** A connected peer says where it listens; its connections are with `seenAt`. */
  said(peerId: string, addresses: string[], seenAt: string[]): void {
    const contact = this.#contact(peerId, peerId)
    contact?.addresses.ownWord(addresses.filter(isListenAddress), seenAt)
    this.#provenHosts = undefined
  }

  /**
   * A peer is connected and was met.
   *
   * @param dialled - addresses at which this node has reached it; none where the peer has come by itself
   */
  connected(peerId: string, dialled: string[]): void {
    const contact = this.#contact(peerId, peerId)
    if (contact === undefined) return
    clearTimeout(contact.timer)
    contact.timer = undefined
    contact.failures = 0
    contact.refusedUntilMs = 0
    contact.proven = true
    contact.met = true
    contact.addresses.prove(...dialled.filter(isListenAddress))
    this.#provenHosts = undefined
    // The last one in the list is the last one that is forgotten.
    this.#contacts.delete(peerId)
    this.#contacts.set(peerId, contact)
  }

  disconnected(peerId: string): void {
    const contact = this.#contacts.get(peerId)
    if (contact === undefined || this.#stopped) return
    this.#schedule(peerId, contact, FIRST_RETRY_MS + this.#headStart(peerId))
  }

  /** A peer was connected and has proven no admission, or refuses this node: asking again soon changes nothing. */
  refused(peerId: string): void {
    const contact = this.#contacts.get(peerId)
    if (contact !== undefined) contact.refusedUntilMs = performance.now() + REFUSED_RETRY_MS
  }

  /** Peers that were met once or are named by the owner, with their proven addresses: for the file of remembered peers. */
  get contacts(): Map<string, string[]> {
    const proven = [...this.#contacts].filter(([, contact]) => contact.proven)
    return new Map(proven.map(([peerId, { addresses }]) => [peerId, [...addresses.proven]]))
  }

  /** Whether a member was met at this host before; `host` as `hostOf` spells it. */
  isProvenHost(host: string): boolean {
    this.#provenHosts ??= new Set(
      [...this.#contacts.values()].flatMap(({ addresses }) => addresses.proven.map(hostOf))
    )
    return this.#provenHosts.has(host)
  }

  /** The mesh's secret changed: a peer that refused the old one may take the new one, and is asked now. */
  forgetRefusals(): void {
    for (const [peerId, contact] of this.#contacts) {
      const refused = contact.refusedUntilMs > 0
      contact.refusedUntilMs = 0
      if (!contact.addresses.forgetRefusals() && !refused) continue
      if (!this.#init.host.isConnected(peerId)) this.#schedule(peerId, contact, this.#headStart(peerId))
    }
  }

  /**
   * A peer that is in the mesh is to be connected, and says itself that it listens there.
   *
   * @param isUrgent - somebody waits for it: it is dialled again before its turn
   */
  seek(peerId: string, addresses: readonly string[], { isUrgent = false } = {}): void {
    if (this.#init.host.isConnected(peerId)) return
    const contact = this.#contact(peerId, peerId)
    if (contact === undefined || this.#dialling.has(peerId)) return
    contact.addresses.hint(addresses.filter(isListenAddress), peerId)
    const isWaiting = contact.timer !== undefined && contact.failures > 0
    if (isUrgent || !isWaiting) this.#schedule(peerId, contact, 0)
  }

  /** Peers of which an address is known. */
  get dialable(): string[] {
    return [...this.#contacts].flatMap(([peerId, { addresses }]) => (addresses.none ? [] : [peerId]))
  }

  /** True when the last dial of the peer failed. */
  isFailing(peerId: string): boolean {
    return (this.#contacts.get(peerId)?.failures ?? 0) > 0
  }

  /** Where the peer was met or says itself that it is, not what others tell of it. */
  addressesOf(peerId: string): string[] {
    return this.#contacts.get(peerId)?.addresses.vouched ?? []
  }

  stop(): void {
    this.#stopped = true
    for (const { timer } of this.#contacts.values()) clearTimeout(timer)
    for (const timer of this.#timers) clearTimeout(timer)
  }

  /** Known from before, or named on the command line. */
  #expected(peerId: string, addresses: string[], met: boolean): void {
    const contact = this.#contact(peerId, SOMEBODY)
    if (contact === undefined) return
    contact.addresses.prove(...addresses)
    contact.proven = true
    contact.met ||= met
    this.#provenHosts = undefined
    this.#scheduleNews(peerId, contact, 0)
  }

  /** The contact, made where there is none; undefined where the peer is not to be dialled. */
  #contact(peerId: string, teller: string): Contact | undefined {
    if (this.#stopped || peerId === this.#init.host.peerId || this.#init.banned?.(peerId)) return undefined
    let contact = this.#contacts.get(peerId)
    if (contact === undefined) {
      this.#makeRoom()
      const met = this.#init.host.hasMet(peerId)
      contact = {
        addresses: new PeerAddresses(),
        proven: met,
        met,
        teller,
        dueMs: 0,
        dialledMs: Number.NEGATIVE_INFINITY,
        news: false,
        failures: 0,
        notNow: 0,
        refusedUntilMs: 0
      }
      this.#contacts.set(peerId, contact)
    }
    return contact
  }

  /**
   * Makes room for one more contact: of those never met the oldest that the busiest teller told of, else the one that
   * has not been met for longest.
   */
  #makeRoom(): void {
    if (this.#contacts.size < MAX_CONTACTS) return
    const contacts = [...this.#contacts]
    const unproven = contacts.filter(([, { proven }]) => !proven)
    const told = new Map<string, number>()
    for (const [, { teller }] of unproven) told.set(teller, (told.get(teller) ?? 0) + 1)
    const [busiest] = [...told].sort(([, a], [, b]) => b - a)[0] ?? []
    const [peerId, contact] =
      unproven.find(([, { teller }]) => teller === busiest) ??
      contacts.find(([peerId]) => !this.#init.host.hasMet(peerId)) ??
      contacts[0]!
    clearTimeout(contact.timer)
    this.#contacts.delete(peerId)
    this.#provenHosts = undefined
  }

  #headStart(peerId: string): number {
    return this.#init.host.peerId < peerId ? 0 : SECOND_MOVE_MS
  }

  /** There is something new to dial, or a reason to try what is known again. */
  #scheduleNews(peerId: string, contact: Contact, delayMs = this.#headStart(peerId)): void {
    if (this.#dialling.has(peerId)) contact.news = true
    else if (!this.#init.host.isConnected(peerId)) this.#schedule(peerId, contact, delayMs)
  }

  #schedule(peerId: string, contact: Contact, delayMs: number): void {
    if (this.#stopped || contact.addresses.none) return
    const now = performance.now()
    const freeAtMs = Math.max(contact.refusedUntilMs, contact.addresses.freeAtMs(now))
    const dueMs = Math.max(now + delayMs, contact.dialledMs + DIAL_PAUSE_MS, freeAtMs)
    // News bring a dial forward, never put it off.
    if (contact.timer !== undefined && contact.dueMs <= dueMs) return
    clearTimeout(contact.timer)
    contact.dueMs = dueMs
    contact.timer = setTimeout(() => {
      contact.timer = undefined
      void this.#dial(peerId, contact)
    }, dueMs - now)
  }

  async #dial(peerId: string, contact: Contact): Promise<void> {
    const { host } = this.#init
    if (this.#stopped || this.#dialling.has(peerId) || host.isConnected(peerId)) return
    if (!this.#mayDial(peerId)) {
      const pauseMs = Math.min(MAX_RETRY_MS, NOT_NOW_MS * 2 ** Math.min(contact.notNow++, 10))
      this.#schedule(peerId, contact, pauseMs * (0.5 + Math.random()))
      return
    }
    contact.notNow = 0
    const teller = contact.proven ? undefined : this.#tellerWithRoom(contact)
    if (!contact.proven && teller === undefined) {
      this.#schedule(peerId, contact, DIAL_PAUSE_MS)
      return
    }
    if (teller !== undefined) this.#unprovenDials.set(teller, (this.#unprovenDials.get(teller) ?? 0) + 1)
    this.#dialling.add(peerId)
    contact.news = false
    contact.dialledMs = performance.now()
    const failure = await this.#dialInTurn(peerId, contact)
    this.#dialling.delete(peerId)
    if (teller !== undefined) this.#unprovenDials.set(teller, this.#unprovenDials.get(teller)! - 1)
    if (failure === undefined) return
    this.#init.onFailure?.({ target: peerId, met: contact.met, ...failure })
    contact.failures++
    const backOffMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(contact.failures, 10))
    if (!host.isConnected(peerId) && this.#contacts.get(peerId) === contact)
      this.#schedule(peerId, contact, contact.news ? this.#headStart(peerId) : backOffMs)
  }

  #mayDial(peerId: string): boolean {
    const { mayDial } = this.#init
    if (mayDial === undefined) return true
    return mayDial(peerId, [...this.#dialling])
  }

  /** One of those who told of the contact that has dials left. */
  #tellerWithRoom({ addresses, teller }: Contact): string | undefined {
    const all = [...this.#unprovenDials.values()].reduce((sum, count) => sum + count, 0)
    if (all >= MAX_UNPROVEN_DIALS) return undefined
    return [teller, ...addresses.tellers].find(
      one => (this.#unprovenDials.get(one) ?? 0) < MAX_UNPROVEN_DIALS_PER_TELLER
    )
  }

  /**
   * Dials one address after the other, where the peer was met first.
   *
   * @returns what to say of it, where none of them is the peer's
   */
  async #dialInTurn(
    peerId: string,
    { addresses }: Contact
  ): Promise<Omit<DialFailure, 'target' | 'met'> | undefined> {
    const { host } = this.#init
    const startMs = performance.now()
    const proven = addresses.provenNow(startMs)
    let othersEndMs = startMs + DIAL_MS
    const failure = { reason: 'there is no address to dial', refused: false, isSelf: false }
    for (const [i, address] of [...proven, ...addresses.othersNow(startMs)].entries()) {
      const isProven = i < proven.length
      const nowMs = performance.now()
      if (i === proven.length && addresses.proven.length > 0)
        othersEndMs = Math.min(othersEndMs, nowMs + BESIDE_PROVEN_MS)
      const timeoutMs = Math.min(ADDRESS_DIAL_MS, (isProven ? startMs + DIAL_MS : othersEndMs) - nowMs)
      if (this.#stopped || host.isConnected(peerId)) return undefined
      if (timeoutMs <= 0) break
      try {
        await host.dial([address], peerId, { timeoutMs })
        return undefined
      } catch (error) {
        const outcome = outcomeOf(error)
        addresses.failed(address, outcome, performance.now())
        if (isProven || i === 0) failure.reason = messageOf(error)
        failure.refused ||= isProven && isOtherSecret(error)
        failure.isSelf ||= isSelfDial(error)
      }
    }
    return failure
  }

  /**
   * Dials an address without a peer id: the peer that answers is a contact like any other. When it is gone another may
   * answer, such as the same device, installed anew.
   */
  async #dialAddress(address: string, found?: string): Promise<void> {
    const { host, onFailure } = this.#init
    if (this.#stopped) return
    let answered = found
    const isKnown = answered !== undefined && (host.isConnected(answered) || !this.#mayDial(answered))
    if (!isKnown) {
      try {
        answered = await host.dial([address])
      } catch (error) {
        onFailure?.({
          target: address,
          reason: messageOf(error),
          refused: isOtherSecret(error),
          met: false,
          isSelf: isSelfDial(error)
        })
      }
    }
    if (this.#stopped) return
    // Anybody with the secret may have answered: where a member is, is remembered, and it is met after the dial.
    if (answered !== undefined && host.hasMet(answered)) this.#expected(answered, [address], true)
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      void this.#dialAddress(address, answered)
    }, STATIC_RETRY_MS)
    this.#timers.add(timer)
  }
}

/** Another member answers than the one that was dialled: it has the secret, and another key. */
function isOtherPeer(error: unknown): boolean {
  return error instanceof Error && /does not match expected/.test(error.message)
}

function outcomeOf(error: unknown): DialOutcome {
  if (isOtherSecret(error) || isOtherPeer(error)) return 'refused'
  return error instanceof Error && /^(Timeout|Abort)Error$/.test(error.name) ? 'slow' : 'unreachable'
}

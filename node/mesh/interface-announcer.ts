import type { Answer } from 'dns-packet'
import makeMdns from 'multicast-dns'
import { localIpv4 } from './interfaces.ts'

export interface InterfaceAnnouncerInit {
  peerId: string
  /** Tag derived from the mesh's secret, another one than libp2p's so that the two do not answer each other. */
  serviceTag: string
  /** Time between two questions to the network. */
  intervalMs: number
  /** Multiaddrs at which this node listens. */
  addresses(): string[]
  /** Peers that need not answer because the connection to them stands. */
  connected(): string[]
  /** A peer says where it listens, on every question that it answers. Nothing of it is proven. */
  onPeer(peerId: string, addresses: string[]): void
}

/** The answer to the first question may be lost: it is asked again this long after the start. */
const EARLY_QUESTIONS_MS = [1000, 3000]
const TTL_S = 120
const MAX_ADDRESSES = 8
/** So that a question fits into one packet. */
const MAX_KNOWN_ANSWERS = 12
const MAX_TXT_BYTES = 255
const PEER_ID = /^[1-9A-HJ-NP-Za-km-z]{40,60}$/
const TXT_PREFIX = 'a='

type Mdns = makeMdns.MulticastDNS

/**
 * Multicast DNS beside libp2p's, which sends on one interface only and not at all without a route for multicast (and
 * says nothing then). This one works on every interface: asks who else has the mesh's tag, answers who asks, and
 * announces itself at the start. Each interface has a socket of its own with that interface set for sending, so several networks work
 * and none needs a route for multicast. Connected peers are listed in the question and stay silent, so an idle mesh
 * hardly talks.
 */
export class InterfaceAnnouncer {
  readonly #init: InterfaceAnnouncerInit
  #tag: string
  readonly #sockets = new Map<string, Mdns>()
  #timers: NodeJS.Timeout[] = []

  constructor(init: InterfaceAnnouncerInit) {
    this.#init = init
    this.#tag = init.serviceTag
  }

  start(): void {
    this.#openSockets()
    this.#announce()
    this.#ask()
    this.#timers = EARLY_QUESTIONS_MS.map(ms => setTimeout(() => this.#ask(), ms))
    this.#timers.push(
      setInterval(() => {
        this.#openSockets()
        this.#ask()
      }, this.#init.intervalMs)
    )
  }

  /** The mesh's secret changed: from now on asks and answers under another tag. */
  retag(serviceTag: string): void {
    this.#tag = serviceTag
    this.#announce()
    this.#ask()
  }

  async stop(): Promise<void> {
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all([...this.#sockets.values()].map(close))
    this.#sockets.clear()
  }

  /** Interfaces come and go with cables and Wi-Fi. */
  #openSockets(): void {
    const addresses = localIpv4()
    for (const [address, socket] of this.#sockets) {
      if (addresses.includes(address)) continue
      this.#sockets.delete(address)
      void close(socket)
    }
    for (const address of addresses) {
      if (!this.#sockets.has(address)) this.#sockets.set(address, this.#open(address))
    }
  }

  #open(address: string): Mdns {
    const socket = makeMdns({ interface: address, bind: '0.0.0.0' })
    socket.on('query', ({ questions = [], answers = [] }) => {
      if (!questions.some(({ name }) => name === this.#tag)) return
      const known = answers.some(answer => answer.type === 'PTR' && answer.data === this.#instance)
      if (!known) this.#answer(socket)
    })
    socket.on('response', ({ answers = [], additionals = [] }) => this.#hear([...answers, ...additionals]))
    // What fails here fails on one interface; the others and --peer remain. `doctor` says why.
    socket.on('warning', () => {})
    socket.on('error', () => {})
    return socket
  }

  get #instance(): string {
    return `${this.#init.peerId}.${this.#tag}`
  }

  #ask(): void {
    const name = this.#tag
    const answers = this.#init
      .connected()
      .slice(0, MAX_KNOWN_ANSWERS)
      .map(peerId => ({ name, type: 'PTR' as const, ttl: TTL_S, data: `${peerId}.${name}` }))
    for (const socket of this.#sockets.values()) {
      socket.query({ questions: [{ name, type: 'PTR' }], answers })
    }
  }

  #announce(): void {
    for (const socket of this.#sockets.values()) this.#answer(socket)
  }

  #answer(socket: Mdns): void {
    const data = this.#init
      .addresses()
      .map(address => TXT_PREFIX + address)
      .filter(text => text.length <= MAX_TXT_BYTES)
      .slice(0, MAX_ADDRESSES)
    socket.respond({
      answers: [
        { name: this.#tag, type: 'PTR', ttl: TTL_S, data: this.#instance },
        { name: this.#instance, type: 'TXT', ttl: TTL_S, data }
      ]
    })
  }

  #hear(records: Answer[]): void {
    for (const record of records) {
      if (record.type !== 'TXT' || !record.name.endsWith(`.${this.#tag}`)) continue
      const peerId = record.name.slice(0, -this.#tag.length - 1)
      if (!PEER_ID.test(peerId) || peerId === this.#init.peerId) continue
      const texts = Array.isArray(record.data) ? record.data : [record.data]
      const addresses = texts
        .slice(0, MAX_ADDRESSES)
        .map(text => text.toString('utf8'))
        .flatMap(text => (text.startsWith(TXT_PREFIX) ? [text.slice(TXT_PREFIX.length)] : []))
      this.#init.onPeer(peerId, addresses)
    }
  }
}

function close(socket: Mdns): Promise<void> {
  return new Promise(resolve => socket.destroy(() => resolve()))
}

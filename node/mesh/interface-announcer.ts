import type { RemoteInfo } from 'node:dgram'
import type { Answer } from 'dns-packet'
import makeMdns, { type QueryPacket, type ResponsePacket } from 'multicast-dns'
import { logger } from '../../models/log.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { localIpv4 } from './interfaces.ts'
import { Spaced } from './spaced.ts'

const log = logger('edgeshard:mesh')

export interface InterfaceAnnouncerInit {
  peerId: string
  /** Tag derived from the mesh's secret, another one than libp2p's so that the two do not answer each other. */
  serviceTag: string
  /** Time between two questions to the network. */
  intervalMs: number
  /** Multiaddrs at which this node listens; who listens nowhere asks alone. */
  addresses(): string[]
  /** Whether nobody is to be asked: all members of a large mesh would answer. @default never */
  isQuiet?(): boolean
  /** Peers that need not answer because the connection to them stands. */
  connected(): string[]
  /** Somebody at the IP `from` says where a peer listens, on every question that it answers. Nothing of it is proven. */
  onPeer(peerId: string, addresses: string[], from: string): void
  /** What this node calls itself, as members can read it. @default nothing is said of it */
  sealedName?(): string
  /** Somebody says that this node itself listens there: this node, whose own words come back to it, or another. */
  onOwnId?(addresses: string[], sealedName: string | undefined): void
}

/** The answer to the first question may be lost: it is asked again this long after the start. */
const EARLY_QUESTIONS_MS = [1000, 3000]
const TTL_S = 120
/** All members hear an answer, whichever asked; a flood of questions gets no flood of answers (RFC 6762, 6). */
const ANSWER_PAUSE_MS = 1000
const MAX_ADDRESSES = 8
/** A question with so many fits into one packet. */
const MAX_KNOWN_ANSWERS = 12
const MAX_TXT_BYTES = 255
const TXT_PREFIX = 'a='
const NAME_PREFIX = 'n='

type Mdns = makeMdns.MulticastDNS

interface Interface {
  socket: Mdns
  answer: Spaced
}

/**
 * Multicast DNS beside libp2p's, which sends on one interface only and not at all without a route for multicast (and
 * says nothing then). This one works on every interface: asks for others with the mesh's tag, answers those that ask, and
 * announces itself at the start. Each interface has a socket of its own with that interface set for sending, so several networks work
 * and none needs a route for multicast. Connected peers are listed in the question and stay silent, so an idle mesh
 * hardly talks.
 */
export class InterfaceAnnouncer {
  readonly #init: InterfaceAnnouncerInit
  #tag: string
  readonly #interfaces = new Map<string, Interface>()
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
    await Promise.all([...this.#interfaces.values()].map(close))
    this.#interfaces.clear()
  }

  /** Interfaces come and go with cables and Wi-Fi. */
  #openSockets(): void {
    const addresses = localIpv4()
    for (const [address, opened] of this.#interfaces) {
      if (addresses.includes(address)) continue
      this.#interfaces.delete(address)
      void close(opened)
    }
    for (const address of addresses) {
      if (!this.#interfaces.has(address)) this.#interfaces.set(address, this.#open(address))
    }
  }

  #open(address: string): Interface {
    const socket = makeMdns({ interface: address, bind: '0.0.0.0' })
    const answer = new Spaced(ANSWER_PAUSE_MS, () => this.#answer(socket))
    const onQuery = ({ questions = [], answers = [] }: QueryPacket) => {
      if (!questions.some(({ name }) => name === this.#tag)) return
      const known = answers.some(answer => answer.type === 'PTR' && answer.data === this.#instance)
      if (!known) answer.ask()
    }
    const onResponse = ({ answers = [], additionals = [] }: ResponsePacket, from: RemoteInfo) =>
      this.#hear([...answers, ...additionals], from.address)
    socket.on('query', surviving(onQuery))
    socket.on('response', surviving(onResponse))
    // What fails here fails on one interface; the others and --peer remain. `doctor` says why.
    socket.on('warning', () => {})
    socket.on('error', () => {})
    return { socket, answer }
  }

  get #instance(): string {
    return `${this.#init.peerId}.${this.#tag}`
  }

  #ask(): void {
    if (this.#init.isQuiet?.() === true) return
    const name = this.#tag
    const answers = this.#init
      .connected()
      .slice(0, MAX_KNOWN_ANSWERS)
      .map(peerId => ({ name, type: 'PTR' as const, ttl: TTL_S, data: `${peerId}.${name}` }))
    for (const { socket } of this.#interfaces.values()) {
      socket.query({ questions: [{ name, type: 'PTR' }], answers })
    }
  }

  #announce(): void {
    for (const { answer } of this.#interfaces.values()) answer.ask()
  }

  #answer(socket: Mdns): void {
    const data = this.#init
      .addresses()
      .map(address => TXT_PREFIX + address)
      .filter(text => text.length <= MAX_TXT_BYTES)
      .slice(0, MAX_ADDRESSES)
    if (data.length === 0) return
    const name = this.#init.sealedName?.()
    if (name !== undefined) data.push(NAME_PREFIX + name)
    socket.respond({
      answers: [
        { name: this.#tag, type: 'PTR', ttl: TTL_S, data: this.#instance },
        { name: this.#instance, type: 'TXT', ttl: TTL_S, data }
      ]
    })
  }

  #hear(records: Answer[], from: string): void {
    for (const record of records) {
      if (record.type !== 'TXT' || !record.name.endsWith(`.${this.#tag}`)) continue
      const peerId = record.name.slice(0, -this.#tag.length - 1)
      if (!isPeerId(peerId)) continue
      const data = Array.isArray(record.data) ? record.data : [record.data]
      const texts = data.slice(0, MAX_ADDRESSES + 1).map(text => text.toString('utf8'))
      const addresses = withPrefix(texts, TXT_PREFIX).slice(0, MAX_ADDRESSES)
      if (peerId === this.#init.peerId) this.#init.onOwnId?.(addresses, withPrefix(texts, NAME_PREFIX)[0])
      else this.#init.onPeer(peerId, addresses, from)
    }
  }
}

function withPrefix(texts: string[], prefix: string): string[] {
  return texts.filter(text => text.startsWith(prefix)).map(text => text.slice(prefix.length))
}

/** The library calls its listeners as packets arrive, strangers' too: what one throws would end the process. */
function surviving<P>(listener: (packet: P, from: RemoteInfo) => void): typeof listener {
  return (packet, from) => {
    try {
      listener(packet, from)
    } catch (error) {
      log.passOver('an mDNS packet cannot be read; it says nothing')(error)
    }
  }
}

function close({ socket, answer }: Interface): Promise<void> {
  answer.stop()
  return new Promise(resolve => socket.destroy(() => resolve()))
}

import type { PeerDiscovery, PeerInfo } from '@libp2p/interface'

type Discovery = PeerDiscovery & {
  start?(): unknown
  stop?(): unknown
  /** The socket, from the start on. */
  mdns?: { query(...args: unknown[]): unknown }
}

/**
 * libp2p's mDNS under a service tag that can change while it runs. Its `peer` event fires with every answer, again and
 * again, where libp2p's own `peer:discovery` reports a peer once: that is what makes redialling possible.
 */
export class MdnsService<C> {
  readonly #create: (serviceTag: string) => (components: C) => Discovery
  #tag: string
  #components: C | undefined
  #running: Discovery | undefined
  #onPeer: (peerId: string, addresses: string[]) => void = () => {}
  #isQuiet: () => boolean = () => false

  constructor(serviceTag: string, create: (serviceTag: string) => (components: C) => Discovery) {
    this.#tag = serviceTag
    this.#create = create
  }

  /** A service of the host, started and stopped with it. */
  readonly service = (components: C): { start(): Promise<void>; stop(): Promise<void> } => {
    this.#components = components
    return { start: () => this.#start(), stop: () => this.#stop() }
  }

  onPeer(listener: (peerId: string, addresses: string[]) => void): void {
    this.#onPeer = listener
  }

  /** While `isQuiet`, nothing is asked: all members answer every question, which in a large mesh is a flood. */
  quietWhile(isQuiet: () => boolean): void {
    this.#isQuiet = isQuiet
  }

  async retag(serviceTag: string): Promise<void> {
    this.#tag = serviceTag
    if (this.#running === undefined) return
    await this.#stop()
    await this.#start()
  }

  async #start(): Promise<void> {
    const service = this.#create(this.#tag)(this.#components!)
    service.addEventListener('peer', ({ detail }: CustomEvent<PeerInfo>) => {
      this.#onPeer(detail.id.toString(), detail.multiaddrs.map(String))
    })
    this.#running = service
    await service.start?.()
    // libp2p's service asks by a timer of its own, and has no way to be told not to.
    const socket = service.mdns
    if (socket === undefined) return
    const query = socket.query.bind(socket)
    socket.query = (...args) => (this.#isQuiet() ? undefined : query(...args))
  }

  async #stop(): Promise<void> {
    await this.#running?.stop?.()
    this.#running = undefined
  }
}

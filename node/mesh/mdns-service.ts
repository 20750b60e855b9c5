import type { PeerDiscovery, PeerInfo } from '@libp2p/interface'

type Discovery = PeerDiscovery & { start?(): unknown; stop?(): unknown }

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
  }

  async #stop(): Promise<void> {
    await this.#running?.stop?.()
    this.#running = undefined
  }
}

import type { PeerInfo } from '@libp2p/interface'
import { mdns } from '@libp2p/mdns'

type Components = Parameters<ReturnType<typeof mdns>>[0]
type Service = ReturnType<ReturnType<typeof mdns>> & { start?(): unknown; stop?(): unknown }
type Listener = (peerId: string, addresses: string[]) => void

/** mDNS under a service tag that can change while it runs. Reports every announcement, again and again. */
export class Announcer {
  #tag: string
  readonly #intervalMs: number
  #components: Components | undefined
  #running: Service | undefined
  #listener: Listener = () => {}

  constructor(tag: string, intervalMs: number) {
    this.#tag = tag
    this.#intervalMs = intervalMs
  }

  /** As a libp2p service: started and stopped with the host. */
  readonly service = (components: Components) => {
    this.#components = components
    return { start: () => this.#start(), stop: () => this.#stop() }
  }

  onPeer(listener: Listener): void {
    this.#listener = listener
  }

  async retag(tag: string): Promise<void> {
    this.#tag = tag
    if (this.#running === undefined) return
    await this.#stop()
    await this.#start()
  }

  async #start(): Promise<void> {
    const service: Service = mdns({ interval: this.#intervalMs, serviceTag: this.#tag })(this.#components!)
    service.addEventListener('peer', ({ detail }: CustomEvent<PeerInfo>) => {
      this.#listener(detail.id.toString(), detail.multiaddrs.map(String))
    })
    this.#running = service
    await service.start?.()
  }

  async #stop(): Promise<void> {
    await this.#running?.stop?.()
    this.#running = undefined
  }
}

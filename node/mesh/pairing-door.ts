import { setTimeout as delay } from 'node:timers/promises'
import { type PairingHandlers, servePairing } from '../../protocols/pairing/index.ts'
import { splitAddress } from './contacts.ts'
import type { Host } from './host.ts'
import { InterfaceAnnouncer } from './interface-announcer.ts'
import { createPairingHost, hostEvents, PAIRING_TAG } from './pairing-host.ts'

export interface DoorInit {
  /** TCP port; when it is taken the next free one; 0 for any. */
  port: number
  listen?: string
  /** Tell the local network that a mesh accepts. */
  mdns: boolean
}

/** Strangers come in here; the newest stay. */
const MAX_CALLERS = 16
/** A run takes two round trips, each side at most 10 s for one. */
const CALL_MS = 25_000
/** The last answer is on its way so long at most. */
const LAST_WORD_MS = 5000
/** Who asks is answered at once; nobody has to be asked for. */
const MDNS_INTERVAL_MS = 10_000

/** The listener that is there while pairing is open: it speaks the pairing protocol and nothing else of ours. */
export class PairingDoor {
  readonly #host: Host
  #service: { stop(): Promise<void> } | undefined
  readonly #announcer: InterfaceAnnouncer
  /** Who is connected, in the order of arrival. */
  readonly #callers = new Map<string, NodeJS.Timeout>()

  /** Listens, and announces itself. */
  static async open({ mdns, ...where }: DoorInit, handlers: PairingHandlers): Promise<PairingDoor> {
    const host = await createPairingHost(where)
    const door = new PairingDoor(host)
    try {
      door.#service = await servePairing(host, handlers)
      await host.start(
        hostEvents({
          onConnected: peerId => door.#connected(peerId),
          onDisconnected: peerId => door.#disconnected(peerId)
        })
      )
    } catch (error) {
      await door.close()
      throw error
    }
    if (mdns) door.#announcer.start()
    return door
  }

  private constructor(host: Host) {
    this.#host = host
    this.#announcer = new InterfaceAnnouncer({
      peerId: host.peerId,
      serviceTag: PAIRING_TAG,
      intervalMs: MDNS_INTERVAL_MS,
      addresses: () => host.addresses.map(text => splitAddress(text).address),
      connected: () => [],
      onPeer() {}
    })
  }

  /** Where a device that joins reaches it: multiaddrs without a peer id, which is a new one each time. */
  get addresses(): string[] {
    return this.#host.addresses.map(text => splitAddress(text).address)
  }

  ipOf(caller: string): string | undefined {
    const [address] = this.#host.addressesOf(caller)
    return address === undefined ? undefined : /^\/ip[46]\/([^/]+)/.exec(address)?.[1]
  }

  /** Takes nobody in any more, lets go whom it has answered, and closes. */
  async close(): Promise<void> {
    await this.#announcer.stop()
    await Promise.race([this.#service?.stop(), delay(LAST_WORD_MS, undefined, { ref: false })])
    for (const timer of this.#callers.values()) clearTimeout(timer)
    this.#callers.clear()
    await this.#host.stop()
  }

  #connected(peerId: string): void {
    this.#disconnected(peerId)
    const [oldest] = this.#callers.keys()
    if (this.#callers.size >= MAX_CALLERS && oldest !== undefined) this.#cut(oldest, 'others wait')
    const timer = setTimeout(() => this.#cut(peerId, 'its time is up'), CALL_MS)
    this.#callers.set(peerId, timer)
  }

  #disconnected(peerId: string): void {
    clearTimeout(this.#callers.get(peerId))
    this.#callers.delete(peerId)
  }

  #cut(peerId: string, why: string): void {
    this.#disconnected(peerId)
    this.#host.disconnect(peerId, new Error(why))
  }
}

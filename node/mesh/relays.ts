import {
  Exchange,
  type ExchangeMessage,
  type RelayMessage,
  type SignedRecord
} from '../../protocols/directory/index.ts'
import { type FarDevice, FarDevices, type FarDevicesInit } from './far-devices.ts'
import { Neighbourhood, type NeighbourhoodInit } from './neighbourhood.ts'

export interface RelaysInit
  extends Omit<FarDevicesInit, 'neighbours' | 'onNews'>,
    Omit<NeighbourhoodInit, 'alive' | 'lost' | 'isReachedWithout' | 'say'> {
  /** Peers that are connected and silent. */
  silent(): readonly string[]
  /** Devices of which an address is known. */
  dialable(): readonly string[]
  /** Sends on the control stream to a peer. */
  send(peerId: string, message: RelayMessage): void
}

/** A device that was there so lately is looked for, where it is not. */
const LOOKED_FOR_MS = 600_000

/**
 * A mesh of more devices than all are connected to each other: whom this node is connected to, and what it hears of the
 * others through them. While it is small, nothing of all this is said.
 */
export class Relays {
  readonly #init: RelaysInit
  readonly #far: FarDevices
  readonly #exchange: Exchange
  readonly #neighbourhood: Neighbourhood
  /** Peers that speak a version of the directory with relayed records. */
  readonly #open = new Set<string>()

  constructor(init: RelaysInit) {
    const { timers, peerId, connected, isIn } = init
    this.#init = init
    const heard = () => {
      const silent = new Set(init.silent())
      return connected().filter(peer => !silent.has(peer))
    }
    this.#far = new FarDevices({
      ...init,
      neighbours: heard,
      onNews: device => this.#exchange.spread(device)
    })
    this.#exchange = new Exchange({
      timers,
      send: (peer, message) => init.send(peer, message),
      get: device => this.#far.signed(device),
      lacks: (device, serial) => this.#far.lacks(device, serial),
      take: record => this.#far.take(record)
    })
    this.#neighbourhood = new Neighbourhood({
      ...init,
      alive: () => [...new Set([...heard(), ...this.#far.alive])].filter(device => device !== peerId),
      lost: () => this.#lost(),
      isIn,
      isReachedWithout: peer => this.#far.isReachedWithout(peer),
      say: (peer, keep) => {
        if (this.#open.has(peer)) init.send(peer, { type: 'keep', keep })
      }
    })
  }

  /** A peer listens to what is said of relayed records. */
  opened(peerId: string): void {
    this.#open.add(peerId)
    this.#far.came(peerId)
    this.#neighbourhood.connected(peerId)
    this.#exchange.joined(peerId, this.#far.isSigning ? this.#far.worthTelling(peerId) : [])
    this.#changed()
  }

  closed(peerId: string): void {
    this.#open.delete(peerId)
    this.#exchange.left(peerId)
  }

  /** @returns whether both ends were done with the connection: then it is there, as far as others say */
  disconnected(peerId: string): boolean {
    this.closed(peerId)
    const isParted = this.#neighbourhood.disconnected(peerId)
    if (!isParted) this.#far.broke(peerId)
    this.#changed()
    return isParted && this.#far.get(peerId)?.state === 'connected'
  }

  /** @throws {InvalidMessageError} {LimitExceededError} for what no honest peer says */
  heard(peerId: string, message: RelayMessage): void {
    if (message.type === 'keep') {
      this.#neighbourhood.heard(peerId, message.keep)
      return
    }
    this.#begin()
    this.#exchange.heard(peerId, message satisfies ExchangeMessage)
  }

  /** What this node says of itself, or a connection, may be another one now. */
  changed(): void {
    this.#changed()
  }

  membershipChanged(): void {
    this.#far.membershipChanged()
  }

  get(device: string): FarDevice | undefined {
    return this.#far.get(device)
  }

  /** The signed record of a device as it is handed on. */
  signedOf(device: string): SignedRecord | undefined {
    return this.#far.signed(device)
  }

  /** Devices that are known by records that others handed on. */
  get devices(): string[] {
    return this.#far.devices
  }

  neighboursOf(device: string): ReadonlySet<string> {
    return this.#far.neighboursOf(device)
  }

  get isLarge(): boolean {
    return this.#neighbourhood.isLarge
  }

  mayDial(device: string, underWay: readonly string[]): boolean {
    return this.#neighbourhood.mayDial(device, underWay)
  }

  stop(): void {
    this.#neighbourhood.stop()
    this.#exchange.stop()
    this.#far.stop()
  }

  #changed(): void {
    if (!this.#far.isSigning && this.#init.connected().length + 1 > this.#init.size.border) this.#begin()
    this.#far.changed()
  }

  /** From now on all that is known is told, to those that were there before, too. */
  #begin(): void {
    if (this.#far.isSigning) return
    this.#far.begin()
    for (const device of this.#far.worthTelling()) this.#exchange.spread(device)
  }

  #lost(): string[] {
    const connected = new Set(this.#init.connected())
    return this.#init.dialable().filter(device => {
      if (connected.has(device) || !this.#init.isIn(device)) return false
      const far = this.#far.get(device)
      return far === undefined || (far.state !== 'connected' && far.unreachedMs < LOOKED_FOR_MS)
    })
  }
}

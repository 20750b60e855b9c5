import { multiaddr } from '@multiformats/multiaddr'

/** Handshakes at a time. */
export const MAX_HANDSHAKES = 100
/** Of these, for hosts at which a member was met before: strangers cannot fill them. */
const KEPT_FOR_PROVEN = 16
/** Until a caller has asked for noise, which it does with its first packet. A device that has just woken up takes a while. */
const SILENT_MS = 2000
/** Until then it is on the way: nobody is called silent for the time that one round takes. */
const SPEAKS_WITHIN_MS = 250

export interface HandshakePlacesInit {
  /** Whether a member was met before at this host, a multiaddr of an IP alone. */
  isProvenHost(host: string): boolean
}

interface Place {
  host: string
  subnet: string
  proven: boolean
  /** `fresh`: what it says may be on its way. */
  state: 'fresh' | 'silent' | 'spoken'
  timer: NodeJS.Timeout | undefined
  drop: (reason: Error) => void
}

/**
 * Who may shake hands, where more want to than there are places. A newcomer takes the place of a caller that says nothing,
 * else of one in the subnet (/24, or /64 of IPv6) and there at the host that has most, the oldest first; but only where
 * there are more than in its own: a stranger with few addresses only ever displaces itself.
 */
export class HandshakePlaces {
  readonly #init: HandshakePlacesInit
  /** In the order of arrival. */
  readonly #places = new Map<object, Place>()

  constructor(init: HandshakePlacesInit) {
    this.#init = init
  }

  /** Handshakes that are under way. */
  get taken(): number {
    return this.#places.size
  }

  /**
   * A connection asks for a place, which is its own until `leave`, or `drop` is called.
   *
   * @param host - a multiaddr of its IP alone
   * @returns false where there is none for it
   */
  enter(connection: object, host: string, drop: (reason: Error) => void): boolean {
    const proven = this.#init.isProvenHost(host)
    const subnet = subnetOf(host)
    if (this.#isFull(proven) && !this.#makeRoom({ host, subnet, proven })) return false
    const place: Place = { host, subnet, proven, state: 'fresh', timer: undefined, drop }
    this.#places.set(connection, place)
    this.#unlessSpoken(place, SPEAKS_WITHIN_MS, () => {
      place.state = 'silent'
      const leftMs = SILENT_MS - SPEAKS_WITHIN_MS
      this.#unlessSpoken(place, leftMs, () => this.#drop(connection, 'it said nothing'))
    })
    return true
  }

  /** It has asked for noise. */
  spoke(connection: object): void {
    const place = this.#places.get(connection)
    if (place === undefined) return
    place.state = 'spoken'
    clearTimeout(place.timer)
  }

  /** Of a caller that has not spoken by then. What it sent while this process was busy is read before it is judged. */
  #unlessSpoken(place: Place, ms: number, act: () => void): void {
    place.timer = setTimeout(() => {
      setImmediate(() => {
        if (place.state !== 'spoken') act()
      })
    }, ms)
  }

  /** The handshake is over, whatever came of it. */
  leave(connection: object): void {
    this.spoke(connection)
    this.#places.delete(connection)
  }

  #isFull(proven: boolean): boolean {
    if (this.#places.size >= MAX_HANDSHAKES) return true
    if (proven) return false
    const strangers = [...this.#places.values()].filter(place => !place.proven)
    return strangers.length >= MAX_HANDSHAKES - KEPT_FOR_PROVEN
  }

  #makeRoom(newcomer: Pick<Place, 'host' | 'subnet' | 'proven'>): boolean {
    const all = [...this.#places]
    const strangers = all.filter(([, { proven }]) => !proven)
    const from = newcomer.proven && strangers.length === 0 ? all : strangers
    const atHost = countBy(from, ({ host }) => host)
    const inSubnet = countBy(from, ({ subnet }) => subnet)
    const gives = ({ host, subnet }: Place) => {
      if (newcomer.proven || host === newcomer.host) return true
      return subnet === newcomer.subnet
        ? atHost.get(host)! > (atHost.get(newcomer.host) ?? 0)
        : inSubnet.get(subnet)! > (inSubnet.get(newcomer.subnet) ?? 0)
    }
    const isSilent = ({ state }: Place) => Number(state === 'silent')
    const hasSpoken = ({ state }: Place) => Number(state === 'spoken')
    const [victim] = from
      .filter(([, place]) => gives(place))
      .sort(
        ([, a], [, b]) =>
          isSilent(b) - isSilent(a) ||
          inSubnet.get(b.subnet)! - inSubnet.get(a.subnet)! ||
          atHost.get(b.host)! - atHost.get(a.host)! ||
          hasSpoken(a) - hasSpoken(b)
      )
    if (victim === undefined) return false
    this.#drop(victim[0], 'another caller took its place')
    return true
  }

  #drop(connection: object, why: string): void {
    const place = this.#places.get(connection)
    this.leave(connection)
    place?.drop(new Error(`the handshake was ended: ${why}`))
  }
}

function countBy(places: readonly [object, Place][], key: (place: Place) => string): Map<string, number> {
  const counts = new Map<string, number>()
  for (const [, place] of places) counts.set(key(place), (counts.get(key(place)) ?? 0) + 1)
  return counts
}

/** The first 24 bits of an IPv4 address, the first 64 of an IPv6 one. */
function subnetOf(host: string): string {
  const { bytes } = multiaddr(host)
  // The code of the protocol takes one byte, then comes the address, of 4 bytes or 16.
  const length = bytes.byteLength - 1 === 4 ? 3 : 8
  return Buffer.from(bytes.subarray(0, 1 + length)).toString('hex')
}

import { shortId } from '../short-names.ts'

/** Names that are remembered, at most: those of all devices of a mesh, and of many that are banned. */
const MAX_NAMES = 2048

/** What devices call themselves, for people: a lost device is banned by its name long after it was last heard of. */
export class DeviceNames {
  readonly #heard: (peerId: string) => string | undefined
  #remembered: ReadonlyMap<string, string>

  /**
   * @param remembered - peer ids and names, from before
   * @param heard - what a device says now
   */
  constructor(remembered: Readonly<Record<string, string>>, heard: (peerId: string) => string | undefined) {
    this.#remembered = new Map(Object.entries(remembered))
    this.#heard = heard
  }

  /** A device's name, or a short form of its id. */
  nameOf(peerId: string): string {
    return this.#heard(peerId) ?? this.#remembered.get(peerId) ?? shortId(peerId)
  }

  /** Remembers what a device calls itself. @returns whether that is news */
  remember(peerId: string): boolean {
    const name = this.#heard(peerId)
    if (name === undefined || this.#remembered.get(peerId) === name) return false
    const others = [...this.#remembered].filter(([other]) => other !== peerId)
    this.#remembered = new Map([...others, [peerId, name] as const].slice(-MAX_NAMES))
    return true
  }

  /** Peer ids and names, to be remembered. */
  get all(): Record<string, string> {
    return Object.fromEntries(this.#remembered)
  }
}

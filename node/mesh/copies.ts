import { isListenAddress } from './contacts.ts'

/** Another device that runs with this node's own identity. */
export interface Copy {
  /** What it calls itself; undefined where only its address is known. */
  name: string | undefined
  address: string
}

export interface CopiesInit {
  /** Home of this node, for what people are told. */
  home: string
  /** Where this node listens, without its peer id. */
  own(): string[]
  /** Whether another one that answers there proves to have this node's own key; it may also have been this node itself. */
  provesSelf(address: string): Promise<'yes' | 'no' | 'unclear'>
  /** Waits for a random time: a home and its copy hear of each other at once, and each one's call makes the other's unclear. */
  pause(): Promise<void>
  onNotice(message: string): void
  now(): number
}

/** An address is not asked again sooner. */
const ASK_AGAIN_MS = 60_000
const UNCLEAR_AGAIN_MS = 5_000
/** A copy that was not met for so long is taken to be mended. */
const FORGET_AFTER_MS = 10 * ASK_AGAIN_MS
/** Addresses that anybody may announce, and how many of them are remembered, asked or not. */
const MAX_ADDRESSES = 64

/**
 * Notices that another device runs with a copy of this home: two nodes with one peer id cut each other's connections
 * off. Somebody says that this node's own id can be reached where this node is not; a handshake there proves it, or not.
 */
export class Copies {
  readonly #init: CopiesInit
  readonly #askedAtMs = new Map<string, number>()
  readonly #found = new Map<string, Copy & { atMs: number }>()
  readonly #said = new Set<string>()

  constructor(init: CopiesInit) {
    this.#init = init
  }

  /** Devices that have proven to be a copy of this one, or this one a copy of them, and were met lately. */
  get found(): Copy[] {
    const since = this.#init.now() - FORGET_AFTER_MS
    const lately = [...this.#found.values()].filter(({ atMs }) => atMs >= since)
    return lately.map(({ name, address }) => ({ name, address }))
  }

  /** Hears, of whomever, that this node's id can be reached at `addresses`. */
  async heard(addresses: readonly string[], name?: string): Promise<void> {
    for (const address of addresses) {
      // It is proven already, and people should hear whose it is.
      if (name !== undefined && this.#found.has(address) && this.#found.get(address)?.name === undefined) {
        this.#proven(address, name)
      }
      if (!isListenAddress(address) || !this.#mayAsk(address)) continue
      await this.#init.pause()
      const proof = await this.#init.provesSelf(address)
      if (proof === 'yes') this.#proven(address, name)
      if (proof === 'unclear')
        this.#askedAtMs.set(address, this.#init.now() - ASK_AGAIN_MS + UNCLEAR_AGAIN_MS)
    }
  }

  #proven(address: string, name: string | undefined): void {
    const known = this.#found.get(address)
    this.#found.set(address, { address, name: name ?? known?.name, atMs: this.#init.now() })
    const who = `${name ?? known?.name} at ${address}`
    if (this.#said.has(who)) return
    this.#said.add(who)
    this.#init.onNotice(copyFinding({ address, name }, this.#init.home).join('; '))
  }

  #mayAsk(address: string): boolean {
    const now = this.#init.now()
    const asked = this.#askedAtMs.get(address)
    if (this.#init.own().includes(address)) return false
    if (asked !== undefined && now - asked < ASK_AGAIN_MS) return false
    // The oldest goes first, so an address comes to be asked whatever strangers announce, and not more often.
    this.#askedAtMs.delete(address)
    const [oldest] = this.#askedAtMs
    if (this.#askedAtMs.size >= MAX_ADDRESSES && oldest !== undefined) {
      if (now - oldest[1] < ASK_AGAIN_MS) return false
      this.#askedAtMs.delete(oldest[0])
    }
    this.#askedAtMs.set(address, now)
    return true
  }
}

/** What is wrong, and what to do about it. */
export function copyFinding({ name, address }: Copy, home: string): [found: string, advice: string] {
  const whose = name === undefined ? address : `${name} at ${address}`
  return [
    `this home is a copy of another device's (${whose}), or that one of this: with one identity they cut each other off`,
    `on the one that is the copy stop the node, remove identity.key (here ${home}/identity.key) and start it again`
  ]
}

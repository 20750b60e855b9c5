import { createHmac, randomBytes } from 'node:crypto'
import type { Timers } from '../../protocols/directory/index.ts'

/** From when on not all are connected to each other, and with how many each is then. */
export interface MeshSize {
  /** Up to so many devices that are there, this one among them, all are connected to each other. */
  border: number
  /** Peers that a device chooses in a larger mesh; as many choose it, in the mean. */
  chosen: number
}

/** Sixteen neighbours cost a device 5 kB/s of heartbeats, eight the half of it. */
export const MESH_SIZE: MeshSize = { border: 16, chosen: 4 }

export interface NeighbourhoodInit {
  peerId: string
  size: MeshSize
  timers: Timers
  /** Devices that are there, this one not among them, connected to this one or not. */
  alive(): readonly string[]
  /** Devices that are in the mesh, were there lately and are not. */
  lost(): readonly string[]
  /** Peers that this node is connected to. */
  connected(): readonly string[]
  isIn(device: string): boolean
  /** An owner has let it in, or it is one itself: what other members let in may be as many as they like. */
  isOwners(device: string): boolean
  /** Whether this node would hear of a peer, and it of this node, without their connection. */
  isReachedWithout(peerId: string): boolean
  /** Something but the directory uses the connection, or soon will. */
  isInUse(peerId: string): boolean
  /** It was dialled in vain. */
  isFailing(device: string): boolean
  dial(device: string): void
  /** Tells a peer whether this node would keep their connection. */
  say(peerId: string, keep: boolean): void
  part(peerId: string): void
}

/** A mesh that has shrunk to so much of the border connects everybody again; in between it stays as it is. */
const SHRUNK = 0.8
const LOOK_EVERY_MS = 1000
/**
 * Of its choices so much a device makes among those that owners let in: they stay in one piece whoever else comes, so a
 * ban reaches all of them.
 */
const OWNERS_SHARE = 0.75
/** Neither would keep a connection for so long: it is ended. */
const PART_AFTER_MS = 3000
const PARTS_AT_ONCE = 2
/** Dials of devices that are not there, a second in the whole mesh: so a partition is found to have healed. */
const LOST_DIALS_PER_SECOND = 4

interface Connection {
  /** What was said last. */
  own: boolean
  theirs: boolean
  unwantedSinceMs: number | undefined
}

/**
 * Whom this node is connected to, in a mesh of more devices than all know each other: a few that it chooses, those that
 * have chosen it, and those that it has work with. The choice is by a secret of this process, so that nobody can make
 * itself chosen, and changes as little as the mesh does: a device that comes takes one place of few others.
 */
export class Neighbourhood {
  readonly #init: NeighbourhoodInit
  readonly #salt = randomBytes(16)
  readonly #ranks = new Map<string, string>()
  readonly #connections = new Map<string, Connection>()
  #chosen: ReadonlySet<string> = new Set()
  #sought: string | undefined
  #isLarge = false
  #cancel: () => void

  constructor(init: NeighbourhoodInit) {
    this.#init = init
    this.#cancel = this.#lookAgain()
  }

  /** There are more devices than all are connected to. */
  get isLarge(): boolean {
    return this.#isLarge
  }

  /** Peers that this node has chosen. */
  get chosen(): ReadonlySet<string> {
    return this.#chosen
  }

  /** A peer can be told whether this node would keep the connection. */
  connected(peerId: string): void {
    this.#connections.set(peerId, { own: true, theirs: true, unwantedSinceMs: undefined })
  }

  /** @returns whether neither of the two wanted the connection any more: then the peer is there still */
  disconnected(peerId: string): boolean {
    const connection = this.#connections.get(peerId)
    this.#connections.delete(peerId)
    return connection !== undefined && !connection.own && !connection.theirs
  }

  /** A peer says whether it would keep the connection. */
  heard(peerId: string, keep: boolean): void {
    const connection = this.#connections.get(peerId)
    if (connection !== undefined) connection.theirs = keep
  }

  /** Whether a device is to be dialled, while others are. */
  mayDial(device: string, underWay: readonly string[]): boolean {
    const { connected, isIn, isInUse } = this.#init
    if (this.#chosen.has(device) || this.#sought === device || isInUse(device)) return true
    if (this.#isLarge) return false
    // A device that has just come hears of all at once, and of how many there are from the first that it meets.
    // What strangers invent takes no place.
    return !isIn(device) || connected().length + underWay.filter(isIn).length < this.#init.size.border
  }

  /** Looks at once whether there is somebody to dial, to part from, or to tell something. */
  look(): void {
    const { peerId, alive, connected, dial, timers } = this.#init
    const { border } = this.#init.size
    const there = alive()
    const count = there.length + 1
    this.#isLarge = count > border || (this.#isLarge && count > SHRUNK * border)
    this.#chosen = new Set(this.#isLarge ? this.#best(there.filter(device => device !== peerId)) : [])
    const met = new Set(connected())
    for (const device of this.#isLarge ? this.#chosen : there) if (!met.has(device)) dial(device)
    this.#seekLost(count)
    const now = timers.now()
    const ending: string[] = []
    for (const [peer, connection] of this.#connections) {
      const keep = this.#keeps(peer)
      if (keep !== connection.own) {
        connection.own = keep
        this.#init.say(peer, keep)
      }
      if (keep || connection.theirs) connection.unwantedSinceMs = undefined
      else {
        connection.unwantedSinceMs ??= now
        if (now - connection.unwantedSinceMs >= PART_AFTER_MS) ending.push(peer)
      }
    }
    for (const peer of ending.slice(0, PARTS_AT_ONCE)) this.#init.part(peer)
  }

  stop(): void {
    this.#cancel()
  }

  #keeps(peerId: string): boolean {
    const { isReachedWithout, isInUse } = this.#init
    return !this.#isLarge || this.#chosen.has(peerId) || isInUse(peerId) || !isReachedWithout(peerId)
  }

  #best(devices: readonly string[]): string[] {
    const { isFailing, isOwners, connected, size } = this.#init
    const met = new Set(connected())
    // A device that was dialled in vain comes last, and not never: it may have been away, and nobody else may be left.
    const ranked = devices
      .map(device => ({ device, rank: this.#rankOf(device) }))
      .sort((a, b) => (a.rank < b.rank ? -1 : 1))
      .map(({ device }) => device)
    const failing = ranked.filter(device => !met.has(device) && isFailing(device))
    const hopeful = ranked.filter(device => !failing.includes(device))
    const owners = hopeful.filter(isOwners).slice(0, Math.ceil(OWNERS_SHARE * size.chosen))
    return [...new Set([...owners, ...hopeful, ...failing])].slice(0, size.chosen)
  }

  #rankOf(device: string): string {
    let rank = this.#ranks.get(device)
    if (rank === undefined) {
      rank = createHmac('sha256', this.#salt).update(device).digest('base64')
      this.#ranks.set(device, rank)
    }
    return rank
  }

  /** In a small mesh every contact is dialled again by itself. */
  #seekLost(count: number): void {
    this.#sought = undefined
    if (!this.#isLarge || Math.random() > LOST_DIALS_PER_SECOND / count) return
    const lost = this.#init.lost()
    this.#sought = lost[Math.floor(Math.random() * lost.length)]
    if (this.#sought !== undefined) this.#init.dial(this.#sought)
  }

  #lookAgain(): () => void {
    // Devices that start together must not all look at the same moment.
    return this.#init.timers.after(LOOK_EVERY_MS * (0.75 + Math.random() / 2), () => {
      this.look()
      this.#cancel = this.#lookAgain()
    })
  }
}

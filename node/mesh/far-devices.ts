import {
  MAX_CONTACT_ADDRESSES,
  MAX_NEIGHBOURS_SAID,
  MAX_SIGNED_BYTES,
  MAX_SIGNED_TEXT_CHARS
} from '../../protocols/directory/constants.ts'
import {
  type FarRecord,
  farRecordSchema,
  type SignedRecord,
  signedRecordBytes,
  type Timers,
  Tokens
} from '../../protocols/directory/index.ts'
import { InvalidMessageError } from '../../protocols/errors.ts'
import type { NodeRecord, PeerState } from '../api.ts'
import { sayable } from './own-record.ts'
import { reachable } from './reachable.ts'

/** What this node says of itself besides its neighbours. */
export type OwnNews = Omit<FarRecord, 'neighbours'>

export interface FarDevicesInit {
  peerId: string
  /** The mesh's name: what is signed for one says nothing in another. */
  mesh: string
  timers: Timers
  /**
   * The clock that serials follow: no serial of an earlier start is higher, unless it was set back.
   *
   * @default the system's
   */
  wallMs?(): number
  /** Signs with this device's key. */
  sign(bytes: Uint8Array): string
  isSigned(peerId: string, bytes: Uint8Array, signature: string): boolean
  /** Whether a device is in the mesh: of others nothing is kept. */
  isIn(device: string): boolean
  own(): OwnNews
  /** Peers that this node is connected to and hears of. */
  neighbours(): readonly string[]
  /** There is a new record of a device, this one's own among them, that the neighbours should hear of. */
  onNews(device: string): void
  /** What a device says, or whether it is there, has changed. */
  onChange(device: string): void
}

/** What is known of a device by records that others handed on. */
export interface FarDevice {
  record: NodeRecord
  addresses: string[]
  epoch: number
  state: Exclude<PeerState, 'incompatible'>
  /** Since the record came, in ms. */
  ageMs: number
  /** Since a path of connections has led to it last, in ms. */
  unreachedMs: number
}

interface Known {
  signed: SignedRecord
  /** Undefined where this version cannot read it: it is handed on all the same. */
  said: FarRecord | undefined
  neighbours: ReadonlySet<string>
  atMs: number
  reachedAtMs: number
  state: FarDevice['state']
  /** What of its records is taken and handed on: one that signs without end reaches its own neighbours with it. */
  records: Tokens
  bytes: Tokens
}

/** Records that a device signs: at once so many, then one in 2 s; at least 400 ms apart. */
const OWN_BURST = 6
const OWN_PER_SECOND = 0.5
const OWN_PAUSE_MS = 400
/** New neighbours alone wait for so long: while many devices start at once they change all the time. */
const GAINED_PAUSE_MS = 2000
/** What only its links make new waits for so long: of a mesh of 128 each measures ten an hour. */
const LINKS_PAUSE_MS = 60_000
/** It signs anew after so long, and who has not for three times that is gone, whatever its neighbours say. */
export const REFRESH_MS = 600_000
const STALE_MS = 3 * REFRESH_MS
/** Of one device, and bytes: twice what an honest one signs. */
const RELAY_BURST = 16
const RELAY_PER_SECOND = 1
const RELAY_BURST_BYTES = 256 * 1024
const RELAY_BYTES_PER_SECOND = 8 * 1024
/** No path leads to it: both ends of a new connection may not have said so yet. */
const UNREACHED_SUSPECT_MS = 2000
const UNREACHED_GONE_MS = 12_000
/** Whose connection to this node broke is believed to be there again no sooner: its other neighbours may not know yet. */
const DOUBT_MS = 4000
/** One that is gone is forgotten after so long. */
const FORGET_MS = 600_000
/** Its last record is not taken again. It is kept for the device itself, whose clock may be behind it when it is back. */
const MAX_FORGOTTEN = 1024
const MAX_FORGOTTEN_CHARS = 8 * 1024 * 1024
/** A device that is gone for longer is no news to a new neighbour. */
const UNREACHED_NEWS_MS = 60_000
const LOOK_EVERY_MS = 500
/** Where nothing has changed, either. */
const LOOK_ANYWAY_MS = 2000

/** What devices say of themselves that this node need not be connected to, and whether they are there. */
export class FarDevices {
  readonly #init: FarDevicesInit
  readonly #known = new Map<string, Known>()
  /** The last records of devices that were forgotten. */
  readonly #forgotten = new Map<string, SignedRecord>()
  /** Until when devices whose connection broke count as gone. */
  readonly #doubted = new Map<string, number>()
  readonly #ownTokens: Tokens
  #own: SignedRecord | undefined
  #serial: number
  readonly #wallMs: () => number
  #said = { news: '', links: '', neighbours: new Set<string>(), atMs: Number.NEGATIVE_INFINITY }
  #isSigning = false
  /** Something has changed of who is there, or will by itself. */
  #isUnsettled = false
  #lookedAtMs = 0
  /** When what this node says was compared with what it has signed. */
  #comparedAtMs = 0
  #cancelIssue: (() => void) | undefined
  #cancelLook: (() => void) | undefined

  constructor(init: FarDevicesInit) {
    this.#init = init
    this.#wallMs = init.wallMs ?? Date.now
    this.#serial = this.#wallMs()
    this.#ownTokens = new Tokens(OWN_BURST, OWN_PER_SECOND, init.timers.now())
    this.#look()
  }

  /** From now on this device signs what it says of itself. */
  begin(): void {
    if (this.#isSigning) return
    this.#isSigning = true
    this.changed()
  }

  get isSigning(): boolean {
    return this.#isSigning
  }

  /** What this node says of itself, or whom it is connected to, may be another one now. */
  changed(): void {
    this.#isUnsettled = true
    this.#issueIfDue()
  }

  /** The connection to a device broke: that others say it is there counts for nothing for a moment. */
  broke(device: string): void {
    // Only of devices in the mesh do others say anything; ids that come and go beside it are no doubts to keep.
    if (!this.#init.isIn(device)) return
    this.#doubted.set(device, this.#init.timers.now() + DOUBT_MS)
    this.#review()
  }

  /** It is connected again. */
  came(device: string): void {
    this.#doubted.delete(device)
  }

  /** Who is in the mesh has changed: of who is out nothing is kept. */
  membershipChanged(): void {
    for (const device of [...this.#forgotten.keys()])
      if (!this.#init.isIn(device)) this.#forgotten.delete(device)
    for (const [device, known] of [...this.#known]) {
      if (this.#init.isIn(device)) continue
      // Whoever counts on it hears that it is gone while there is a record that says who it was.
      known.state = 'gone'
      this.#init.onChange(device)
      this.#known.delete(device)
      this.#init.onChange(device)
    }
  }

  get(device: string): FarDevice | undefined {
    const known = this.#known.get(device)
    if (known?.said === undefined) return undefined
    const { record, addresses, epoch } = known.said
    const now = this.#init.timers.now()
    return {
      record,
      addresses,
      epoch,
      state: known.state,
      ageMs: now - known.atMs,
      unreachedMs: now - known.reachedAtMs
    }
  }

  /** Whether this node hears of a device, and it of this one, though the two have no connection. */
  isReachedWithout(device: string): boolean {
    const { peerId, neighbours } = this.#init
    const others = neighbours().filter(other => other !== device)
    return this.#known.has(device) && reachable(peerId, others, this.#edges, device).has(device)
  }

  /** Devices of which there are records that can be read. */
  get devices(): string[] {
    return [...this.#known].flatMap(([device, { said }]) => (said === undefined ? [] : [device]))
  }

  /** Devices that are there, as far as others say. */
  get alive(): string[] {
    return [...this.#known].flatMap(([device, { state }]) => (state === 'connected' ? [device] : []))
  }

  /** Whom a device says it is connected to. */
  neighboursOf(device: string): ReadonlySet<string> {
    return this.#known.get(device)?.neighbours ?? new Set()
  }

  /** The last signed record of a device, this one's own among them. */
  signed(device: string): SignedRecord | undefined {
    if (device === this.#init.peerId) return this.#own
    return this.#known.get(device)?.signed ?? this.#forgotten.get(device)
  }

  /** Devices that a new neighbour hears of, itself among them: so it signs above what it has signed before. */
  worthTelling(neighbour?: string): string[] {
    const now = this.#init.timers.now()
    const others = [...this.#known].filter(([, { reachedAtMs }]) => now - reachedAtMs < UNREACHED_NEWS_MS)
    const devices = new Set(others.map(([device]) => device))
    if (this.#own !== undefined) devices.add(this.#init.peerId)
    if (neighbour !== undefined) devices.add(neighbour)
    return [...devices]
  }

  /** Whether a record of a device would be taken now. */
  lacks(device: string, serial: number): boolean {
    const { peerId, isIn, timers } = this.#init
    if (device === peerId) return serial > this.#serial
    const known = this.#known.get(device)
    if (!isIn(device) || serial <= ((known?.signed ?? this.#forgotten.get(device))?.serial ?? -1))
      return false
    const now = timers.now()
    return known === undefined || (known.records.has(1, now) && known.bytes.has(1, now))
  }

  /**
   * Takes a record that somebody handed on.
   *
   * @returns whether it is newer than what was known, of a device that is in
   * @throws {InvalidMessageError} where its device has not signed it
   */
  take(signed: SignedRecord): boolean {
    const { peerId, mesh, isSigned, timers } = this.#init
    const { device, serial, text, signature } = signed
    if (!this.lacks(device, serial)) return false
    if (!isSigned(device, signedRecordBytes(mesh, signed), signature))
      throw new InvalidMessageError(`a record of ${device} is not signed by it`)
    if (device === peerId) {
      // An earlier start of this device, with another clock, has signed it: what this one says is newer.
      this.#serial = serial
      this.#said.news = ''
      this.changed()
      return false
    }
    const now = timers.now()
    const before = this.#known.get(device)
    const said = readText(device, text)
    const known: Known = {
      signed,
      said,
      neighbours: new Set(said?.neighbours),
      atMs: now,
      reachedAtMs: before?.reachedAtMs ?? now - UNREACHED_SUSPECT_MS,
      state: before?.state ?? 'suspect',
      records: before?.records ?? new Tokens(RELAY_BURST, RELAY_PER_SECOND, now),
      bytes: before?.bytes ?? new Tokens(RELAY_BURST_BYTES, RELAY_BYTES_PER_SECOND, now)
    }
    known.records.spend(1, now)
    known.bytes.spend(text.length, now)
    this.#known.set(device, known)
    this.#forgotten.delete(device)
    this.#isUnsettled = true
    this.#init.onChange(device)
    return true
  }

  stop(): void {
    this.#cancelIssue?.()
    this.#cancelLook?.()
  }

  /** Signs what this node says, where that has changed and it may. */
  #issueIfDue(): void {
    if (!this.#isSigning) return
    const { timers } = this.#init
    this.#comparedAtMs = timers.now()
    const dueMs = this.#dueMs()
    // What is urgent does not wait for what is not.
    this.#cancelIssue?.()
    this.#cancelIssue = undefined
    if (dueMs === undefined) return
    if (dueMs <= 0) this.#issue()
    else
      this.#cancelIssue = timers.after(Math.ceil(dueMs), () => {
        this.#cancelIssue = undefined
        this.#issueIfDue()
      })
  }

  /** How long it is until this node signs what it says now, in ms; undefined where that is what it has signed. */
  #dueMs(): number | undefined {
    const { timers } = this.#init
    const now = timers.now()
    const { news, links, said } = this.#content()
    const sinceMs = now - this.#said.atMs
    const before = this.#said.neighbours
    const hasLost = [...before].some(peerId => !said.neighbours.includes(peerId))
    const isUrgent = news !== this.#said.news || hasLost || sinceMs >= REFRESH_MS
    const hasGained = said.neighbours.some(peerId => !before.has(peerId))
    if (!isUrgent && !hasGained && links === this.#said.links) return undefined
    const patientMs = hasGained ? GAINED_PAUSE_MS : LINKS_PAUSE_MS
    return Math.max((isUrgent ? OWN_PAUSE_MS : patientMs) - sinceMs, this.#ownTokens.waitMs(1, now))
  }

  /** What this node says now: what the others should know at once, and the rest. */
  #content(): { news: string; links: string; said: FarRecord } {
    const { record, addresses, epoch } = this.#init.own()
    const neighbours = [...this.#init.neighbours()].sort().slice(0, MAX_NEIGHBOURS_SAID)
    const said = { record, addresses: addresses.slice(0, MAX_CONTACT_ADDRESSES), neighbours, epoch }
    const { links, sequence: _, ...rest } = record
    const rates = Object.entries(links).map(([to, { outMbps, inMbps }]) => [to, outMbps, inMbps])
    return {
      news: JSON.stringify([rest, said.addresses, epoch]),
      links: JSON.stringify(rates),
      said
    }
  }

  #issue(): void {
    const { peerId, mesh, sign, timers, onNews } = this.#init
    const now = timers.now()
    const { news, links, said } = this.#content()
    // Whoever has this device's key can use up its serials; what none is left for, neighbours would take for a lie.
    if (this.#serial >= Number.MAX_SAFE_INTEGER) return
    this.#ownTokens.spend(1, now)
    this.#said = { news, links, neighbours: new Set(said.neighbours), atMs: now }
    // A device whose clock was behind at its start, as of many without a battery, is heard again once that is set.
    this.#serial = Math.max(this.#serial + 1, Math.floor(this.#wallMs()))
    const unsigned = { device: peerId, serial: this.#serial, text: textOf(said) }
    this.#own = { ...unsigned, signature: sign(signedRecordBytes(mesh, unsigned)) }
    onNews(peerId)
  }

  #look(): void {
    this.#cancelLook = this.#init.timers.after(LOOK_EVERY_MS, () => {
      const now = this.#init.timers.now()
      if (this.#isUnsettled || now - this.#lookedAtMs >= LOOK_ANYWAY_MS) this.#review()
      // Some things change without a word of it, such as the addresses of this device.
      if (now - this.#comparedAtMs >= LOOK_ANYWAY_MS) this.#issueIfDue()
      this.#look()
    })
  }

  /** Judges who is there. */
  #review(): void {
    const { peerId, timers, neighbours, onChange } = this.#init
    const now = timers.now()
    this.#lookedAtMs = now
    for (const [device, untilMs] of this.#doubted) if (untilMs <= now) this.#doubted.delete(device)
    this.#isUnsettled = this.#doubted.size > 0
    if (this.#known.size === 0) return
    const edges = this.#edges
    const reached = reachable(peerId, neighbours(), edges)
    for (const [device, known] of this.#known) {
      const isReached = reached.has(device) && edges.has(device)
      if (isReached) known.reachedAtMs = now
      const unreachedMs = now - known.reachedAtMs
      if (unreachedMs > FORGET_MS) {
        this.#forget(device, known)
        onChange(device)
        continue
      }
      if (!isReached && unreachedMs < UNREACHED_GONE_MS) this.#isUnsettled = true
      const state = this.#doubted.has(device) ? 'gone' : stateAfter(unreachedMs)
      if (state === known.state) continue
      known.state = state
      onChange(device)
    }
  }

  /** Whom the devices that may be there say they are connected to. */
  get #edges(): Map<string, ReadonlySet<string>> {
    const now = this.#init.timers.now()
    return new Map(
      [...this.#known]
        .filter(([device, { atMs }]) => now - atMs < STALE_MS && !this.#doubted.has(device))
        .map(([device, known]) => [device, known.neighbours])
    )
  }

  #forget(device: string, { signed }: Known): void {
    this.#known.delete(device)
    this.#forgotten.delete(device)
    this.#forgotten.set(device, signed)
    let chars = [...this.#forgotten.values()].reduce((sum, { text }) => sum + text.length, 0)
    for (const [oldest, { text }] of this.#forgotten) {
      if (this.#forgotten.size <= MAX_FORGOTTEN && chars <= MAX_FORGOTTEN_CHARS) break
      this.#forgotten.delete(oldest)
      chars -= text.length
    }
  }
}

function stateAfter(unreachedMs: number): FarDevice['state'] {
  if (unreachedMs < UNREACHED_SUSPECT_MS) return 'connected'
  return unreachedMs < UNREACHED_GONE_MS ? 'suspect' : 'gone'
}

/** What a text takes in the message that hands it on: room is left for its device, its signature and what is around it. */
const MAX_SENT_BYTES = MAX_SIGNED_BYTES - 512

/** A record as far devices get it: with shorter lists where it would be too long. */
function textOf(said: FarRecord): string {
  for (let maxBytes = MAX_SIGNED_TEXT_CHARS - 8192; ; maxBytes /= 2) {
    const text = JSON.stringify({ ...said, record: sayable(said.record, maxBytes).record })
    // It is sent as a text within a text, in which every quote takes one character more.
    if (text.length <= MAX_SIGNED_TEXT_CHARS && Buffer.byteLength(JSON.stringify(text)) <= MAX_SENT_BYTES)
      return text
  }
}

/** What a text says, where this version can read it and it speaks of who has signed it. */
function readText(device: string, text: string): FarRecord | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // Its device has signed what is no JSON: of that device nothing is known then.
    return undefined
  }
  const { data } = farRecordSchema.safeParse(value)
  return data?.record.peerId === device ? data : undefined
}

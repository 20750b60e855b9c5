import { InvalidMessageError, LimitExceededError } from '../errors.ts'
import {
  HAVE_BURST,
  HAVE_PAUSE_MS,
  HAVE_PER_SECOND,
  MAX_HAVE_DEVICES,
  MAX_HAVE_ENTRIES,
  MAX_SIGNED_BYTES,
  MAX_SIGNED_ENTRIES,
  MAX_WANT_ENTRIES,
  WANT_AGAIN_MS,
  WANT_TIMEOUT_MS
} from './constants.ts'
import type { RelayMessage } from './messages.ts'
import type { SignedRecord } from './signed-record.ts'
import { Tokens } from './tokens.ts'

export type ExchangeMessage = Exclude<RelayMessage, { type: 'keep' }>

/** A clock, and what waits by it; given so that hundreds of nodes can be simulated. */
export interface Timers {
  now(): number
  /** @returns what calls it off */
  after(ms: number, act: () => void): () => void
}

export interface ExchangeInit {
  timers: Timers
  /** Sends on the control stream to a neighbour. */
  send(peerId: string, message: ExchangeMessage): void
  /** The record that this node has of a device. */
  get(device: string): SignedRecord | undefined
  /** Whether a record of a device is one that this node would take now. */
  lacks(device: string, serial: number): boolean
  /**
   * Takes a record.
   *
   * @returns whether it has become the one that this node has
   * @throws {InvalidMessageError} where its device has not signed it
   */
  take(record: SignedRecord): boolean
}

interface Neighbour {
  /** The newest record of each device that it has, as far as it has said so or got it from here. */
  has: Map<string, number>
  /** What it was asked for, and when. */
  asked: Map<string, number>
  /** What it was asked for and has not sent in time: it may send it still, and others are asked before it. */
  overdue: Set<string>
  /** What it was sent: it is sent nothing twice. */
  given: Map<string, number>
  /** It has more that is lacking than it may be asked for at once. */
  hasMore: boolean
  entries: Tokens
}

/**
 * How signed records spread: who has a new one says so to its neighbours, and who lacks it asks one of them. So each
 * record reaches each node once, whatever the number of its neighbours, and nobody is sent what it has not asked for.
 * Who the neighbours are, and which records are believed, others decide.
 */
export class Exchange {
  readonly #init: ExchangeInit
  readonly #neighbours = new Map<string, Neighbour>()
  /** Devices whose records were asked for, of whom and when. */
  readonly #underWay = new Map<string, string>()
  /** Devices of which there is news that was not told yet. */
  readonly #news = new Set<string>()
  #cancelFlush: (() => void) | undefined
  #cancelLook: (() => void) | undefined

  constructor(init: ExchangeInit) {
    this.#init = init
    this.#lookAgain()
  }

  /** A neighbour hears from now on of what is new, and at once of these. */
  joined(peerId: string, devices: readonly string[]): void {
    const now = this.#init.timers.now()
    this.#neighbours.set(peerId, {
      has: new Map(),
      asked: new Map(),
      overdue: new Set(),
      given: new Map(),
      hasMore: false,
      entries: new Tokens(HAVE_BURST, HAVE_PER_SECOND, now)
    })
    this.#tell(peerId, devices)
  }

  left(peerId: string): void {
    this.#neighbours.delete(peerId)
    for (const [device, of] of this.#underWay) if (of === peerId) this.#underWay.delete(device)
  }

  /** This node has a new record of a device: all neighbours that lack it hear of it. */
  spread(device: string): void {
    this.#news.add(device)
    this.#cancelFlush ??= this.#init.timers.after(HAVE_PAUSE_MS, () => {
      this.#cancelFlush = undefined
      const devices = [...this.#news]
      this.#news.clear()
      for (const peerId of this.#neighbours.keys()) this.#tell(peerId, devices)
    })
  }

  /** @throws {InvalidMessageError} {LimitExceededError} for what no honest neighbour says */
  heard(peerId: string, message: ExchangeMessage): void {
    const neighbour = this.#neighbours.get(peerId)
    if (neighbour === undefined) return
    switch (message.type) {
      case 'have':
        this.#count(neighbour, message.records.length)
        for (const [device, serial] of message.records) {
          if (!neighbour.has.has(device) && neighbour.has.size >= MAX_HAVE_DEVICES)
            throw new LimitExceededError(`${peerId} has records of more than ${MAX_HAVE_DEVICES} devices`)
          neighbour.has.set(device, Math.max(serial, neighbour.has.get(device) ?? 0))
        }
        this.#ask(
          peerId,
          neighbour,
          message.records.map(([device]) => device)
        )
        break
      case 'want':
        this.#count(neighbour, message.devices.length)
        this.#give(peerId, neighbour, message.devices)
        break
      case 'signed':
        for (const record of message.records) this.#take(peerId, neighbour, record)
        if (neighbour.hasMore && neighbour.asked.size === 0)
          this.#ask(peerId, neighbour, neighbour.has.keys())
    }
  }

  stop(): void {
    this.#cancelFlush?.()
    this.#cancelLook?.()
  }

  #take(peerId: string, neighbour: Neighbour, record: SignedRecord): void {
    const { device, serial } = record
    if (!neighbour.asked.delete(device) && !neighbour.overdue.delete(device))
      throw new InvalidMessageError(`${peerId} sent a record of ${device} that nobody had asked for`)
    if (this.#underWay.get(device) === peerId) this.#underWay.delete(device)
    // What it said that it has and then did not send it is not asked for again.
    neighbour.has.set(device, serial)
    if (this.#init.take(record)) this.spread(device)
  }

  #tell(peerId: string, devices: readonly string[]): void {
    const { send, get } = this.#init
    const { has } = this.#neighbours.get(peerId)!
    const records = devices.flatMap(device => {
      const serial = get(device)?.serial
      if (serial === undefined || (has.get(device) ?? -1) >= serial) return []
      return [[device, serial] as [string, number]]
    })
    for (let i = 0; i < records.length; i += MAX_HAVE_ENTRIES)
      send(peerId, { type: 'have', records: records.slice(i, i + MAX_HAVE_ENTRIES) })
  }

  /** @param isLastResort - what it did not send in time is asked of it again, because no other one has it */
  #ask(
    peerId: string,
    neighbour: Neighbour,
    devices: Iterable<string>,
    { isLastResort = false }: { isLastResort?: boolean } = {}
  ): void {
    const { send, lacks, timers } = this.#init
    const wanted: string[] = []
    neighbour.hasMore = false
    for (const device of devices) {
      if (neighbour.asked.size + wanted.length >= MAX_WANT_ENTRIES) {
        neighbour.hasMore = true
        break
      }
      if (this.#underWay.has(device) || neighbour.asked.has(device)) continue
      // A peer that says again and again that it has what it does not send must not keep it from this node.
      if (neighbour.overdue.has(device) && !isLastResort) continue
      if (lacks(device, neighbour.has.get(device) ?? -1)) wanted.push(device)
    }
    if (wanted.length === 0) return
    for (const device of wanted) {
      this.#underWay.set(device, peerId)
      neighbour.asked.set(device, timers.now())
    }
    send(peerId, { type: 'want', devices: wanted })
  }

  #give(peerId: string, neighbour: Neighbour, devices: readonly string[]): void {
    let records: SignedRecord[] = []
    let bytes = 0
    const flush = () => {
      if (records.length > 0) this.#init.send(peerId, { type: 'signed', records })
      records = []
      bytes = 0
    }
    for (const device of devices) {
      const record = this.#init.get(device)
      if (record === undefined || (neighbour.given.get(device) ?? -1) >= record.serial) continue
      neighbour.given.set(device, record.serial)
      neighbour.has.set(device, Math.max(record.serial, neighbour.has.get(device) ?? 0))
      const size = Buffer.byteLength(JSON.stringify(record))
      if (bytes + size > MAX_SIGNED_BYTES || records.length >= MAX_SIGNED_ENTRIES) flush()
      records.push(record)
      bytes += size
    }
    flush()
  }

  #count({ entries }: Neighbour, count: number): void {
    if (!entries.take(Math.max(1, count), this.#init.timers.now()))
      throw new LimitExceededError(`more than ${HAVE_PER_SECOND} entries about signed records a second`)
  }

  /** What was refused for the moment, or got lost with a neighbour, is had from another one. */
  #lookAgain(): void {
    this.#cancelLook = this.#init.timers.after(WANT_AGAIN_MS, () => {
      const now = this.#init.timers.now()
      for (const [peerId, neighbour] of this.#neighbours) {
        for (const [device, atMs] of neighbour.asked) {
          if (now - atMs < WANT_TIMEOUT_MS) continue
          neighbour.asked.delete(device)
          neighbour.overdue.add(device)
          neighbour.has.delete(device)
          if (this.#underWay.get(device) === peerId) this.#underWay.delete(device)
        }
      }
      for (const isLastResort of [false, true])
        for (const [peerId, neighbour] of this.#neighbours)
          this.#ask(peerId, neighbour, neighbour.has.keys(), { isLastResort })
      this.#lookAgain()
    })
  }
}

import { logger } from '../../models/log.ts'
import type { JsonStream } from '../json-stream.ts'
import {
  EARLY_HEARTBEATS_MS,
  HEARTBEAT_MS,
  MAX_CONTACT_ADDRESSES,
  MAX_CONTACTS,
  MAX_ECHO_HELD_MS,
  MAX_NAME_CHARS
} from './constants.ts'
import type { Contact, RelayMessage } from './messages.ts'
import type { NodeRecord } from './record.ts'

const log = logger('edgeshard:mesh')

type Beat = 'beat' | 'ping' | 'pong'

export interface ControlInit {
  /** One side measures the round trip when the stream opens. */
  role: 'asks' | 'answers'
  /** The stream's version knows relayed records. @default false */
  relays?: boolean
  /** Milliseconds since anything was sent to the peer, on whichever stream. */
  sinceSentMs: () => number
  /** What there is to tell the peer now. */
  news: () => News
}

/** Messages about relayed records that wait for a peer; one that takes no more begins anew with another stream. */
const MAX_RELAYS_WAITING = 64

/** What a node says of itself and of the peers that it is connected to. */
export interface News {
  record: NodeRecord
  contacts: Contact[]
}

interface Heartbeat {
  type: Beat
  at: number
  echo?: { at: number; heldMs: number } | undefined
}

/**
 * What this node says on one control stream: its record and its contacts where they have changed, and heartbeats. Each side sends one when it has sent nothing else for HEARTBEAT_MS, so what one side
 * hears never waits for what the other one has to send. Times are this process's own clock; the other side only returns
 * them.
 */
export class Control {
  readonly messages: JsonStream
  #toldContacts = '[]'
  #toldSequence = -1
  /** A record or contacts wait for the peer to take them. */
  #telling = false
  /** What it is told is no longer how it is. */
  #outdated = false
  readonly #init: ControlInit
  #timers: NodeJS.Timeout[] = []
  #beat: NodeJS.Timeout | undefined
  #heardAt: { at: number; whenMs: number } | undefined
  /** A heartbeat waits for the peer to take it. */
  #beating = false
  #relaysWaiting = 0

  constructor(messages: JsonStream, init: ControlInit) {
    this.messages = messages
    this.#init = init
  }

  start(): void {
    this.#beatAfter(HEARTBEAT_MS)
    if (this.#init.role === 'answers') return
    this.ping()
    this.#timers = EARLY_HEARTBEATS_MS.map(ms => setTimeout(() => this.ping(), ms))
  }

  stop(): void {
    clearTimeout(this.#beat)
    for (const timer of this.#timers) clearTimeout(timer)
  }

  get relays(): boolean {
    return this.#init.relays === true
  }

  ping(): void {
    this.#send('ping')
  }

  /** Says something of relayed records, where the stream's version knows them. */
  say(message: RelayMessage): void {
    if (!this.relays) return
    if (this.#relaysWaiting >= MAX_RELAYS_WAITING) {
      this.messages.abort(new Error('the peer does not take what it is told'))
      return
    }
    this.#relaysWaiting++
    this.messages
      .send(message)
      .catch(log.passOver('a peer did not take what others say; it hears all of it on the next stream'))
      .finally(() => {
        this.#relaysWaiting--
      })
  }

  /** Answers a ping; returns the round-trip time where the message returns one of our own times. */
  heard({ type, at, echo }: Heartbeat): number | null {
    const now = performance.now()
    this.#heardAt = { at, whenMs: now }
    if (type === 'ping') this.#send('pong')
    if (echo === undefined) return null
    const rttMs = now - echo.at - echo.heldMs
    return rttMs >= 0 && rttMs < 60_000 ? rttMs : null
  }

  /**
   * Tells the peer what has changed since it was last told. Of what changes while it takes its time only the last is
   * sent: at most one record waits for a peer.
   */
  async tell({ record, contacts } = this.#init.news()): Promise<void> {
    this.#outdated = this.#telling
    if (this.#telling) return
    this.#telling = true
    try {
      if (record.sequence > this.#toldSequence) {
        this.#toldSequence = record.sequence
        await this.messages.send({ type: 'record', record })
      }
      const others = contacts.slice(0, MAX_CONTACTS).map(({ peerId, name, addresses }) => ({
        peerId,
        name: name.slice(0, MAX_NAME_CHARS),
        addresses: addresses.slice(0, MAX_CONTACT_ADDRESSES)
      }))
      const key = JSON.stringify(others)
      if (key !== this.#toldContacts) {
        this.#toldContacts = key
        await this.messages.send({ type: 'contacts', contacts: others })
      }
    } catch (error) {
      this.messages.abort(error as Error)
      return
    }
    this.#telling = false
    if (this.#outdated) await this.tell()
  }

  /** Says why nothing more is read on this stream, as far as the peer takes it. */
  async refuse(reason: string): Promise<void> {
    await this.messages
      .send({ type: 'refused', reason })
      .catch(log.passOver('a peer was not told why its stream ends; it sees that it does'))
  }

  #beatAfter(ms: number): void {
    this.#beat = setTimeout(() => {
      const restMs = HEARTBEAT_MS - this.#init.sinceSentMs()
      if (restMs <= 0) this.#send('beat')
      this.#beatAfter(restMs > 0 ? Math.ceil(restMs) : HEARTBEAT_MS)
    }, ms)
  }

  #send(type: Beat): void {
    // A peer that takes nothing must not make this side collect what it would be told.
    if (this.#beating) return
    this.#beating = true
    const now = rounded(performance.now())
    const heard = this.#heardAt
    const heldMs = heard && rounded(Math.max(0, now - heard.whenMs))
    const echo = heldMs !== undefined && heldMs <= MAX_ECHO_HELD_MS && { at: heard?.at, heldMs }
    // The next heartbeat echoes nothing twice.
    this.#heardAt = undefined
    this.messages
      .send({ type, at: now, ...(echo && { echo }) })
      .catch(log.passOver('a heartbeat was not taken; silence is noticed by itself'))
      .finally(() => {
        this.#beating = false
      })
  }
}

/** Hundredths of a millisecond: heartbeats are most of an idle mesh's traffic. */
function rounded(ms: number): number {
  return Math.round(ms * 100) / 100
}

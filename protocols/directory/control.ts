import { EARLY_HEARTBEATS_MS, HEARTBEAT_MS, MAX_DIRECTORY_MESSAGES_PER_SECOND } from '../constants.ts'
import { LimitExceededError } from '../errors.ts'
import type { JsonStream } from '../json-stream.ts'

interface Heartbeat {
  type: 'ping' | 'pong'
  at: number
  echo?: { at: number; heldMs: number } | undefined
}

/** Heartbeats of one control stream. Times are this process's own clock; the other side only returns them. */
export class Control {
  readonly messages: JsonStream
  toldContacts = '[]'
  readonly #role: 'asks' | 'answers'
  #timers: NodeJS.Timeout[] = []
  #heardAt: { at: number; whenMs: number } | undefined
  #messagesInSecond = 0
  #secondStartMs = 0

  constructor(messages: JsonStream, role: 'asks' | 'answers') {
    this.messages = messages
    this.#role = role
  }

  start(): void {
    if (this.#role === 'answers') return
    this.ping()
    this.#timers = EARLY_HEARTBEATS_MS.map(ms => setTimeout(() => this.ping(), ms))
    this.#timers.push(setInterval(() => this.ping(), HEARTBEAT_MS))
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer)
  }

  ping(): void {
    this.#send('ping')
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

  countMessage(): void {
    const now = performance.now()
    if (now - this.#secondStartMs > 1000) {
      this.#secondStartMs = now
      this.#messagesInSecond = 0
    }
    if (++this.#messagesInSecond > MAX_DIRECTORY_MESSAGES_PER_SECOND) {
      throw new LimitExceededError(
        `more than ${MAX_DIRECTORY_MESSAGES_PER_SECOND} directory messages a second`
      )
    }
  }

  #send(type: 'ping' | 'pong'): void {
    const now = rounded(performance.now())
    const echo = this.#heardAt && {
      at: this.#heardAt.at,
      heldMs: rounded(Math.max(0, now - this.#heardAt.whenMs))
    }
    // The next ping echoes nothing twice.
    this.#heardAt = undefined
    this.messages.send({ type, at: now, ...(echo && { echo }) }).catch(() => {})
  }
}

/** Hundredths of a millisecond: heartbeats are most of an idle mesh's traffic. */
function rounded(ms: number): number {
  return Math.round(ms * 100) / 100
}

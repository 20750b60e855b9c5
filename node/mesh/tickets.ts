import { createHash, randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { z } from 'zod'
import { logger } from '../../models/log.ts'
import type { Refusal } from '../../protocols/membership/index.ts'
import { peerIdSchema } from '../../protocols/peer-id.ts'
import { readIfThere, writePrivate } from './files.ts'

const log = logger('edgeshard:mesh')

/** Tickets that are known; the oldest are forgotten. */
const MAX_TICKETS = 64
const CODE_BYTES = 16

const file = z
  .array(
    z.strictObject({
      /** SHA-256 of the code in hex: who reads the file cannot use the ticket. */
      hash: z.string().regex(/^[0-9a-f]{64}$/),
      /** Milliseconds since 1970, by this device's clock. */
      expiresAtMs: z.number(),
      usedBy: peerIdSchema.optional()
    })
  )
  .max(MAX_TICKETS)

type OpenTicket = z.output<typeof file>[number]

const ticketsPath = (home: string) => join(home, 'tickets.json')

/** The tickets that a device has made: which are open, until when by its clock, and who took them. */
export class TicketBook {
  #tickets: OpenTicket[]
  readonly #nowMs: () => number

  /** @param nowMs - the clock that tickets expire by, ms since 1970 */
  constructor(tickets: readonly OpenTicket[], nowMs: () => number) {
    this.#tickets = [...tickets]
    this.#nowMs = nowMs
  }

  get tickets(): readonly OpenTicket[] {
    return this.#tickets
  }

  /**
   * Makes a ticket's code, 16 bytes, and keeps its hash.
   *
   * @param device - the only one that it admits; absent: the first that shows it
   */
  open(ttlMs: number, device?: string): { code: Uint8Array; expiresAtMs: number } {
    const code = new Uint8Array(randomBytes(CODE_BYTES))
    const expiresAtMs = this.#nowMs() + ttlMs
    const ticket = { hash: hashOf(code), expiresAtMs, ...(device !== undefined && { usedBy: device }) }
    this.#tickets = [...this.#tickets, ticket].slice(-MAX_TICKETS)
    return { code, expiresAtMs }
  }

  /**
   * Takes a ticket for one device; null: it is that device's from now on. The device may show it again until it ends, where
   * the answer was lost; later it would bring back a device that was put out since.
   */
  take(code: Uint8Array, device: string): Refusal | null {
    const hash = hashOf(code)
    const ticket = this.#tickets.find(known => known.hash === hash)
    if (ticket === undefined) {
      return { code: 'ticket-unknown', reason: 'the ticket was not made here, or too many were made since' }
    }
    const { expiresAtMs, usedBy } = ticket
    if (usedBy !== undefined && usedBy !== device) {
      return { code: 'ticket-used', reason: 'the ticket has admitted another device already' }
    }
    const nowMs = this.#nowMs()
    if (nowMs >= expiresAtMs) {
      return { code: 'ticket-expired', reason: 'the ticket has expired', nowMs, expiresAtMs }
    }
    ticket.usedBy = device
    return null
  }
}

/** The same in a file of the home, so that tickets outlive a restart. */
export class Tickets {
  readonly #home: string
  readonly #book: TicketBook
  #saving: Promise<void> = Promise.resolve()

  private constructor(home: string, book: TicketBook) {
    this.#home = home
    this.#book = book
  }

  /** @param nowMs - the clock that tickets expire by, ms since 1970 */
  static async load(home: string, nowMs: () => number = Date.now): Promise<Tickets> {
    const bytes = await readIfThere(ticketsPath(home))
    return new Tickets(home, new TicketBook(bytes === null ? [] : parsed(bytes), nowMs))
  }

  /** Makes a ticket that is good for so long, for one device alone where it is named. */
  async open(ttlMs: number, device?: string): Promise<{ code: Uint8Array; expiresAtMs: number }> {
    const ticket = this.#book.open(ttlMs, device)
    await this.#save()
    return ticket
  }

  /** Takes a ticket for one device; null: it is that device's, whatever happens to this process. */
  async take(code: Uint8Array, device: string): Promise<Refusal | null> {
    const refusal = this.#book.take(code, device)
    if (refusal === null) await this.#save()
    return refusal
  }

  /** One write after the other, each of what counts then. */
  async #save(): Promise<void> {
    const saved = this.#saving.then(() =>
      writePrivate(ticketsPath(this.#home), Buffer.from(JSON.stringify(this.#book.tickets)))
    )
    // The caller that saves hears of it; the next one saves its own.
    this.#saving = saved.catch(() => {})
    await saved
  }
}

function parsed(bytes: Buffer): OpenTicket[] {
  try {
    return file.parse(JSON.parse(bytes.toString('utf8')))
  } catch (error) {
    log.passOver('the file of open tickets is damaged; devices that have one need a new one')(error)
    return []
  }
}

function hashOf(code: Uint8Array): string {
  return createHash('sha256').update(code).digest('hex')
}

import { logger } from '../../models/log.ts'
import type { PairingHandlers } from '../../protocols/pairing/index.ts'
import { messageOf } from '../../protocols/text.ts'
import type { PairingControl, PairingState } from '../api.ts'
import { StoppingError } from '../errors.ts'
import { PairingPausedError } from './errors.ts'
import { Opening, type OpeningEnd } from './opening.ts'
import { WrongCodes } from './wrong-codes.ts'

const log = logger('edgeshard:mesh')

/** A device is there and shows its ticket at once. */
const TICKET_MS = 2 * 60_000

/** What pairing needs of the listener. */
export interface Door {
  readonly addresses: string[]
  /** IP address that a caller is connected from; undefined once it is gone. */
  ipOf(caller: string): string | undefined
  close(): Promise<void>
}

export interface PairingInit {
  openDoor(handlers: PairingHandlers): Promise<Door>
  /** A ticket for one device alone. @throws {NotOwnerError} where this device is in no mesh itself */
  invite(ttlMs: number, device: string): Promise<string>
  /** @throws {NotOwnerError} where this device may let nobody in */
  checkIsIn(): void
  onNotice(message: string): void
  /** A clock of any beginning, ms. @default performance.now */
  nowMs?: () => number
}

interface Open {
  opening: Opening
  door: Door
  timer: NodeJS.Timeout
  /** The address that a wrong code came from last. */
  wrongFrom: string | undefined
}

/** Pairing on a member: a person opens it, it shows a code, and a device that knows the code gets a ticket. */
export class Pairing implements PairingControl {
  readonly #init: PairingInit
  readonly #nowMs: () => number
  readonly #wrong: WrongCodes
  #open: Open | undefined
  #last: Extract<PairingState, { open: false }> = { open: false }
  /** Opening and closing, one after the other. */
  #turn: Promise<unknown> = Promise.resolve()
  /** A ticket that is being made. */
  #making: Promise<unknown> | undefined
  /** Listeners that are about to close. */
  readonly #closing = new Set<Promise<void>>()
  #stopped = false

  constructor(init: PairingInit) {
    this.#init = init
    this.#nowMs = init.nowMs ?? (() => performance.now())
    this.#wrong = new WrongCodes(this.#nowMs)
  }

  get state(): PairingState {
    const open = this.#current
    if (open === undefined) return this.#last
    const { opening, door, wrongFrom } = open
    const { code, leftMs, triesLeft } = opening
    return {
      open: true,
      code,
      leftMs: Math.ceil(leftMs),
      triesLeft,
      addresses: door.addresses,
      ...(wrongFrom !== undefined && { from: wrongFrom })
    }
  }

  async open(): Promise<PairingState> {
    return await this.#inTurn(async () => {
      if (this.#stopped) throw new StoppingError()
      this.#init.checkIsIn()
      const { waitMs } = this.#wrong
      if (waitMs > 0) throw new PairingPausedError(waitMs)
      await this.#made()
      this.#end('closed')
      const opening = new Opening(this.#nowMs)
      const door = await this.#init.openDoor(this.#handlers(opening))
      const timer = setTimeout(() => {
        if (opening.isLive || opening.end !== undefined) this.#end('expired')
      }, opening.leftMs)
      timer.unref()
      this.#open = { opening, door, timer, wrongFrom: undefined }
      log.info('pairing opened', { leftMs: opening.leftMs })
      return this.state
    })
  }

  async close(): Promise<PairingState> {
    return await this.#inTurn(async () => {
      await this.#made()
      this.#end('closed')
      return this.state
    })
  }

  /** Ends what is open, and what would open. */
  async stop(): Promise<void> {
    this.#stopped = true
    await this.close()
    await Promise.all(this.#closing)
  }

  /** What is open, as long as its code is taken: an opening may have run out before its timer. */
  get #current(): Open | undefined {
    const end = this.#open?.opening.end
    if (end !== undefined) this.#end(end)
    return this.#open
  }

  #handlers(opening: Opening): PairingHandlers {
    const closeIfSpent = (why: string) => {
      if (this.#open?.opening !== opening || opening.end !== 'tries') return
      this.#init.onNotice(`pairing is closed after ${why}: open it again for a new code`)
      this.#end('tries')
    }
    return {
      began: () => {
        opening.began()
        closeIfSpent('more callers than people make')
      },
      shown: () => (opening.isLive ? opening : undefined),
      wrong: caller => {
        opening.wrong()
        if (this.#open?.opening === opening) this.#open.wrongFrom = this.#open.door.ipOf(caller)
        this.#wrong.add()
        log.warn('a device showed a wrong code', { triesLeft: opening.triesLeft })
        closeIfSpent('three wrong codes')
      },
      right: async (device, caller) => {
        opening.take()
        const from = this.#open?.opening === opening ? this.#open.door.ipOf(caller) : undefined
        const by = { device, ...(from !== undefined && { from }) }
        log.info('a device showed the code', { peerId: device })
        const making = this.#init.invite(TICKET_MS, device)
        this.#making = making
        try {
          const ticket = await making
          this.#end('paired', by)
          return ticket
        } catch (error) {
          this.#init.onNotice(`a device showed the code, but no ticket could be made: ${messageOf(error)}`)
          this.#end('failed', by)
          throw error
        }
      }
    }
  }

  /** The device that has shown the code gets its ticket, or hears that there is none, before anything else becomes of pairing. */
  async #made(): Promise<void> {
    await this.#making?.catch(() => {
      // Who makes it says so.
    })
  }

  #end(end: OpeningEnd, by: { device?: string; from?: string } = {}): void {
    const open = this.#open
    if (open === undefined) return
    this.#open = undefined
    clearTimeout(open.timer)
    open.opening.close(end)
    const last = open.opening.end ?? end
    const from = last === 'tries' ? open.wrongFrom : undefined
    this.#last = { open: false, end: last, ...(from !== undefined && { from }), ...by }
    // Behind this call: the verdict that ended it is one of the answers that the listener waits for.
    const closed = Promise.resolve()
      .then(() => open.door.close())
      .catch(log.passOver('closing the listener of pairing failed; it takes no code'))
      .finally(() => this.#closing.delete(closed))
    this.#closing.add(closed)
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const acted = this.#turn.then(act)
    this.#turn = acted.catch(() => {
      // The caller hears of it; the next one has its turn.
    })
    return acted
  }
}

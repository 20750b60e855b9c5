import type { JoinCommand, PairingState } from '../api.ts'
import { ApiError, type Client } from '../client/index.ts'
import { PAGE_CODE_FRAGMENT } from '../client/page-link.ts'
import type { Connection } from './connection.ts'
import { Store } from './store.ts'

type Opened = Extract<PairingState, { open: true }>
export type Ended = Extract<PairingState, { open: false }>

/**
 * How far letting a device in is. `locked`: nobody has shown yet that this page may. `ready`: it may. `open`: digits are
 * shown. `ended`: they are good no more.
 */
export type Step =
  | { is: 'locked' }
  | { is: 'ready' }
  | { is: 'open'; state: Opened; join: JoinCommand }
  | { is: 'ended'; state: Ended }

const POLL_MS = 1_000

/** Lets other devices into the mesh, once a person has given the page that power: it is kept here and nowhere else. */
export class PagePairing {
  readonly isShown = new Store(false)
  readonly step = new Store<Step>({ is: 'locked' })
  readonly problem = new Store('')
  readonly #connection: Connection
  #grant: string | undefined
  /** The code of a link, until the node answers. */
  #linkCode: string | undefined
  /** Aborted when what is open is left. */
  #watching = new AbortController()

  constructor(connection: Connection) {
    this.#connection = connection
    connection.status.watch(() => this.#tryLink())
  }

  /** The code that a link brought: taken out of the address, which people copy, and shown to the node. */
  takeLink(location: Location, history: History): void {
    if (!location.hash.startsWith(PAGE_CODE_FRAGMENT)) return
    this.#linkCode = location.hash.slice(PAGE_CODE_FRAGMENT.length)
    history.replaceState(null, '', location.pathname)
    this.#tryLink()
  }

  show(): void {
    this.isShown.set(true)
  }

  /** The person who looked at the digits is not there any more. */
  hide(): void {
    if (!this.isShown.value) return
    this.isShown.set(false)
    if (this.step.value.is === 'open') void this.close()
    else if (this.step.value.is === 'ended') this.step.set({ is: 'ready' })
  }

  /** Shows the node the code that `edgeshard page` printed. */
  async unlock(code: string): Promise<void> {
    await this.#act(async () => {
      const { grant } = await this.#connection.client.pageGrant(code)
      this.#grant = grant
      this.step.set({ is: 'ready' })
    })
  }

  /** Opens pairing under new digits, and follows it to its end. */
  async open(): Promise<void> {
    await this.#act(async client => {
      const state = await client.openPairing()
      if (!state.open) return this.step.set({ is: 'ended', state })
      this.step.set({ is: 'open', state, join: await client.joinCommand() })
      await this.#follow(client, state.code)
    })
  }

  async close(): Promise<void> {
    this.#watching.abort()
    await this.#act(async client => {
      await client.closePairing()
      this.step.set({ is: 'ready' })
    })
  }

  #tryLink(): void {
    if (this.#linkCode === undefined || this.#connection.status.value !== 'live') return
    const code = this.#linkCode
    this.#linkCode = undefined
    this.show()
    void this.unlock(code)
  }

  async #follow(client: Client, code: string): Promise<void> {
    this.#watching = new AbortController()
    const { signal } = this.#watching
    for (;;) {
      await new Promise(resolve => setTimeout(resolve, POLL_MS))
      const state = signal.aborted ? undefined : await client.pairing()
      const step = this.step.value
      if (state === undefined || signal.aborted || step.is !== 'open') return
      if (!state.open) return this.step.set({ is: 'ended', state })
      // Somebody else has opened it anew: these digits are good no more.
      if (state.code !== code) return this.step.set({ is: 'ended', state: { open: false, end: 'closed' } })
      this.step.set({ ...step, state })
    }
  }

  async #act(ask: (client: Client) => Promise<void>): Promise<void> {
    this.problem.set('')
    try {
      await ask(this.#connection.clientWith(this.#grant))
    } catch (error) {
      if (error instanceof ApiError && error.code === 'token_required') {
        // Half an hour is over, or the node has started anew.
        this.#grant = undefined
        this.step.set({ is: 'locked' })
      } else {
        this.problem.set(error instanceof Error ? error.message : String(error))
        if (this.step.value.is === 'open') this.step.set({ is: 'ready' })
      }
    }
  }
}

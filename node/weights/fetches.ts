import { logger } from '../../models/log.ts'
import { messageOf } from '../../protocols/text.ts'
import type { FetchState } from '../api.ts'

const log = logger('edgeshard:weights')

export interface FetchesInit {
  now: () => number
  /** One line for people when a fetch begins and when it ends. */
  onNotice: (message: string) => void
  /** What a model is called. */
  nameOf: (modelId: string) => string
}

export interface Fetched {
  modelId: string
  /** Bytes of all files. */
  total: number
  requestId?: string | undefined
  /** They are for later: nobody waits for them. @default false */
  isSpare?: boolean
}

/** The weights that this node is getting from its peers. */
export class Fetches {
  readonly #init: FetchesInit
  readonly #running = new Set<Fetched & { done: number; startMs: number }>()

  constructor(init: FetchesInit) {
    this.#init = init
  }

  /** Whether somebody waits for weights that come: whatever else this device might do would hold them up. */
  get isAwaited(): boolean {
    return [...this.#running].some(({ isSpare }) => isSpare !== true)
  }

  /** Notes what `work` fetches, which tells how many bytes it has. */
  async note(fetched: Fetched, work: (onDone: (bytes: number) => void) => Promise<void>): Promise<void> {
    const { modelId, total, requestId } = fetched
    const { now, onNotice, nameOf } = this.#init
    const say = (message: string) => {
      log.of(requestId).info(message)
      onNotice(message)
    }
    const fetch = { ...fetched, done: 0, startMs: now() }
    const what = `${megabytes(total)} of ${nameOf(modelId)}`
    this.#running.add(fetch)
    say(`fetching ${what} from the mesh`)
    try {
      await work(bytes => {
        fetch.done = bytes
      })
      const seconds = ((now() - fetch.startMs) / 1000).toFixed(1)
      say(`fetched ${what} in ${seconds} s: ${this.#mbps(fetch).toFixed(0)} Mbps`)
    } catch (error) {
      say(`fetching ${what} ended after ${megabytes(fetch.done)}: ${messageOf(error)}`)
      throw error
    } finally {
      this.#running.delete(fetch)
    }
  }

  get state(): FetchState[] {
    return [...this.#running].map(fetch => {
      const { modelId, total, done } = fetch
      return { modelId, total, done, mbps: this.#mbps(fetch) }
    })
  }

  #mbps({ done, startMs }: { done: number; startMs: number }): number {
    return (8 * done) / (1000 * Math.max(1, this.#init.now() - startMs))
  }
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}

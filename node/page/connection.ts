import type { LinkState, MeshState } from '../api.ts'
import { ApiError, type Client, createClient } from '../client/index.ts'
import { afterEvent, type MeshEvent, type StepSample } from '../mesh-events.ts'
import type { Plan, Refusal } from '../plan/problem.ts'
import { type Activity, afterActivity, type Loss, NOTHING } from './activity.ts'
import { Beat } from './beat.ts'
import { Store } from './store.ts'

/** `key`: the node asks for one. `refused`: it answers, but not us; `problem` says why. */
export type Status = 'connecting' | 'live' | 'lost' | 'key' | 'refused'

const RETRY_MS = 1_000
/** A node that is there says something every 5 s. One that stands still is no longer shown as live after this. */
const SILENCE_MS = 15_000

/** The node that serves this page: what is known of it, kept up by its events, and the way to ask it. */
export class Connection {
  /** Where the node serves its API, `http://HOST:PORT`. */
  readonly origin: string
  readonly status = new Store<Status>('connecting')
  readonly problem = new Store('')
  readonly mesh = new Store<MeshState | undefined>(undefined)
  readonly activity = new Store<Activity>(NOTHING)
  readonly step = new Store<StepSample | undefined>(undefined)
  /** When what comes from the node, on whichever way, is drawn. */
  readonly beat = new Beat()
  /** What has come since the last beat. */
  readonly #news: MeshEvent[] = []
  #client: Client
  #apiKey: string | undefined
  #abort = new AbortController()
  #lastEventId: string | undefined
  /** When the page heard of a measurement: no event says that it grows old. */
  readonly #heardMs = new WeakMap<LinkState, number>()
  #planning: Promise<unknown> = Promise.resolve()

  constructor(origin: string) {
    this.origin = origin
    this.#client = createClient({ url: origin })
  }

  get client(): Client {
    return this.#client
  }

  /** Asks with this key from now on. It is kept here and nowhere else. */
  giveKey(apiKey: string): void {
    this.#apiKey = apiKey
    this.#client = createClient({ url: this.origin, apiKey })
    this.#abort.abort()
  }

  /** Asks with a power of its own, too. */
  clientWith(token: string | undefined): Client {
    return createClient({ url: this.origin, apiKey: this.#apiKey, token })
  }

  /** Time since a link was measured. */
  ageOf(link: LinkState): number {
    const nowMs = performance.now()
    return link.ageMs + nowMs - (this.#heardMs.get(link) ?? nowMs)
  }

  /** A person has seen what a loss came to. */
  forgetLoss(loss: Loss): void {
    const { losses, ...activity } = this.activity.value
    this.activity.set({ ...activity, losses: losses.filter(other => other !== loss) })
  }

  /** Has the node plan, one plan after the other: it works out few at once, for all pages together. */
  async planned(
    ask: (client: Client) => Promise<Plan | Refusal>,
    signal: AbortSignal
  ): Promise<Plan | Refusal> {
    const asked = this.#planning.then(async () => {
      for (;;) {
        signal.throwIfAborted()
        try {
          return await ask(this.#client)
        } catch (error) {
          if (!(error instanceof ApiError) || error.code !== 'too_many_requests') throw error
        }
        await pause(RETRY_MS, signal)
      }
    })
    // The caller hears how it ended; the next one only waits for its end.
    this.#planning = asked.catch(() => undefined)
    return await asked
  }

  /** Follows the node for as long as the page is open, through restarts of it. */
  async follow(): Promise<never> {
    for (;;) {
      this.#abort = new AbortController()
      const { signal } = this.#abort
      try {
        const options = {
          signal,
          lastEventId: this.#lastEventId,
          gatherMs: this.beat.intervalMs,
          silenceMs: SILENCE_MS
        }
        for await (const event of this.#client.changes(options)) this.#take(event)
        this.#show()
        this.status.set('lost')
      } catch (error) {
        this.#show()
        if (!signal.aborted) this.#failed(error)
      }
      await pause(RETRY_MS, signal)
    }
  }

  #take({ id, ...event }: MeshEvent & { id: string }): void {
    this.#lastEventId = id
    if (event.type === 'mesh') for (const link of event.data.links) this.#heardMs.set(link, performance.now())
    if (event.type === 'link' && 'link' in event.data) this.#heardMs.set(event.data.link, performance.now())
    this.#news.push(event)
    this.beat.soon(this.#show)
  }

  readonly #show = (): void => {
    const news = this.#news.splice(0)
    if (news.length === 0) return
    const nowMs = performance.now()
    const step = news.findLast(event => event.type === 'step')
    this.mesh.set(news.reduce(afterEvent, this.mesh.value))
    this.activity.set(
      news.reduce((activity, event) => afterActivity(activity, event, nowMs), this.activity.value)
    )
    if (step !== undefined) this.step.set(step.data)
    this.status.set('live')
  }

  #failed(error: unknown): void {
    const isRefusal = error instanceof ApiError
    this.problem.set(error instanceof Error ? error.message : String(error))
    if (isRefusal && error.code === 'invalid_api_key') this.status.set('key')
    else this.status.set(isRefusal ? 'refused' : 'lost')
  }
}

/** Waits, but not longer than until the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await new Promise<void>(resolve => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
    if (signal.aborted) resolve()
  })
}

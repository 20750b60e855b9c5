import { randomBytes } from 'node:crypto'
import type { EdgeNode, MeshState } from '../api.ts'
import type { MeshEvent } from '../mesh-events.ts'
import { AnswerWatch } from './answer-watch.ts'
import { MAX_KEPT_EVENTS, MESH_INTERVAL_MS } from './constants.ts'
import { changesBetween, toldOf } from './mesh-changes.ts'

/** An event as it is sent, and its number. */
interface Kept {
  number: number
  text: string
}

/**
 * What happens in the mesh, for any number of followers: looked at once for all of them, and not at all while there is
 * none. A follower that was away gets what it has missed, or the whole mesh where that is more than is kept.
 */
export class EventFeed {
  readonly #node: EdgeNode
  readonly #waiting = new Set<() => void>()
  #followers = 0
  #stop: (() => void) | undefined
  /** Names this run of the feed: numbers of another mean nothing here. */
  #run = ''
  #count = 1
  #kept: Kept[] = []
  /** What followers know of the mesh by what they were told. */
  #told: MeshState | undefined
  #seenMs = 0

  constructor(node: EdgeNode) {
    this.#node = node
  }

  /** Events as the text of server-sent ones, some at once, until the signal aborts. */
  async *follow(signal: AbortSignal, lastEventId?: string): AsyncGenerator<string> {
    this.#enter()
    try {
      let next = this.#numberBehind(lastEventId)
      while (!signal.aborted) {
        const oldest = this.#kept[0]?.number ?? this.#count
        if (next === undefined || next < oldest) {
          const data = this.#look()
          next = this.#count
          yield this.#textOf({ type: 'mesh', data }, next - 1)
        }
        const from: number = next
        const missed = this.#kept.filter(({ number }) => number >= from)
        next = this.#count
        if (missed.length > 0) yield missed.map(({ text }) => text).join('')
        else await this.#news(signal)
      }
    } finally {
      this.#leave()
    }
  }

  #enter(): void {
    if (this.#followers++ > 0) return
    this.#run = randomBytes(6).toString('hex')
    this.#count = 1
    this.#kept = []
    this.#told = undefined
    this.#look()
    const timer = setInterval(() => this.#look(), MESH_INTERVAL_MS)
    timer.unref()
    const unwatch = this.#node.watchAnswers(new AnswerWatch(event => this.#send(event)).begin)
    this.#stop = () => {
      clearInterval(timer)
      unwatch()
    }
  }

  #leave(): void {
    if (--this.#followers === 0) this.#stop?.()
  }

  /** The mesh now; what has changed is sent. */
  #look(): MeshState {
    const mesh = this.#node.mesh()
    const nowMs = performance.now()
    const told = this.#told
    const elapsedMs = nowMs - this.#seenMs
    const changes = told === undefined ? [] : changesBetween(told, mesh, elapsedMs)
    this.#told = told === undefined ? mesh : toldOf(told, changes, elapsedMs)
    this.#seenMs = nowMs
    for (const change of changes) this.#send(change)
    return mesh
  }

  #send(event: MeshEvent): void {
    const number = this.#count++
    this.#kept.push({ number, text: this.#textOf(event, number) })
    if (this.#kept.length > MAX_KEPT_EVENTS) this.#kept.shift()
    for (const wake of [...this.#waiting]) wake()
  }

  #textOf({ type, data }: MeshEvent, number: number): string {
    return `id: ${this.#run}-${number}\nevent: ${type}\ndata: ${JSON.stringify(data)}\n\n`
  }

  #numberBehind(id: string | undefined): number | undefined {
    const [run, number] = id?.split('-') ?? []
    if (run !== this.#run || !/^\d{1,12}$/.test(number ?? '')) return undefined
    return Number(number) < this.#count ? Number(number) + 1 : undefined
  }

  async #news(signal: AbortSignal): Promise<void> {
    await new Promise<void>(resolve => {
      const done = () => {
        this.#waiting.delete(done)
        signal.removeEventListener('abort', done)
        resolve()
      }
      this.#waiting.add(done)
      signal.addEventListener('abort', done)
      if (signal.aborted) done()
    })
  }
}

import { createRequire } from 'node:module'
import type { MultiBar } from 'cli-progress'
import type { GenerateEvent } from '../api.ts'
import { clean } from './format.ts'
import { paceText } from './pace.ts'

type ProgressEvent = Extract<GenerateEvent, { type: 'progress' }>

/** What one place gets or loads, and since when. */
interface Line {
  name: string
  last: ProgressEvent
  sinceMs: number
}

/** Loaded for a terminal alone, and only when there is something to say. */
const drawing = (): typeof import('cli-progress') => createRequire(import.meta.url)('cli-progress')

export interface WaitingInit {
  stream?: NodeJS.WriteStream
  /** Milliseconds since the moment that the time so far is counted from. @default since the process began */
  now?: () => number
}

/**
 * What a command waits for, while it does: whom it asks, the phase, the time so far, and a line for each device, or processor of one, that gets
 * or loads weights. All of it is gone when it is stopped. Nothing is written where the stream is no terminal.
 */
export class Waiting {
  readonly #stream: NodeJS.WriteStream
  readonly #now: () => number
  readonly #lines = new Map<string, Line>()
  #bars: MultiBar | undefined
  #what = ''
  #phase = ''
  #read = ''

  constructor({ stream = process.stderr, now = () => performance.now() }: WaitingInit = {}) {
    this.#stream = stream
    this.#now = now
  }

  /** Says from now on whom or what is waited for. */
  say(what: string): void {
    this.#what = clean(what)
    this.#phase = ''
    if (this.#stream.isTTY !== true) return
    if (this.#bars === undefined) {
      const { MultiBar } = drawing()
      // Lines are cut at the edge, rather than the terminal told not to wrap: a process that is killed could not undo that.
      this.#bars = new MultiBar({
        stream: this.#stream,
        clearOnComplete: true,
        linewrap: true,
        forceRedraw: true
      })
      this.#begin(this.#bars, () => this.#head)
    }
    this.#bars.update()
  }

  /** Says what it does now. */
  phase(phase: string): void {
    this.#phase = clean(phase)
    this.#read = ''
  }

  /** Writes a line that stays. */
  note(line: string): void {
    if (this.#bars === undefined) this.#stream.write(`${line}\n`)
    else {
      this.#bars.log(`${line}\n`)
      this.#bars.update()
    }
  }

  /** Tells how far a device is; only between `say` and `stop`. */
  show(event: ProgressEvent): void {
    if (this.#bars === undefined) return
    this.phase(event.phase === 'plan' ? 'planning' : 'getting the model ready')
    if (event.phase === 'plan') return
    const line = this.#lines.get(event.peer)
    if (line === undefined) {
      const first = { name: clean(event.peer), last: event, sinceMs: this.#now() }
      this.#lines.set(event.peer, first)
      this.#begin(this.#bars, () => progressText(first, this.#now()))
    } else {
      if (line.last.phase !== event.phase) line.sinceMs = this.#now()
      line.last = event
    }
  }

  /** Tells how much of the prompt is read, behind the phase that it is read in. */
  read({ done, total }: Pick<Extract<GenerateEvent, { type: 'prefill' }>, 'done' | 'total'>): void {
    this.#read = done < total ? `, ${done} of ${total} tokens` : ''
  }

  /** Takes it all from the screen. */
  stop(): void {
    this.#bars?.stop()
    this.#bars = undefined
    this.#lines.clear()
  }

  #begin(bars: MultiBar, text: () => string): void {
    bars.create(1, 0, {}, { format: text })
  }

  get #head(): string {
    const phase = this.#phase === '' ? '' : `: ${this.#phase}${this.#read}`
    return `${this.#what}${phase}, ${(this.#now() / 1000).toFixed(1)} s`
  }
}

/** `laptop: 12.0 MiB of 40.2 MiB, 11.0 MiB/s, 3 s left`, `laptop: loading, 40 %`. */
export function progressText({ name, last, sinceMs }: Line, nowMs: number): string {
  const { phase, done, total } = last
  if (phase === 'load') return `${name}: loading, ${Math.round((100 * done) / Math.max(total, 1e-9))} %`
  return `${name}: ${paceText({ done, total }, (nowMs - sinceMs) / 1000)}`
}

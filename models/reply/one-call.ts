import { JsonCall } from './json-call.ts'
import { JsonScanner } from './json-scanner.ts'
import type { Reading, State, Ways } from './state.ts'

/** What stands before a call's arguments is a name and a few marks: no more than that is held to find out. */
export const MAX_HEADER_CHARS = 512

/** Whether a tool may be called so. */
export function isName(name: string): boolean {
  return /^[\w.:/-]{1,128}$/.test(name)
}

/**
 * `{"name", "arguments"}`, whose first character is the next one.
 *
 * @param written what has opened it, which is text again if it is none
 * @param knownOnly a name that no tool has makes it text: nothing but its form says that it is a call
 */
export function jsonCall(written: string, knownOnly: boolean, ways: Ways): State {
  const call = new JsonCall()
  const sink = new CallSink(written)
  const state: State = reading => {
    while (reading.held.text !== '') {
      let read = call.push(sink.take(reading))
      const news = call.news()
      if (news !== undefined) {
        if (knownOnly && !reading.tools.has(news.name)) read = 'broken'
        else sink.begin(reading, news.name, news.id)
      }
      if (read === 'more') continue
      sink.write(reading, call.take())
      return read === 'end' ? sink.end(reading, ways.done) : sink.break(reading, ways.broken)
    }
    sink.write(reading, call.take())
    if (!reading.held.isLast) return state
    return call.isWhole ? sink.end(reading, ways.done) : sink.break(reading, ways.broken)
  }
  return state
}

/** The arguments of a call whose name is known: an object of JSON, whose first character is the next one. */
export function argumentsOf(name: string, written: string, ways: Ways): State {
  const scanner = new JsonScanner()
  const sink = new CallSink(written)
  const state: State = reading => {
    while (reading.held.text !== '') {
      const character = sink.take(reading)
      const read = sink.isBegun || character === '{' ? scanner.push(character) : 'broken'
      if (read !== 'broken' && !sink.isBegun) sink.begin(reading, name, undefined)
      if (read === 'more') continue
      sink.write(reading, scanner.take())
      return read === 'end' ? sink.end(reading, ways.done) : sink.break(reading, ways.broken)
    }
    sink.write(reading, scanner.take())
    return reading.held.isLast ? sink.break(reading, ways.broken) : state
  }
  return state
}

/** Where a call that is being read goes to, and all of it as it was written. */
export class CallSink {
  #written: string
  #index: number | undefined

  constructor(written: string) {
    this.#written = written
  }

  get isBegun(): boolean {
    return this.#index !== undefined
  }

  /** Takes the next characters of the reply. */
  take({ held }: Reading, length = 1): string {
    const taken = held.take(length)
    this.#written += taken
    return taken
  }

  begin(reading: Reading, name: string, id: string | undefined): void {
    this.#index = reading.calls++
    reading.parts.push({ kind: 'call', index: this.#index, name, ...(id !== undefined && { id }) })
  }

  write({ parts }: Reading, text: string): void {
    if (text !== '' && this.#index !== undefined) parts.push({ kind: 'arguments', index: this.#index, text })
  }

  end({ parts }: Reading, next: State): State {
    if (this.#index !== undefined) parts.push({ kind: 'called', index: this.#index })
    return next
  }

  /** Gives back as text what is no call. */
  break({ parts }: Reading, next: State): State {
    const text = this.#written
    if (this.#index !== undefined) parts.push({ kind: 'broken', index: this.#index, text })
    else if (text !== '') parts.push({ kind: 'text', text })
    return next
  }
}

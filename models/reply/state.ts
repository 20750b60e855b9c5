import type { Held } from './held.ts'
import type { ReplyPart, ReplySyntax } from './parts.ts'

/** What a reply is read with, and what was read. */
export interface Reading {
  readonly syntax: ReplySyntax
  /** Tools that may be called, with the JSON schema of each one's arguments; none: nothing is a call. */
  readonly tools: ReadonlyMap<string, unknown>
  readonly held: Held
  readonly parts: ReplyPart[]
  /** Calls so far. */
  calls: number
}

/**
 * Reads a part of a reply: takes what it can of the held text. @returns the state that reads what is left, which is itself
 * where more has to come
 */
export type State = (reading: Reading) => State

/** Where a call leads: `done` behind a whole one, `broken` behind what turned out to be none and was given as text. */
export interface Ways {
  done: State
  broken: State
}

/** How the calls of one syntax are read. */
export interface CallReader {
  /** What calls are opened with, anywhere in a text. */
  openers: readonly string[]
  /** @param written what was taken already: the opener, with the white space before it */
  opened(written: string, ways: Ways): State
  /** Where a reply may begin with a call that nothing opens; undefined: it does not. */
  opening?(ways: Ways): State
}

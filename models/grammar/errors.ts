/** What an answer is to look like cannot be read, is not supported, or is too large; the message says which part. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError'
  readonly code = 'grammar_unusable'
}

/** Nothing at all is taken by a schema, or by a part of one: where there are others, these remain. */
export class NothingFitsError extends GrammarError {}

/** As many grammars are in use as are held at once, and stay so; another try later may find a place. */
export class GrammarsBusyError extends Error {
  override readonly name = 'GrammarsBusyError'
  readonly code = 'busy'
}

/** What went wrong while a constraint was read, as an error that says so: whatever it was, the constraint brought it about. */
export function asGrammarError(error: unknown): GrammarError {
  if (error instanceof GrammarError) return error
  const what = error instanceof RangeError ? 'it is too deep, or too long' : String(error).slice(0, 200)
  return new GrammarError(`this cannot be read: ${what}`, { cause: error })
}

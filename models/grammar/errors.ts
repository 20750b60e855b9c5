/** What an answer is to look like cannot be read, is not supported, or is too large; the message says which part. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError'
  readonly code = 'grammar_unusable'
}

import { MAX_ERROR_TEXT_CHARS } from './constants.ts'

/** Text from a peer, or for one: capped, one line, no control characters that a terminal would act on. */
export function plainText(text: string, maxChars = MAX_ERROR_TEXT_CHARS): string {
  // C0, DEL, C1, bidirectional overrides and line separators
  const clean = text.slice(0, maxChars * 2).replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, ' ')
  return clean.length > maxChars ? `${clean.slice(0, maxChars - 1)}…` : clean
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** A name, message or path for one line of a terminal: no control characters, none that turn the writing round. */
export function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]+/gu, ' ').trim()
}

/** A model's text for a terminal: as it is but for control characters other than line ends and tabs. */
export function cleanText(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]|\p{Bidi_Control}/gu, '')
}

/** One JSON document a line. Control characters that JSON lets through are escaped: a terminal would obey them. */
export function jsonLine(value: unknown): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return `${JSON.stringify(value).replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, escaped)}\n`
}

/** Characters of a file that a question takes in: some 25,000 tokens, more than most devices have memory to read. */
export const MAX_FILE_CHARS = 100_000
const MAX_NAME_CHARS = 100

/** Bytes that such a file may have: a character may take four. */
export const MAX_FILE_BYTES = 4 * MAX_FILE_CHARS

/**
 * A question with a file's text below it, between fences that nothing in the text closes; undefined where the file is no text, or
 * more of it than is taken.
 */
export function withFile(question: string, name: string, text: string): string | undefined {
  if (text.length > MAX_FILE_CHARS || text.includes('\0') || text.includes('\ufffd')) return undefined
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([ticks]) => ticks.length))
  const fence = '`'.repeat(longest + 1)
  const title = name.replace(/[\p{Cc}\p{Cf}\u2028\u2029`]+/gu, ' ').slice(0, MAX_NAME_CHARS)
  const end = text.endsWith('\n') ? '' : '\n'
  const before = question.trimEnd()
  return `${before}${before === '' ? '' : '\n\n'}${title}:\n${fence}\n${text}${end}${fence}\n`
}

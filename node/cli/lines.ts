import type { ReadableStream } from 'node:stream/web'

/** A line of an event stream is a few hundred bytes; a prompt that comes back in an error may be longer. */
const MAX_LINE_CHARS = 16 << 20

/**
 * The non-empty lines of a response's body. (readline would do, but for its input's errors, which it leaves uncaught.)
 *
 * @throws when the connection breaks, or a line does not end
 */
export async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split('\n')
    rest = lines.pop()!
    yield* lines.filter(line => line !== '')
    if (rest.length > MAX_LINE_CHARS) throw new Error(`a line of more than ${MAX_LINE_CHARS} characters`)
  }
  if (rest !== '') yield rest
}

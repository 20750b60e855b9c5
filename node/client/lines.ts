import { BrokenAnswerError } from './errors.ts'

/** A line of an event stream is a few hundred bytes; a prompt that comes back in an error may be longer. */
const MAX_LINE_CHARS = 16 << 20
/** The server says something every 5 s, if only that it is there (HEARTBEAT_MS of node/http). */
const SILENCE_MS = 60_000

/** A read that takes longer has waited for what had not come yet. */
const WAITED_MS = 3

/** A response's body, as far as it is read here. */
export interface Body {
  getReader(): Pick<ReadableStreamDefaultReader<Uint8Array>, 'read' | 'closed' | 'cancel'>
}

export interface ReadOptions {
  silenceMs?: number | undefined
  /** The pause in ms after what was waited for, before all that has come meanwhile is read. @default 0 */
  gatherMs?: number | undefined
}

/**
 * The non-empty lines of a response's body. However reading ends, the connection is let go.
 *
 * @throws {BrokenAnswerError} when nothing comes for a minute or a line does not end; what the body throws when the
 * connection breaks.
 */
export async function* linesOf(
  body: Body,
  { silenceMs = SILENCE_MS, gatherMs = 0 }: ReadOptions = {}
): AsyncGenerator<string> {
  const reader = body.getReader()
  const decoder = new TextDecoder()
  let wake = () => {}
  // One that ends, breaks or is aborted says so at once, within a pause too.
  const over = () => wake()
  reader.closed.then(over, over)
  let rest = ''
  try {
    for (;;) {
      const askedMs = performance.now()
      const { done, value } = await inTime(reader.read(), silenceMs)
      if (done) break
      const isWaitedFor = performance.now() - askedMs > WAITED_MS
      const lines = (rest + decoder.decode(value, { stream: true })).split('\n')
      rest = lines.pop()!
      yield* lines.filter(line => line !== '')
      if (rest.length > MAX_LINE_CHARS)
        throw new BrokenAnswerError(`a line of more than ${MAX_LINE_CHARS} characters`)
      // A browser hands over piece by piece what it has, which costs little as long as nothing is waited for between.
      if (isWaitedFor && gatherMs > 0) {
        await new Promise<void>(resolve => {
          const timer = setTimeout(resolve, gatherMs)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    }
    if (rest !== '') yield rest
  } finally {
    // One that has ended, or broken, is cancelled as it is.
    await reader.cancel().catch(() => undefined)
  }
}

/** What stands behind `data: ` in a body of server-sent events, one line an event. */
export async function* dataOf(body: Body): AsyncGenerator<string> {
  for await (const line of linesOf(body)) if (line.startsWith('data: ')) yield line.slice('data: '.length)
}

/** Server-sent events with their names and ids, in a body whose events have one line of data each. */
export async function* namedEventsOf(
  body: Body,
  options: ReadOptions = {}
): AsyncGenerator<{ id: string; name: string; data: string }> {
  let id = ''
  let name = 'message'
  for await (const line of linesOf(body, options)) {
    if (line.startsWith('id: ')) id = line.slice('id: '.length)
    else if (line.startsWith('event: ')) name = line.slice('event: '.length)
    else if (line.startsWith('data: ')) {
      yield { id, name, data: line.slice('data: '.length) }
      name = 'message'
    }
  }
}

async function inTime<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new BrokenAnswerError(`nothing came for ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, silence])
  } finally {
    clearTimeout(timer)
  }
}

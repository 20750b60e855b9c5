export const LOG_LEVELS = ['error', 'warn', 'info', 'debug', 'trace'] as const

export type LogLevel = (typeof LOG_LEVELS)[number]

/** What a line says besides its words. No list fits in, so no ids of tokens do; prompts and answers are nobody's field. */
export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>

/** Fields, or what makes them where that costs something: called for lines that are written. */
export type LazyLogFields = LogFields | (() => LogFields)

export interface LogLine {
  namespace: string
  level: LogLevel
  message: string
  /** What the request is called on every device that works on it. */
  requestId: string | undefined
  fields: LogFields
}

/** Where the lines of a process go. */
export interface LogSink {
  isOn(namespace: string, level: LogLevel): boolean
  write(line: LogLine): void
}

/** A part's own log. Messages are constant; what varies stands in fields. */
export interface Log {
  error(message: string, fields?: LazyLogFields): void
  warn(message: string, fields?: LazyLogFields): void
  info(message: string, fields?: LazyLogFields): void
  debug(message: string, fields?: LazyLogFields): void
  trace(message: string, fields?: LazyLogFields): void
  /** The same log for the lines of one request; undefined where a source has not named it. */
  of(requestId: string | undefined): Log
  /**
   * For `catch`, where an error may be passed over: a line at trace says so. It resolves to undefined.
   *
   * @param message what was given up, and why that is fine
   */
  passOver(message: string, fields?: LogFields): (error: unknown) => undefined
}

const silent: LogSink = { isOn: () => false, write: () => {} }

let sink = silent

/** All lines of this thread go there from now on, of logs that were made before, too. Before the first call there are none. */
export function logTo(next: LogSink): void {
  sink = next
}

/** The log of one part; one a module, as in `const log = logger('edgeshard:store')`. */
export function logger(namespace: string): Log {
  return new SinkLog(namespace, undefined)
}

/** The topmost function that an error passed, with file and line: of an error whose message may quote what a user wrote. */
export function originOf(error: unknown): string | undefined {
  const stack = error instanceof Error ? error.stack : undefined
  return stack
    ?.split('\n')
    .find(line => /^\s+at /.test(line))
    ?.trim()
}

class SinkLog implements Log {
  readonly #namespace: string
  readonly #requestId: string | undefined

  constructor(namespace: string, requestId: string | undefined) {
    this.#namespace = namespace
    this.#requestId = requestId
  }

  error(message: string, fields?: LazyLogFields): void {
    this.#write('error', message, fields)
  }

  warn(message: string, fields?: LazyLogFields): void {
    this.#write('warn', message, fields)
  }

  info(message: string, fields?: LazyLogFields): void {
    this.#write('info', message, fields)
  }

  debug(message: string, fields?: LazyLogFields): void {
    this.#write('debug', message, fields)
  }

  trace(message: string, fields?: LazyLogFields): void {
    this.#write('trace', message, fields)
  }

  of(requestId: string | undefined): Log {
    return new SinkLog(this.#namespace, requestId)
  }

  passOver(message: string, fields?: LogFields): (error: unknown) => undefined {
    return error => {
      this.#write('trace', message, () => ({
        ...fields,
        error: error instanceof Error ? error.message : String(error)
      }))
      return undefined
    }
  }

  #write(level: LogLevel, message: string, fields: LazyLogFields = {}): void {
    const namespace = this.#namespace
    if (!sink.isOn(namespace, level)) return
    const made = typeof fields === 'function' ? fields() : fields
    sink.write({ namespace, level, message, requestId: this.#requestId, fields: made })
  }
}

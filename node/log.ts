import { format as formatText } from 'node:util'
import type { ComponentLogger, Logger } from '@libp2p/interface'
import { defaultLogger, enable, logger } from '@libp2p/logger'
import { LOG_LEVELS, type LogLevel, type LogLine, type LogSink, logTo } from '../models/log.ts'
import { plainText } from '../protocols/text.ts'

/** `text`: one line for people. `json`: one object a line with time, level, namespace, message, requestId and fields. */
export type LogFormat = 'text' | 'json'

export interface LogSettings {
  /** Lines of this level and of those before it in LOG_LEVELS. @default what $DEBUG names */
  level?: LogLevel | undefined
  /** @default 'text' */
  format?: LogFormat | undefined
}

/** The most characters of one value that a line has; the rest is cut off. */
const MAX_VALUE_CHARS = 2000

/** What the process was started with: `enable` writes over it. */
const asked = process.env.DEBUG ?? ''

let format: LogFormat | undefined

/**
 * Lines go to stderr from now on: those of the level, and those that $DEBUG names, libp2p's own among them. A level is a
 * namespace (`edgeshard:mesh:warn`); debug is the bare one (`edgeshard:mesh`), and trace has to be named, as in libp2p.
 */
export function startLogs(settings: LogSettings = {}): void {
  const { level } = settings
  format = settings.format ?? 'text'
  const names = [asked, ...(level === undefined ? [] : namespacesOf(level))].filter(name => name !== '')
  enable(names.join(','))
  logTo(new StderrSink(format, { traces: names.some(name => name.includes(':trace')) }))
}

/** As `startLogs` with $DEBUG alone, unless that was called before; what an embedding program has turned on stays on. */
export function ensureLogs(): void {
  if (format !== undefined) return
  if (asked !== '') startLogs()
  else {
    format = 'text'
    logTo(new StderrSink(format, { traces: false }))
  }
}

/** What libp2p makes its logs with: its lines have the format of ours. */
export function hostLogger(): ComponentLogger {
  return format === 'json' ? { forComponent: name => inJson(logger(name)) } : defaultLogger()
}

/** The namespaces of the levels up to this one, as $DEBUG names them. */
function namespacesOf(level: LogLevel): string[] {
  if (level === 'trace') return ['edgeshard:*', 'edgeshard:*:trace']
  if (level === 'debug') return ['edgeshard:*']
  return LOG_LEVELS.slice(0, LOG_LEVELS.indexOf(level) + 1).map(each => `edgeshard:*:${each}`)
}

type Loggers = Readonly<Record<LogLevel, Logger>>

/** libp2p's loggers know what is on; as text, they write it, too. */
class StderrSink implements LogSink {
  readonly #format: LogFormat
  readonly #traces: boolean
  readonly #loggers = new Map<string, Loggers>()

  constructor(format: LogFormat, { traces }: { traces: boolean }) {
    this.#format = format
    this.#traces = traces
  }

  isOn(namespace: string, level: LogLevel): boolean {
    return (level !== 'trace' || this.#traces) && this.#loggersOf(namespace)[level].enabled
  }

  write(line: LogLine): void {
    if (this.#format === 'json') writeJson(line)
    else this.#loggersOf(line.namespace)[line.level]('%s', textOf(line))
  }

  #loggersOf(namespace: string): Loggers {
    const known = this.#loggers.get(namespace)
    if (known !== undefined) return known
    const [error, warn, info, trace] = ['error', 'warn', 'info', 'trace'].map(level =>
      logger(`${namespace}:${level}`)
    )
    const loggers = { error: error!, warn: warn!, info: info!, debug: logger(namespace), trace: trace! }
    this.#loggers.set(namespace, loggers)
    return loggers
  }
}

/** `lease granted bytes=1048576 requestId=...`; what a peer may have written is one word, or quoted. */
function textOf({ message, requestId, fields }: LogLine): string {
  const pairs = Object.entries({ ...fields, requestId }).flatMap(([key, value]) => {
    if (value === undefined) return []
    const text = plainText(String(rounded(value)), MAX_VALUE_CHARS)
    return [`${key}=${/^[^\s"=]+$/.test(text) ? text : JSON.stringify(text)}`]
  })
  return [plainText(message, MAX_VALUE_CHARS), ...pairs].join(' ')
}

/** People need no more than thousandths. */
function rounded<T>(value: T): T | number {
  return typeof value === 'number' ? Math.round(value * 1000) / 1000 : value
}

function writeJson({ namespace, level, message, requestId, fields }: LogLine): void {
  const plain = Object.entries(fields).map(([key, value]) => [
    key,
    typeof value === 'string' ? plainText(value, MAX_VALUE_CHARS) : value
  ])
  const line = {
    time: new Date().toISOString(),
    level,
    namespace,
    message: plainText(message, MAX_VALUE_CHARS),
    requestId,
    fields: Object.fromEntries(plain)
  }
  process.stderr.write(`${JSON.stringify(line)}\n`)
}

/** One of libp2p's own loggers, and those below it: what they would write as text becomes an object's message. */
function inJson(own: Logger): Logger {
  const redirect = (log: Logger | Logger['error'], level: LogLevel) =>
    Object.assign(log, {
      useColors: false,
      log: (text: string, ...values: unknown[]) => {
        const { namespace } = log as unknown as { namespace: string }
        const whole = formatText(text, ...values)
        const message = whole.slice(whole.indexOf(namespace) + namespace.length + 1)
        const bare = namespace.replace(/:(error|trace)$/, '')
        writeJson({ namespace: bare, level, message, requestId: undefined, fields: {} })
      }
    })
  redirect(own, 'debug')
  redirect(own.error, 'error')
  redirect(own.trace, 'trace')
  const newScope = own.newScope.bind(own)
  return Object.assign(own, { newScope: (scope: string) => inJson(newScope(scope)) })
}

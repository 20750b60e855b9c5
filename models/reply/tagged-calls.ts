import { CallSink, isName, MAX_HEADER_CHARS } from './one-call.ts'
import type { CallReader, State, Ways } from './state.ts'

/** Calls whose arguments stand between tags, a key and a value each. */
interface Tags {
  openers: readonly string[]
  /** What stands behind the name, and behind each argument: one of these, and nothing but white space before it. */
  begins: readonly string[]
  /** What an argument, or the call, ends with: until a further one of these comes there is nothing to be read. */
  ends: readonly string[]
  /** The name in what stands there; undefined where there is none. */
  nameOf: (header: string) => string | undefined
  /** Matches one argument: its key, and its value. */
  argument: RegExp
  end: RegExp
}

/** `<tool_call>NAME`, then keys and values, `</tool_call>`. */
export const glm = tagged({
  openers: ['<tool_call>'],
  begins: ['<arg_key>', '</tool_call>'],
  ends: ['</arg_value>', '</tool_call>'],
  nameOf: header => header.trim(),
  argument: /^\s*<arg_key>([\s\S]*?)<\/arg_key>\s*<arg_value>([\s\S]*?)<\/arg_value>/,
  end: /^\s*<\/tool_call>/
})

/** `<tool_call><function=NAME>`, then `<parameter=KEY>VALUE</parameter>`s, each value on lines of its own, `</function></tool_call>`. */
export const parameters = tagged({
  openers: ['<tool_call>', '<seed:tool_call>'],
  begins: ['<parameter=', '</function>'],
  ends: ['</parameter>', 'tool_call>'],
  nameOf: header => /^\s*<function=([^<>]*)>\s*$/.exec(header)?.[1]?.trim(),
  argument: /^\s*<parameter=([^<>]*)>\n?([\s\S]*?)\n?<\/parameter>/,
  end: /^\s*<\/function>\s*<\/(?:seed:)?tool_call>/
})

function tagged(tags: Tags): CallReader {
  return {
    openers: tags.openers,
    opened: (written, ways) => {
      const sink = new CallSink(written)
      const state: State = reading => {
        const { held } = reading
        const { at, mark } = held.find(tags.begins)
        const isShort = at <= MAX_HEADER_CHARS
        if (mark === undefined && isShort && !held.isLast) return state
        const name = mark !== undefined && isShort ? tags.nameOf(held.text.slice(0, at)) : undefined
        if (name === undefined || !isName(name)) return sink.break(reading, ways.broken)
        sink.take(reading, at)
        sink.begin(reading, name, undefined)
        sink.write(reading, '{')
        return taggedArguments(tags, name, sink, ways)
      }
      return state
    }
  }
}

function taggedArguments(
  { begins, ends, argument, end }: Tags,
  name: string,
  sink: CallSink,
  ways: Ways
): State {
  const longestEnd = Math.max(...ends.map(mark => mark.length))
  let separator = ''
  /** Held characters among which no end is that has not been tried. */
  let searched = 0
  const state: State = reading => {
    const { held, tools } = reading
    if (!mayBegin(held.text.trimStart(), begins)) return sink.break(reading, ways.broken)
    const hasNews = held.isLast || ends.some(mark => held.text.includes(mark, searched))
    searched = Math.max(0, held.text.length - longestEnd)
    if (!hasNews) return state
    const last = end.exec(held.text)
    if (last !== null) {
      sink.take(reading, last[0].length)
      sink.write(reading, '}')
      return sink.end(reading, ways.done)
    }
    const found = argument.exec(held.text)
    if (found === null) return held.isLast ? sink.break(reading, ways.broken) : state
    const [all, key, value] = found as unknown as [string, string, string]
    sink.take(reading, all.length)
    // More of what is held may be whole.
    searched = 0
    sink.write(
      reading,
      `${separator}${JSON.stringify(key.trim())}:${jsonOf(tools.get(name), key.trim(), value)}`
    )
    separator = ','
    return state
  }
  return state
}

/** Whether a text begins with one of some marks, or may do so once there is more of it. */
function mayBegin(text: string, marks: readonly string[]): boolean {
  return marks.some(mark => text.startsWith(mark) || mark.startsWith(text))
}

/** Python's words, as templates print values that are neither texts, lists nor objects. */
const PYTHON_WORDS = new Map([
  ['True', 'true'],
  ['False', 'false'],
  ['None', 'null']
])

/** A value as JSON: the text itself where the schema wants a text, or where it is no JSON. */
function jsonOf(schema: unknown, key: string, value: string): string {
  const types = typesOf(schema, key)
  const isText = types.length === 1 && types[0] === 'string'
  if (isText) return JSON.stringify(value)
  try {
    return JSON.stringify(JSON.parse(value))
  } catch {
    // A text, then, unless it is another program's word, whatever the schema says: whoever called for it hears of that from the tool.
    const word = types.length === 0 || types.includes('string') ? undefined : PYTHON_WORDS.get(value.trim())
    return word ?? JSON.stringify(value)
  }
}

/** The types that a schema names for a key; none where it names none. */
function typesOf(schema: unknown, key: string): unknown[] {
  const type = fieldOf(fieldOf(fieldOf(schema, 'properties'), key), 'type')
  return type === undefined ? [] : [type].flat()
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}

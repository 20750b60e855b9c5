import { CallSink } from './one-call.ts'
import type { CallReader, State, Ways } from './state.ts'

/** Calls whose arguments stand between tags, a key and a value each. */
interface Tags {
  openers: readonly string[]
  /** Of these the first one ends what stands before the arguments. */
  behindName: readonly string[]
  /** The name in what stands there; undefined where there is none. */
  nameOf: (header: string) => string | undefined
  /** Matches one argument: its key, and its value. */
  argument: RegExp
  end: RegExp
}

/** `<tool_call>NAME`, then keys and values, `</tool_call>`. */
export const glm = tagged({
  openers: ['<tool_call>'],
  behindName: ['<arg_key>', '</tool_call>'],
  nameOf: header => header.trim(),
  argument: /^\s*<arg_key>([\s\S]*?)<\/arg_key>\s*<arg_value>([\s\S]*?)<\/arg_value>/,
  end: /^\s*<\/tool_call>/
})

/** `<tool_call><function=NAME>`, then `<parameter=KEY>VALUE</parameter>`s, each value on lines of its own, `</function></tool_call>`. */
export const parameters = tagged({
  openers: ['<tool_call>', '<seed:tool_call>'],
  behindName: ['<parameter=', '</function>'],
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
        const { at, mark } = held.find(tags.behindName)
        if (mark === undefined) {
          if (!held.isLast) return state
          sink.take(reading, held.text.length)
          return sink.break(reading, ways.broken)
        }
        const name = tags.nameOf(sink.take(reading, at))
        if (name === undefined || !isName(name)) return sink.break(reading, ways.broken)
        sink.begin(reading, name, undefined)
        sink.write(reading, '{')
        return taggedArguments(tags, name, sink, ways)
      }
      return state
    }
  }
}

function taggedArguments({ argument, end }: Tags, name: string, sink: CallSink, ways: Ways): State {
  let separator = ''
  const state: State = reading => {
    const { held, tools } = reading
    const last = end.exec(held.text)
    if (last !== null) {
      sink.take(reading, last[0].length)
      sink.write(reading, '}')
      return sink.end(reading, ways.done)
    }
    const found = argument.exec(held.text)
    if (found === null) {
      if (!held.isLast) return state
      sink.take(reading, held.text.length)
      return sink.break(reading, ways.broken)
    }
    const [all, key, value] = found as unknown as [string, string, string]
    sink.take(reading, all.length)
    sink.write(
      reading,
      `${separator}${JSON.stringify(key.trim())}:${jsonOf(tools.get(name), key.trim(), value)}`
    )
    separator = ','
    return state
  }
  return state
}

export function isName(name: string): boolean {
  return /^[\w.:/-]{1,128}$/.test(name)
}

/** A value as JSON: the text itself where the schema wants a text, or where it is no JSON. */
function jsonOf(schema: unknown, key: string, value: string): string {
  if (isTextKey(schema, key)) return JSON.stringify(value)
  try {
    return JSON.stringify(JSON.parse(value))
  } catch {
    // Then it is a text, whatever the schema says; whoever called for it hears of that from the tool.
    return JSON.stringify(value)
  }
}

function isTextKey(schema: unknown, key: string): boolean {
  const properties = fieldOf(schema, 'properties')
  return fieldOf(fieldOf(properties, key), 'type') === 'string'
}

function fieldOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined
}

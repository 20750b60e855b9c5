import { list, spaced } from './json-calls.ts'
import { argumentsOf, CallSink, jsonCall } from './one-call.ts'
import type { CallReader, State, Ways } from './state.ts'

/** What stands before a call's arguments is a name and a few marks. */
const MAX_HEADER_CHARS = 512

/** `[TOOL_CALLS]` and a list, or a name, `[ARGS]` and an object. */
export const mistral: CallReader = {
  openers: ['[TOOL_CALLS]'],
  opened: (written, ways) =>
    spaced(
      written,
      (all, first) => {
        if (first === '[') return bracket(all, ways)
        return first === '{' ? jsonCall(all, false, ways) : headed(all, mistralName, ways)
      },
      ways.broken
    )
}

function bracket(written: string, ways: Ways): State {
  return ({ held }) => spaced(written + held.take(1), all => list(all, false, ways), ways.broken)
}

function mistralName(header: string): string {
  return header.split(/\[ARGS\]|\[CALL_ID\]/)[0]!.trim()
}

/** Calls between marks of their own, each `function<｜tool▁sep｜>NAME` and a fenced block, or `NAME<｜tool▁sep｜>` and an object. */
export const deepseek: CallReader = {
  openers: ['<｜tool▁calls▁begin｜>', '<｜tool▁call▁begin｜>'],
  opened: (written, { done, broken }) => headed(written, deepseekName, { done: behindDeepseek(done), broken })
}

function deepseekName(header: string): string {
  const [kind = '', name = ''] = header.replace('<｜tool▁call▁begin｜>', '').split('<｜tool▁sep｜>')
  const shown = name.replace(/```(json)?\s*$/, '').trim()
  return shown === '' ? kind.trim() : shown
}

function behindDeepseek(next: State): State {
  const state: State = reading => {
    const { held } = reading
    held.takeSpace()
    for (const mark of ['```', '<｜tool▁call▁end｜>', '<｜tool▁calls▁end｜>']) {
      const taken = held.takeMark(mark)
      if (taken === undefined) return state
      if (taken) return mark === '<｜tool▁calls▁end｜>' ? next : state
    }
    return next
  }
  return state
}

/** What stands before the first brace names the call. */
function headed(written: string, nameOf: (header: string) => string, ways: Ways): State {
  const state: State = reading => {
    const { held, parts } = reading
    const at = held.text.indexOf('{')
    const name = at < 0 ? '' : nameOf(held.text.slice(0, at))
    if (at >= 0 && at <= MAX_HEADER_CHARS && isName(name)) {
      return argumentsOf(name, written + held.take(at), ways)
    }
    if (at < 0 && !held.isLast && held.text.length <= MAX_HEADER_CHARS) return state
    parts.push({ kind: 'text', text: written })
    return ways.broken
  }
  return state
}

function isName(name: string): boolean {
  return /^[\w.:/-]{1,128}$/.test(name)
}

/** `<tool_call>NAME`, then keys and values between tags, `</tool_call>`. */
export const glm: CallReader = {
  openers: ['<tool_call>'],
  opened: (written, ways) => {
    const sink = new CallSink(written)
    const state: State = reading => {
      const { held } = reading
      const { at, mark } = held.find(['<arg_key>', '</tool_call>'])
      if (mark === undefined) {
        if (!held.isLast) return state
        sink.take(reading, held.text.length)
        return sink.break(reading, ways.broken)
      }
      const name = sink.take(reading, at).trim()
      if (!isName(name)) return sink.break(reading, ways.broken)
      sink.begin(reading, name, undefined)
      sink.write(reading, '{')
      return glmArguments(name, sink, ways)
    }
    return state
  }
}

const GLM_ARGUMENT = /^\s*<arg_key>([\s\S]*?)<\/arg_key>\s*<arg_value>([\s\S]*?)<\/arg_value>/
const GLM_END = /^\s*<\/tool_call>/

function glmArguments(name: string, sink: CallSink, ways: Ways): State {
  let separator = ''
  const state: State = reading => {
    const { held, tools } = reading
    const end = GLM_END.exec(held.text)
    if (end !== null) {
      sink.take(reading, end[0].length)
      sink.write(reading, '}')
      return sink.end(reading, ways.done)
    }
    const argument = GLM_ARGUMENT.exec(held.text)
    if (argument === null) {
      if (!held.isLast) return state
      sink.take(reading, held.text.length)
      return sink.break(reading, ways.broken)
    }
    const [all, key, value] = argument as unknown as [string, string, string]
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

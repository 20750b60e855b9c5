import { list, spaced } from './json-calls.ts'
import { argumentsOf, isName, jsonCall, MAX_HEADER_CHARS } from './one-call.ts'
import type { CallReader, State, Ways } from './state.ts'

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

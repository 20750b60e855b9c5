import { jsonCall } from './one-call.ts'
import type { CallReader, State, Ways } from './state.ts'

/** `<tool_call>{}</tool_call>`, as Hermes and Qwen have it. */
export const hermes: CallReader = {
  openers: ['<tool_call>'],
  opened: (written, ways) => spaced(written, all => tagged(all, ways), ways.broken)
}

/** The reply is a call, or several; `<|python_tag|>` may stand before it. */
export const llama3: CallReader = {
  openers: ['<|python_tag|>'],
  opened: (written, ways) => spaced(written, all => bare(all, false, ways), ways.broken),
  opening: listOrCall
}

/** What models are told whose template knows no tools; Hermes' tags are understood, as many of them were trained on these. */
export const json: CallReader = { ...hermes, opening: listOrCall }

function tagged(written: string, ways: Ways): State {
  return jsonCall(written, false, { done: behindTagged(ways), broken: ways.broken })
}

/** What may stand behind a call in tags: the closing one, superfluous braces, or one more call. */
function behindTagged(ways: Ways): State {
  const state: State = ({ held }) => {
    held.takeSpace()
    const closed = held.takeMark('</tool_call>')
    if (closed === undefined) return state
    if (closed) return ways.done
    if (held.text.startsWith('{')) return tagged('', ways)
    if (!/^[}\]]/.test(held.text)) return ways.done
    held.take(1)
    return state
  }
  return state
}

/** @param knownOnly nothing but its form says that it is a call, so its name has to be a tool's */
function bare(written: string, knownOnly: boolean, ways: Ways): State {
  const done: State = ({ held }) => {
    const begun = /^\s*[;,]?\s*/.exec(held.text)![0]
    const first = held.text[begun.length]
    if (first === undefined) return held.isLast ? ways.done : done
    return first === '{' ? bare(held.take(begun.length), knownOnly, ways) : ways.done
  }
  return jsonCall(written, knownOnly, { done, broken: ways.broken })
}

/** A call, or a list of them, at the beginning of a reply. */
function listOrCall(ways: Ways): State {
  const state: State = ({ held }) => {
    const begun = /^\s*(\[\s*)?/.exec(held.text)!
    const first = held.text[begun[0].length]
    if (first === undefined && !held.isLast) return state
    if (first !== '{') return ways.broken
    const written = held.take(begun[0].length)
    return begun[1] === undefined ? bare(written, true, ways) : list(written, true, ways)
  }
  return state
}

/** Calls between `[` and `]`; `written` is what was taken before the first of them. */
export function list(written: string, knownOnly: boolean, ways: Ways): State {
  const done: State = ({ held }) => {
    const [begun, separator] = /^\s*([,\]])?\s*/.exec(held.text) as unknown as [string, string | undefined]
    const first = held.text[begun.length]
    if (separator === ']') {
      held.take(begun.length)
      return ways.done
    }
    if (first === undefined && !held.isLast) return done
    return separator === ',' && first === '{' ? list(held.take(begun.length), knownOnly, ways) : ways.done
  }
  return jsonCall(written, knownOnly, { done, broken: ways.broken })
}

/** Skips white space, which belongs to what was written, to the first character of a call. */
export function spaced(written: string, call: (written: string, first: string) => State, none: State): State {
  let all = written
  const state: State = ({ held, parts }) => {
    all += held.takeSpace()
    const first = held.text[0]
    if (first !== undefined) return call(all, first)
    if (!held.isLast) return state
    parts.push({ kind: 'text', text: all })
    return none
  }
  return state
}

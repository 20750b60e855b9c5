import { spaced } from './json-calls.ts'
import { argumentsOf } from './one-call.ts'
import type { Reading, State } from './state.ts'

/** What messages begin with; `to=` where the prompt has the beginning of the first. */
const STARTS = ['<|channel|>', '<|start|>', 'to=']
const ENDS = ['<|end|>', '<|return|>', '<|call|>']
/** What a header looks like that was cut off. */
const CUT_HEADER = /^<\|[^\n{}]{0,200}$/
/** The recipient of all calls that a model may make; the name of one follows. */
const FUNCTIONS = 'functions.'

/** gpt-oss: every message says its channel and, where it is a call, to whom it goes. */
export function harmonyMessages(reading: Reading): State {
  const { held, parts } = reading
  const text = held.text.trimStart()
  if (text === '' && !held.isLast) return harmonyMessages
  if (!STARTS.some(mark => text.startsWith(mark) || (!held.isLast && mark.startsWith(text)))) {
    return message('text')
  }
  const { at, mark } = held.find(['<|message|>'])
  if (mark === undefined) {
    if (!held.isLast) return harmonyMessages
    const rest = held.take(held.text.length)
    // A reply that ends within a header has said nothing more.
    if (!CUT_HEADER.test(rest.trim())) parts.push({ kind: 'text', text: rest })
    return harmonyMessages
  }
  return messageBehind(held.take(at + mark.length), reading)
}

function messageBehind(header: string, { tools }: Reading): State {
  const recipient = /(?<![\w.])to=([\w.:/-]+)/.exec(header)?.[1]
  if (recipient !== undefined && recipient !== 'user') {
    const isFunction = recipient.startsWith(FUNCTIONS)
    const name = isFunction ? recipient.slice(FUNCTIONS.length) : recipient
    const called = tools.size > 0 && name !== '' && (isFunction || tools.has(name))
    const ways = { done: messageEnd, broken: message('text') }
    if (called) return spaced(header, all => argumentsOf(name, all, ways), harmonyMessages)
    // Tools that models of the kind were trained with are nobody's here: what is said to them is no answer.
    if (!isFunction) return message('reasoning')
  }
  return message(/<\|channel\|>\s*analysis/.test(header) ? 'reasoning' : 'text')
}

/** What is said or thought, up to the next message. */
function message(kind: 'text' | 'reasoning'): State {
  const state: State = ({ held, parts }) => {
    const { at, mark } = held.find([...ENDS, '<|start|>', '<|channel|>'])
    if (at > 0) parts.push({ kind, text: held.take(at) })
    return mark === undefined ? state : messageEnd
  }
  return state
}

const messageEnd: State = ({ held }) => {
  for (const mark of ENDS) {
    const taken = held.takeMark(mark)
    if (taken === undefined) return messageEnd
    if (taken) return harmonyMessages
  }
  return harmonyMessages
}

import { reads } from '../../../models/reply/syntax.ts'
import type { TemplateMessage } from '../../../models/tokenizer/messages.ts'
import type { ChatInput } from '../../api.ts'

/** Switches for thinking, as templates call them. */
const SWITCHES = ['enable_thinking', 'thinking']
/** Tokens that a thought may have: none at all turns thinking off, and what a template does by itself on (Seed-OSS). */
const BUDGET = 'thinking_budget'
/** What turns thinking off, and on, within a message, where a template looks for that and takes it out (Nemotron Nano 2). */
const MARKS = { off: '/no_think', on: '/think' }

/** What a template is given so that its model thinks before it answers, or does not. */
export interface ThinkingSwitches {
  args: Record<string, unknown>
  /** What is put behind the last words of the user; undefined: nothing. */
  mark: string | undefined
  /** The template has no word for it. */
  isUnread: boolean
}

export function thinkingSwitches(template: string, thinking: ChatInput['thinking']): ThinkingSwitches {
  if (thinking === undefined) return { args: {}, mark: undefined, isUnread: false }
  const args: Record<string, unknown> = {}
  const isOn = thinking !== false
  for (const name of SWITCHES) if (reads(template, name)) args[name] = isOn
  if (typeof thinking === 'string' && reads(template, 'reasoning_effort')) args.reasoning_effort = thinking
  const hasBudget = reads(template, BUDGET)
  if (hasBudget && !isOn) args[BUDGET] = 0
  const isSwitched = hasBudget || Object.keys(args).length > 0
  const isMarked = !isSwitched && takesMark(template)
  return { args, mark: isMarked ? MARKS[isOn ? 'on' : 'off'] : undefined, isUnread: !isSwitched && !isMarked }
}

/** Whether a template looks for the mark in messages, as against telling its model of it. */
function takesMark(template: string): boolean {
  return [`'${MARKS.off}' in `, `"${MARKS.off}" in `].some(test => template.includes(test))
}

/** The conversation with a mark behind the user's last words. */
export function withMark(messages: TemplateMessage[], mark: string | undefined): TemplateMessage[] {
  const last = messages.findLastIndex(({ role }) => role === 'user')
  if (mark === undefined || last < 0) return messages
  return messages.map((message, i) =>
    i === last ? { ...message, content: `${message.content} ${mark}` } : message
  )
}

import type { GenerateEvent, GenerateRequest, GenerateResult, TokenLogprob } from '../api.ts'
import type { Client } from '../client/index.ts'
import { shortNames } from '../short-names.ts'
import { noticeOf } from '../source/request/notices.ts'
import { answeredBy, explanationLines, reasonsFor } from './answered-by.ts'
import { clean, cleanText } from './format.ts'
import { figuresLine, planLine } from './run-progress.ts'
import type { Waiting } from './waiting.ts'

export interface ShowOptions {
  /** Write the text to stdout as it arrives. */
  text: boolean
  /** Say on stderr which devices answer and how fast. */
  verbose: boolean
  /** What is on the screen until the answer comes. */
  waiting: Waiting
}

/** The whole of an answer, and its tokens with those that were likely in their place. */
export interface ShownAnswer {
  result: GenerateResult
  drawn: TokenLogprob[]
}

/** Shows an answer as it arrives. */
export async function showAnswer(
  events: AsyncGenerator<GenerateEvent>,
  { text, verbose, waiting }: ShowOptions
): Promise<ShownAnswer> {
  const drawn: TokenLogprob[] = []
  try {
    for await (const event of events) {
      if (event.type === 'progress') {
        waiting.show(event)
        continue
      }
      if (event.type === 'plan') {
        waiting.phase(`reading the prompt on ${devicesOf(event.plan)}`)
        if (verbose) waiting.note(planLine(event.plan))
      }
      const notice = verbose ? noticeOf(event) : undefined
      if (notice !== undefined) waiting.note(clean(notice))
      if (event.type === 'prefill') waiting.read(event)
      if (event.type === 'plan' || event.type === 'prompt' || event.type === 'prefill') continue
      waiting.stop()
      if (event.type === 'text' || event.type === 'reasoning') drawn.push(...event.logprobs)
      if (event.type === 'text' && text) process.stdout.write(cleanText(event.text))
      if (event.type === 'done') {
        if (text) process.stdout.write('\n')
        if (verbose) {
          // Loaded only now: who wants no table need not wait for what draws it.
          const { stepTable } = await import('./step-table.ts')
          process.stderr.write(`${figuresLine(event.result)}\n${stepTable(event.result)}\n`)
        }
        return { result: event.result, drawn }
      }
    }
  } finally {
    waiting.stop()
  }
  throw new Error('the node ended the answer without a result')
}

/** The likeliest ids in the place of each token, the likeliest first. */
export function logprobsOf(drawn: readonly TokenLogprob[]): { id: number; logprob: number }[][] {
  return drawn.map(({ top }) => top.map(({ id, logprob }) => ({ id, logprob })))
}

/** `desk, laptop`. */
function devicesOf({ stages }: GenerateResult['plan']): string {
  return [...shortNames(stages).values()].join(', ')
}

const CUT = 'the answer is cut here: its context is full, or the mesh has no memory for more of it'

/** Whether an answer ended for want of room, not because it had the tokens it was allowed. */
export function isCutShort(
  { finishReason, tokens }: GenerateResult,
  { maxTokens = Number.POSITIVE_INFINITY }: Pick<GenerateRequest, 'maxTokens'>
): boolean {
  return finishReason === 'length' && tokens.length < maxTokens
}

/** Ends an answer with the line, on stderr, that says who computed it and why; with `explain` all reasons follow. */
export async function sayWho(
  result: GenerateResult,
  request: GenerateRequest,
  { node, signal, explain }: { node: Client; signal: AbortSignal; explain: boolean }
): Promise<void> {
  const reasons = await reasonsFor(result, request, { node, signal })
  const lines = [
    ...(isCutShort(result, request) ? [CUT] : []),
    answeredBy(result, reasons, { explained: explain })
  ]
  if (explain) lines.push(...explanationLines(result, reasons))
  process.stderr.write(`${await inLines(lines.join('\n'))}\n`)
}

/** Text for people on stderr, in lines that a terminal need not break within words. */
export async function inLines(text: string): Promise<string> {
  if (process.stderr.isTTY !== true) return text
  // Loaded only now: it brings what draws tables, which nobody waits for before an answer.
  const { fitted } = await import('../table.ts')
  return fitted(text, process.stderr.columns)
}

import type { GenerateEvent, GenerateResult } from '../api.ts'
import { noticeOf } from '../source/request/notices.ts'
import { clean, cleanText } from './format.ts'
import { figuresLine, planLine, RunProgress, stepTable } from './run-progress.ts'

export interface ShowOptions {
  /** Write the text to stdout as it arrives. */
  text: boolean
  /** Say on stderr which devices answer and how fast. */
  verbose: boolean
}

/** Shows an answer as it arrives; the whole of it is the result. */
export async function showAnswer(
  events: AsyncGenerator<GenerateEvent>,
  { text, verbose }: ShowOptions
): Promise<GenerateResult> {
  const progress = new RunProgress()
  try {
    for await (const event of events) {
      if (event.type === 'progress') {
        progress.show(event)
        continue
      }
      progress.stop()
      if (event.type === 'plan' && verbose) process.stderr.write(`${planLine(event.plan)}\n`)
      const notice = verbose ? noticeOf(event) : undefined
      if (notice !== undefined) process.stderr.write(`${clean(notice)}\n`)
      if (event.type === 'text' && text) process.stdout.write(cleanText(event.text))
      if (event.type === 'done') {
        if (text) process.stdout.write('\n')
        if (verbose) process.stderr.write(`${figuresLine(event.result)}\n${stepTable(event.result)}\n`)
        return event.result
      }
    }
  } finally {
    progress.stop()
  }
  throw new Error('the node ended the answer without a result')
}

import type { GenerateEvent, GenerateResult } from '../api.ts'
import { BrokenAnswerError, LateAnswerError, NoNodeError } from '../client/errors.ts'
import { devicesOfAnswer, meanPredictedTpotMs } from '../stretches.ts'
import type { Message } from './conversations.ts'
import { bytesOf } from './format.ts'

const PHASES = { plan: 'planning with', load: 'loading on' } as const

/** An answer after one more event of it. */
export function afterGenerated(answer: Message, event: GenerateEvent): Message {
  switch (event.type) {
    case 'progress':
      return event.phase === 'weights'
        ? withFetched(answer, event)
        : { ...answer, note: `${PHASES[event.phase]} ${event.peer}` }
    case 'plan':
      // Behind the first token it is a plan to go on with.
      return isBegun(answer) ? answer : { ...withoutNote(answer), note: 'reading the prompt' }
    case 'prefill':
      return event.done < event.total
        ? { ...answer, note: `reading the prompt, ${event.done} of ${event.total} tokens` }
        : answer
    case 'recovery':
      return { ...answer, note: 'a device is lost; placing its layers anew' }
    case 'reasoning':
      return { ...withoutNote(answer), thought: (answer.thought ?? '') + event.text }
    case 'text':
      return { ...withoutNote(answer), text: answer.text + event.text }
    case 'done':
      return finished(answer, event.result)
    default:
      return answer
  }
}

/** An answer that a person has stopped. */
export function stopped(answer: Message): Message {
  return { ...withoutNote(answer), state: 'stopped' }
}

/** An answer that failed, with what a person can do about it where the error does not say so itself. */
export function failed(answer: Message, error: unknown): Message {
  const said = error instanceof Error ? error.message : String(error)
  return { ...withoutNote(answer), state: 'failed', note: `${said}${nextStep(error)}` }
}

function nextStep(error: unknown): string {
  if (error instanceof NoNodeError)
    return '. Is it still running? Start it with "npx edgeshard up", then ask again.'
  if (error instanceof BrokenAnswerError || error instanceof LateAnswerError) return '. Ask again.'
  return ''
}

function isBegun({ text, thought }: Message): boolean {
  return text !== '' || thought !== undefined
}

/** How far all devices together are with the weights that they fetch. */
function withFetched(
  answer: Message,
  { peer, done, total }: Extract<GenerateEvent, { type: 'progress' }>
): Message {
  const fetched = { ...answer.fetched, [peer]: [done, total] as const }
  const all = Object.values(fetched)
  const [got, wanted] = [0, 1].map(i => all.reduce((sum, far) => sum + far[i]!, 0)) as [number, number]
  const names = Object.keys(fetched).join(', ')
  return { ...answer, fetched, note: `fetching weights, ${bytesOf(got, wanted)}, to ${names}` }
}

function finished(answer: Message, result: GenerateResult): Message {
  const { ttftMs, tpotMs, tokens, recoveries } = result
  const answered = { ...result, count: tokens.length }
  const figures = {
    ...{ ttftMs, tpotMs, tokens: tokens.length, recoveries },
    predictedTpotMs: meanPredictedTpotMs(answered),
    devices: devicesOfAnswer(answered)
  }
  const { error } = result
  const ended = { ...withoutNote(answer), text: result.text, figures }
  return error === undefined ? { ...ended, state: 'done' } : { ...ended, state: 'failed', note: error }
}

function withoutNote({ note: _, fetched: __, ...answer }: Message): Message {
  return answer
}

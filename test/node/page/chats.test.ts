import { expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { afterGenerated } from '../../../node/page/chat-answer.ts'
import type { Message } from '../../../node/page/conversations.ts'
import { ANSWER } from '../http/fake-node.ts'

const MIB = 1024 ** 2
const EMPTY: Message = { role: 'assistant', text: '', state: 'running' }
const weights = (peer: string, done: number, total: number): GenerateEvent => {
  return { type: 'progress', phase: 'weights', peer, done: done * MIB, total: total * MIB }
}

test('how far loading is stands at the question: all devices together', () => {
  const notes: (string | undefined)[] = []
  let answer = EMPTY
  for (const event of [
    weights('laptop', 1, 4),
    weights('mini-pc', 2, 6),
    weights('laptop', 4, 4),
    ...ANSWER.slice(0, 2)
  ]) {
    answer = afterGenerated(answer, event)
    notes.push(answer.note)
  }
  expect(notes).toEqual([
    'fetching weights, 1.0 of 4.0 MiB, to laptop',
    'fetching weights, 3.0 of 10.0 MiB, to laptop, mini-pc',
    'fetching weights, 6.0 of 10.0 MiB, to laptop, mini-pc',
    'loading on desk',
    'reading the prompt'
  ])
  const ended = ANSWER.slice(2).reduce(afterGenerated, answer)
  expect(ended).toMatchObject({ state: 'done', text: 'Hello 🦙' })
  // Nothing of that is kept with the conversation.
  expect(Object.keys(ended)).not.toContain('fetched')
})

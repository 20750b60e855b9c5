import { expect, test } from 'vitest'
import { Answers } from '../../node/answers.ts'
import type { GenerateEvent } from '../../node/api.ts'

const EVENT: GenerateEvent = { type: 'progress', phase: 'load', peer: 'b', done: 1, total: 2 }

async function* answer(): AsyncGenerator<GenerateEvent> {
  yield EVENT
}

test('an observer that fails is in the way of no answer, and of no other observer', async () => {
  const answers = new Answers()
  const seen: unknown[] = []
  answers.watch(() => ({
    onEvent() {
      throw new Error('it cannot count')
    },
    onEnd() {
      throw new Error('nor end')
    }
  }))
  answers.watch(() => ({
    onEvent: event => void seen.push(event),
    onEnd: outcome => void seen.push(outcome)
  }))
  const passed: GenerateEvent[] = []
  for await (const event of answers.told(answer())) passed.push(event)
  expect(passed).toEqual([EVENT])
  expect(seen).toEqual([EVENT, 'cancelled'])
})

test('what is computed beside answers counts as one that runs, until it has come or failed', async () => {
  const answers = new Answers()
  const work = Promise.withResolvers<number>()
  const [came, failed] = [answers.during(work.promise), answers.during(Promise.reject(new Error('gone')))]
  expect(answers.running).toBe(2)
  await expect(failed).rejects.toThrow('gone')
  expect(answers.running).toBe(1)
  work.resolve(3)
  expect(await came).toBe(3)
  expect(answers.running).toBe(0)
})

import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { progressText, Waiting } from '../../../node/cli/waiting.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** A terminal, or a pipe, that holds what was written to it. */
function stream(isTTY: boolean): { stream: NodeJS.WriteStream; text: () => string } {
  const written: string[] = []
  const pipe = new PassThrough().on('data', chunk => written.push(String(chunk)))
  return {
    stream: Object.assign(pipe, { isTTY, columns: 40 }) as unknown as NodeJS.WriteStream,
    text: () => written.join('')
  }
}

const load = (peer: string, done: number) =>
  ({ type: 'progress', phase: 'load', peer, done, total: 1 }) as const

test('a terminal is told at once whom is asked, then the phase, the time and a line a device', () => {
  const { stream: terminal, text } = stream(true)
  let nowMs = 120
  const waiting = new Waiting({ stream: terminal, now: () => nowMs })
  waiting.say('asking the node at 127.0.0.1:7447')
  expect(text()).toContain('asking the node at 127.0.0.1:7447, 0.1 s')
  nowMs = 1500
  waiting.show(load('desk', 0.25))
  waiting.show(load('lap\u001b[2Jtop', 0.5))
  vi.advanceTimersByTime(200)
  // Cut at the edge of the terminal: a line that wraps could not be taken back.
  expect(text()).toContain('asking the node at 127.0.0.1:7447: getti')
  expect(text()).toContain('desk: loading, 25 %')
  expect(text()).toContain('lap [2Jtop: loading, 50 %')
  waiting.stop()
  const length = text().length
  vi.advanceTimersByTime(1000)
  expect(text()).toHaveLength(length)
})

test('a prompt that is read says how far, in its own phase alone', () => {
  const { stream: terminal, text } = stream(true)
  terminal.columns = 120
  const waiting = new Waiting({ stream: terminal, now: () => 0 })
  waiting.say('asking')
  waiting.phase('reading the prompt')
  waiting.read({ done: 512, total: 8000 })
  vi.advanceTimersByTime(200)
  expect(text()).toContain('asking: reading the prompt, 512 of 8000 tokens, 0.0 s')
  waiting.phase('planning')
  vi.advanceTimersByTime(200)
  expect(text()).toContain('asking: planning, 0.0 s')
  waiting.stop()
})

test('nothing is written where nobody looks', () => {
  const { stream: pipe, text } = stream(false)
  const waiting = new Waiting({ stream: pipe })
  waiting.say('asking the node at 127.0.0.1:7447')
  waiting.show(load('desk', 0.25))
  vi.advanceTimersByTime(1000)
  waiting.stop()
  expect(text()).toBe('')
})

test('a line that stays goes above what is waited for, or where that would be', () => {
  const { stream: terminal, text } = stream(true)
  const waiting = new Waiting({ stream: terminal, now: () => 0 })
  waiting.note('first')
  waiting.say('asking')
  waiting.note('second')
  expect(text()).toMatch(/^first\n.*asking.*second\n.*asking/s)
  waiting.stop()
})

test('weights come with their amount, their rate and the time left', () => {
  const weights = (done: number) =>
    ({ type: 'progress', phase: 'weights', peer: 'desk', done, total: 40 * 2 ** 20 }) as const
  const at = (done: number, ms: number) =>
    progressText({ name: 'desk', last: weights(done), sinceMs: 1000 }, 1000 + ms)
  expect(at(0, 2000)).toBe('desk: 0 B of 40.0 MiB')
  expect(at(10 * 2 ** 20, 2000)).toBe('desk: 10.0 MiB of 40.0 MiB, 5.0 MiB/s, 6 s left')
})

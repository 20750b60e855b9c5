import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { CLIENT_STALL_MS, HEARTBEAT_MS } from '../../../node/http/constants.ts'
import { textStream } from '../../../node/http/text-stream.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

function open(parts: AsyncGenerator<string>) {
  const onEnd = vi.fn()
  const drop = vi.fn()
  const response = textStream(parts, { contentType: 'text/plain', heartbeat: ': waiting\n\n', onEnd, drop })
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
  return { reader, onEnd, drop, body: response.body! }
}

async function* parts(...all: string[]): AsyncGenerator<string> {
  yield* all
}

test('all parts, then the end', async () => {
  const { reader, onEnd, drop } = open(parts('a', 'b'))
  expect((await reader.read()).value).toBe('a')
  expect((await reader.read()).value).toBe('b')
  expect((await reader.read()).done).toBe(true)
  expect(onEnd).toHaveBeenCalledOnce()
  expect(drop).not.toHaveBeenCalled()
})

test('a comment while nothing else happens', async () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const slow = async function* () {
    yield await promise
  }
  const { reader } = open(slow())
  const first = reader.read()
  await vi.advanceTimersByTimeAsync(HEARTBEAT_MS)
  expect((await first).value).toBe(': waiting\n\n')
  resolve('late')
  expect((await reader.read()).value).toBe('late')
})

test('a client that stops reading is dropped and its answer ends', async () => {
  let ended = false
  const endless = async function* () {
    try {
      for (;;) yield 'x'
    } finally {
      ended = true
    }
  }
  const onEnd = vi.fn()
  const drop = vi.fn()
  const response = textStream(endless(), { contentType: 'text/plain', onEnd, drop })
  const reader = response.body!.getReader()
  await reader.read()
  await vi.advanceTimersByTimeAsync(CLIENT_STALL_MS - 1)
  expect(drop).not.toHaveBeenCalled()
  await vi.advanceTimersByTimeAsync(1)
  expect(drop).toHaveBeenCalledOnce()
  expect(onEnd).toHaveBeenCalledOnce()
  expect(ended).toBe(true)
})

test('a client that goes away ends the answer', async () => {
  const { reader, onEnd, drop } = open(parts('a', 'b'))
  await reader.read()
  await reader.cancel()
  expect(onEnd).toHaveBeenCalledOnce()
  expect(drop).not.toHaveBeenCalled()
})

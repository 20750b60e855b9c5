import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { bodyText } from '../../../node/http/body.ts'
import { BODY_SILENCE_MS, MAX_BODIES_BYTES, MAX_BODY_BYTES } from '../../../node/http/constants.ts'
import type { HttpContext } from '../../../node/http/request.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

/** A request whose body the test writes, and the headers of its answer. */
function request() {
  const incoming = new PassThrough({ highWaterMark: 2 * MAX_BODY_BYTES })
  const headers: Record<string, string> = {}
  const context = {
    env: { incoming },
    req: { header: () => undefined },
    header: (name: string, value: string) => {
      headers[name] = value
    }
  } as unknown as HttpContext
  return { incoming, headers, text: bodyText(context) }
}

describe('a body', () => {
  test('that comes in pieces, none of them late, is read', async () => {
    const { incoming, text } = request()
    for (const piece of ['{"a"', ':1', '}']) {
      incoming.write(piece)
      await vi.advanceTimersByTimeAsync(BODY_SILENCE_MS - 1)
    }
    incoming.end()
    expect(await text).toBe('{"a":1}')
  })

  test('that stops in the middle ends its connection with the answer', async () => {
    const { incoming, headers, text } = request()
    const refused = expect(text).rejects.toMatchObject({ code: 'body_too_slow' })
    incoming.write('{')
    await vi.advanceTimersByTimeAsync(2 * BODY_SILENCE_MS)
    await refused
    expect(headers).toEqual({ connection: 'close' })
  })

  test('is one of all that are read at once, which together are capped, and gives its bytes back', async () => {
    const part = Buffer.alloc(MAX_BODY_BYTES)
    const full = Array.from({ length: MAX_BODIES_BYTES / MAX_BODY_BYTES }, request)
    for (const { incoming } of full) incoming.write(part)
    await vi.advanceTimersByTimeAsync(1)
    const late = request()
    const refused = expect(late.text).rejects.toMatchObject({ code: 'too_many_requests' })
    late.incoming.end('{}')
    await refused
    for (const { incoming } of full) incoming.end()
    for (const { text } of full) expect((await text).length).toBe(MAX_BODY_BYTES)
    const next = request()
    next.incoming.end('{}')
    expect(await next.text).toBe('{}')
  })
})

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { fetchFromHolders } from '../../../node/weights/fetch.ts'
import { PeerLostError, RemoteError } from '../../../protocols/errors.ts'
import type { FetchOptions } from '../../../protocols/weights/index.ts'

// Not among the timers that can be faked.
vi.mock('node:timers/promises', () => ({
  setTimeout: (ms: number, _: unknown, { signal }: { signal?: AbortSignal }) =>
    new Promise((resolve, reject) => {
      setTimeout(resolve, ms)
      signal?.addEventListener('abort', reject)
    })
}))
beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const ref = { sha256: 'a'.repeat(64), bytes: 10 }
const lost = (peerId: string) => new PeerLostError(peerId, 'there is no connection')

/** Fetches from holders as `answer` says; resolves with the bytes, or the name of the error, and when. */
function fetched(
  holders: string[],
  answer: (peerId: string, from: number) => AsyncGenerator<Uint8Array>,
  signal?: AbortSignal
) {
  const weights = {
    fetch: (peerId: string, _: string, { offset = 0 }: FetchOptions = {}) => answer(peerId, offset)
  }
  const startMs = performance.now()
  const all = async () => {
    let bytes = 0
    for await (const part of fetchFromHolders(weights, ref, holders, { ...(signal && { signal }) }))
      bytes += part.byteLength
    return { bytes, ms: performance.now() - startMs }
  }
  return all().catch((error: Error) => ({
    error: error.name,
    said: error.message,
    ms: performance.now() - startMs
  }))
}

test('the only holder is gone for ten seconds: the fetch goes on where it stood', async () => {
  const froms: number[] = []
  const startMs = performance.now()
  const fetching = fetched(['a'], async function* (peerId, from) {
    if (performance.now() < startMs + 10_000 && froms.length > 0) throw lost(peerId)
    froms.push(from)
    yield new Uint8Array(from === 0 ? 4 : 6)
    if (from === 0) throw lost(peerId)
  })
  await vi.advanceTimersByTimeAsync(20_000)
  expect(await fetching).toMatchObject({ bytes: 10 })
  expect(froms).toEqual([0, 4])
})

test('holders that stay away are given up after a while, with what each said', async () => {
  const fetching = fetched(['a', 'b'], async function* (peerId) {
    yield* []
    throw lost(peerId)
  })
  await vi.advanceTimersByTimeAsync(30_000)
  const { ms, ...failure } = await fetching
  expect(failure).toEqual({ error: 'BlobUnavailableError', said: expect.stringMatching(/a: .*; b: /) })
  expect(ms).toBeGreaterThan(14_000)
})

test('nobody has it: that is said at once', async () => {
  const fetching = fetched(['a', 'b'], async function* (peerId) {
    yield* []
    throw new RemoteError(peerId, 'absent', 'no blob here')
  })
  expect(await fetching).toMatchObject({ error: 'BlobUnavailableError', ms: 0 })
})

test('a busy holder is asked for minutes, until the caller has enough', async () => {
  const cancel = new AbortController()
  const busy = async function* (peerId: string) {
    yield* []
    throw new RemoteError(peerId, 'busy', 'too many fetches at once')
  }
  const fetching = fetched(['a'], busy, cancel.signal)
  await vi.advanceTimersByTimeAsync(5 * 60_000)
  cancel.abort(new RangeError('cancelled'))
  expect(await fetching).toMatchObject({ error: 'RangeError', ms: expect.closeTo(5 * 60_000, -3) })
})

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { gathered } from '../../../node/http/gathered.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Parts after so many ms each, from the one before. */
async function* parts(...all: [ms: number, text: string][]): AsyncGenerator<string> {
  for (const [ms, text] of all) {
    if (ms > 0) await new Promise(resolve => setTimeout(resolve, ms))
    yield text
  }
}

/** What comes, and when. */
async function read(from: AsyncGenerator<string>): Promise<[ms: number, text: string][]> {
  const startMs = performance.now()
  const seen: [number, string][] = []
  const reading = (async () => {
    for await (const text of from) seen.push([Math.round(performance.now() - startMs), text])
    seen.push([Math.round(performance.now() - startMs), ''])
  })()
  await vi.advanceTimersByTimeAsync(10_000)
  await reading
  return seen
}

test('what comes after a pause waits for nothing, what follows closely comes together, and the end waits for nothing', async () => {
  const all = parts([0, 'a'], [10, 'b'], [10, 'c'], [200, 'd'], [10, 'e'])
  expect(await read(gathered(all, 100))).toEqual([
    [0, 'a'],
    [100, 'bc'],
    [220, 'd'],
    [230, 'e'],
    [230, '']
  ])
})

test('no more is held back than a reader takes at once', async () => {
  const long = 'x'.repeat(40_000)
  const seen = await read(gathered(parts([0, 'a'], [1, long], [1, long], [1, 'b']), 1000))
  expect(seen.map(([ms, { length }]) => [ms, length])).toEqual([
    [0, 1],
    [2, 80_000],
    [3, 1],
    [3, 0]
  ])
})

test('whoever leaves ends the parts, too', async () => {
  let isEnded = false
  const endless = (async function* () {
    try {
      for (;;) {
        await new Promise(resolve => setTimeout(resolve, 10))
        yield 'a'
      }
    } finally {
      isEnded = true
    }
  })()
  const reading = (async () => {
    for await (const _ of gathered(endless, 100)) break
  })()
  await vi.advanceTimersByTimeAsync(1000)
  await reading
  expect(isEnded).toBe(true)
})

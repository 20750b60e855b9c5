import { expect, test, vi } from 'vitest'
import { Fetches } from '../../../node/weights/fetches.ts'
import { Weights, type WeightsComponents } from '../../../node/weights/weights.ts'

const refs = ['a', 'b', 'c', 'd'].map(name => ({ sha256: name.repeat(64), bytes: 100 }))
const modelId = 'm'.repeat(64)
const signal = new AbortController().signal

/** A mesh whose fetches are decided by the test. */
function weightsOf(
  fetch: (
    sha256: string,
    holders: readonly string[],
    signal: AbortSignal,
    onProgress: (bytes: number) => void
  ) => Promise<void>
) {
  let stored = 0
  const parts = {
    peers: {
      fetchBlob: async (
        { sha256, bytes }: { sha256: string; bytes: number },
        holders: readonly string[],
        _put: unknown,
        options: { signal: AbortSignal; onProgress: (bytes: number) => void }
      ) => {
        await fetch(sha256, holders, options.signal, options.onProgress)
        options.onProgress(bytes)
      }
    },
    store: { requireSpace: async () => {} },
    cache: { makeRoom: async () => {} },
    fetches: new Fetches({ now: () => 0, onNotice() {}, nameOf: id => id }),
    onStored: () => stored++
  }
  return { weights: new Weights(parts as unknown as WeightsComponents), stored: () => stored }
}

test('files come from all holders side by side, each starting with another one', async () => {
  const first: string[] = []
  let running = 0
  let most = 0
  const { weights, stored } = weightsOf(async (_, holders) => {
    first.push(holders[0]!)
    most = Math.max(most, ++running)
    await new Promise(resolve => setTimeout(resolve, 5))
    running--
  })
  const progress: number[] = []
  await weights.obtain(refs, ['x', 'y'], { modelId, signal, onProgress: done => progress.push(done) })
  expect(first).toEqual(['x', 'y', 'x', 'y'])
  expect(most).toBe(2)
  expect(progress).toEqual([100, 200, 300, 400])
  expect(stored()).toBe(1)
})

test('progress is told in a hundred steps, and after 10 s where one takes longer', async () => {
  vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] })
  const bytes = 1e9
  const { weights } = weightsOf(async (_sha256, _holders, _signal, onProgress) => {
    for (let done = 0; done < 6e6; done += 1e5) {
      onProgress(done)
      await vi.advanceTimersByTimeAsync(1000)
    }
    for (let done = 6e6; done < bytes; done += 1e6) onProgress(done)
  })
  const progress: number[] = []
  const ref = { ...refs[0]!, bytes }
  await weights.obtain([ref], ['x'], { modelId, signal, onProgress: done => progress.push(done) })
  expect(progress.slice(0, 6)).toEqual([1e6, 2e6, 3e6, 4e6, 5e6, 6e6])
  expect(progress.length).toBeLessThanOrEqual(106)
  expect(progress.at(-1)).toBe(bytes)
  vi.useRealTimers()
})

test('a file that nobody delivers ends the others with its own error', async () => {
  let aborted = 0
  const { weights, stored } = weightsOf(async (sha256, _, until) => {
    if (sha256.startsWith('a')) throw new Error('nobody delivered a')
    await new Promise((_, reject) => {
      until.addEventListener('abort', () => {
        aborted++
        reject(until.reason)
      })
    })
  })
  await expect(weights.obtain(refs, ['x', 'y', 'z'], { modelId, signal })).rejects.toThrow(
    'nobody delivered a'
  )
  expect(aborted).toBe(2)
  expect(stored()).toBe(0)
})

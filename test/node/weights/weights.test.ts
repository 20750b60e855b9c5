import { describe, expect, test, vi } from 'vitest'
import { modelId as idOf, type Manifest, serializeManifest } from '../../../models/manifest.ts'
import { randomManifest } from '../../../models/runtime/random-weights.ts'
import { Fetches } from '../../../node/weights/fetches.ts'
import { ManifestBudget } from '../../../node/weights/manifest-budget.ts'
import { Weights, type WeightsComponents } from '../../../node/weights/weights.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

const refs = ['a', 'b', 'c', 'd'].map(name => ({ sha256: name.repeat(64), bytes: 100 }))
const modelId = 'm'.repeat(64)
const MIB = 1 << 20
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
  const fetches = new Fetches({ now: () => 0, onNotice() {}, nameOf: id => id })
  const parts = {
    peers: {
      peerId: 'self',
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
    fetches,
    onStored: () => stored++
  }
  return { weights: new Weights(parts as unknown as WeightsComponents), fetches, stored: () => stored }
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

test('weights that come are waited for, but for what is prefetched', async () => {
  const awaited: boolean[] = []
  const { weights, fetches } = weightsOf(async () => void awaited.push(fetches.isAwaited))
  await weights.obtain(refs.slice(0, 1), ['x'], { modelId, signal })
  await weights.obtain(refs.slice(0, 1), ['x'], { modelId, signal, pace: async () => {} })
  expect([...awaited, fetches.isAwaited]).toEqual([true, false, false])
})

test('files that are found missing or damaged are told, and nothing where all are whole', async () => {
  const [whole, damaged] = [refs[0]!, refs[1]!]
  const told: unknown[] = []
  const parts = {
    store: { intact: async ({ sha256 }: { sha256: string }) => sha256 === whole.sha256 },
    onMissing: (files: unknown) => told.push(files)
  }
  const weights = new Weights(parts as unknown as WeightsComponents)
  const manifest = { layers: [whole, damaged] } as Manifest
  expect(await weights.missing(manifest, [0, 1], { signal })).toEqual([])
  expect(told).toEqual([])
  expect(await weights.missing(manifest, [0, 2], { signal })).toEqual([damaged])
  expect(told).toEqual([[damaged]])
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

describe('the next file is asked for before the last one is all here', () => {
  /** Files of which all but a byte comes at once, and which are in the store when the test says so. */
  function writtenSlowly() {
    const begun: string[] = []
    const open = { now: 0, most: 0 }
    const writes = new Map<string, PromiseWithResolvers<void>>()
    const parts = {
      peers: {
        fetchBlob: async (
          { sha256, bytes }: { sha256: string; bytes: number },
          _holders: readonly string[],
          put: (bytes: AsyncIterable<Uint8Array>) => Promise<void>,
          { onProgress }: { onProgress: (bytes: number) => void }
        ) => {
          begun.push(sha256[0]!)
          onProgress(bytes - 1)
          await put((async function* () {})())
        }
      },
      store: {
        requireSpace: async () => {},
        putBlob: async ({ sha256 }: { sha256: string }, bytes: AsyncIterable<Uint8Array>) => {
          const write = Promise.withResolvers<void>()
          writes.set(sha256[0]!, write)
          open.most = Math.max(open.most, ++open.now)
          for await (const _ of bytes);
          await write.promise
          open.now--
        }
      },
      cache: { makeRoom: async () => {} },
      fetches: new Fetches({ now: () => 0, onNotice() {}, nameOf: id => id })
    }
    const weights = new Weights(parts as unknown as WeightsComponents)
    const obtained = weights.obtain(refs, ['x'], { modelId, signal })
    // Heard of at the end.
    obtained.catch(() => {})
    return { begun, open, writes, obtained }
  }

  test('and no more than that one, for the disk may be slower than the link', async () => {
    const { begun, open, writes, obtained } = writtenSlowly()
    await vi.waitFor(() => expect(begun).toEqual(['a', 'b']))
    writes.get('a')!.resolve()
    await vi.waitFor(() => expect(begun).toEqual(['a', 'b', 'c']))
    writes.get('b')!.resolve()
    await vi.waitFor(() => expect(begun).toEqual(['a', 'b', 'c', 'd']))
    writes.get('c')!.resolve()
    writes.get('d')!.resolve()
    await obtained
    expect(open.most).toBe(2)
  })

  test('and no sooner, nor of several holders, whose files come side by side', async () => {
    const large = refs.map(ref => ({ ...ref, bytes: 8 * MIB }))
    for (const [holders, first, second] of [
      [['x'], ['a'], ['a', 'b']],
      [
        ['x', 'y'],
        ['a', 'b'],
        ['a', 'b']
      ]
    ] as const) {
      const come: ((bytes: number) => void)[] = []
      const begun: string[] = []
      const { weights } = weightsOf(async (sha256, _, until, onProgress) => {
        begun.push(sha256[0]!)
        come.push(onProgress)
        await new Promise((_, reject) => until.addEventListener('abort', () => reject(until.reason)))
      })
      const left = new AbortController()
      const obtained = weights.obtain(large, holders, { modelId, signal: left.signal })
      await vi.waitFor(() => expect(begun).toEqual(first))
      come[0]!(4 * MIB)
      await new Promise(resolve => setImmediate(resolve))
      expect(begun).toEqual(first)
      come[0]!(8 * MIB - 1)
      await new Promise(resolve => setImmediate(resolve))
      expect(begun).toEqual(second)
      left.abort(new Error('nobody wants it any more'))
      await expect(obtained).rejects.toThrow('nobody wants it any more')
    }
  })

  test('one that cannot be kept ends the one that comes', async () => {
    const { begun, writes, obtained } = writtenSlowly()
    await vi.waitFor(() => expect(begun).toEqual(['a', 'b']))
    writes.get('b')!.resolve()
    writes.get('a')!.reject(new Error('the disk is full'))
    await expect(obtained).rejects.toThrow('the disk is full')
    expect(begun).toEqual(['a', 'b'])
  })
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

describe('manifests of a peer', () => {
  /** A store without models, and peers that send what they are told to. */
  function manifestsOf(files: Map<string, Uint8Array>) {
    const asked: string[] = []
    const parts = {
      peers: {
        nameOf: (peerId: string) => peerId,
        async *fetchRaw(peerId: string, id: string) {
          asked.push(peerId)
          yield files.get(id)!
        }
      },
      store: { held: async () => [] }
    }
    const weights = new Weights(parts as unknown as WeightsComponents)
    return {
      asked,
      get: (id: string, peerId: string) => weights.manifest({ id, name: 'm' }, [peerId], { signal })
    }
  }

  function sound(name: string): [string, Uint8Array] {
    const manifest = randomManifest(TINY_SHAPE, undefined) as Manifest & { layers: { sha256: string }[] }
    for (const layer of manifest.layers) layer.sha256 = name.repeat(64)
    const bytes = serializeManifest(manifest)
    return [idOf(bytes), bytes]
  }

  test('that are no good are taken a few times, and no more; other peers are asked as before', async () => {
    const rubbish = Array.from({ length: 40 }, (_, i): [string, Uint8Array] => {
      const bytes = Buffer.from(`{"version":${i},"x":[${'{},'.repeat(MIB / 8)}{}]}`)
      return [idOf(bytes), bytes]
    })
    const [good, manifest] = sound('a')
    const { asked, get } = manifestsOf(new Map([...rubbish, [good, manifest]]))
    const failed = await Promise.allSettled(rubbish.map(([id]) => get(id, 'evil')))
    expect(failed.every(({ status }) => status === 'rejected')).toBe(true)
    expect(asked.filter(peerId => peerId === 'evil').length).toBeLessThan(8)
    await expect(get(good, 'evil')).rejects.toThrow(/evil: it has sent too many manifests/)
    expect((await get(good, 'honest')).manifest.layers).toHaveLength(5)
  })

  test('are fetched once, however often a source asks for the model', async () => {
    const [id, bytes] = sound('b')
    const { asked, get } = manifestsOf(new Map([[id, bytes]]))
    for (let i = 0; i < 50; i++) await get(id, 'honest')
    expect(asked).toEqual(['honest'])
  })

  test('cost what they weigh, four times that when they are no good, and time pays it back', () => {
    let nowMs = 0
    const budget = new ManifestBudget(() => nowMs)
    for (let i = 0; i < 8; i++) {
      expect(budget.waitS('a')).toBe(0)
      budget.spend('a', MIB, { failed: false })
    }
    expect(budget.waitS('a')).toBe(1)
    expect(budget.waitS('b')).toBe(0)
    nowMs = 1000
    expect(budget.waitS('a')).toBe(0)
    budget.spend('b', 2 * MIB, { failed: true })
    budget.spend('b', 1, { failed: false })
    expect(budget.waitS('b')).toBeGreaterThan(0)
    nowMs = 3_600_000
    expect(budget.waitS('b')).toBe(0)
    budget.spend('a', 8 * MIB, { failed: true })
    expect(budget.waitS('a')).toBe(384 + 1)
  })

  test('are read one at a time, also after one that failed', async () => {
    const budget = new ManifestBudget()
    let running = 0
    const read = async (fails: boolean) => {
      expect(++running).toBe(1)
      await new Promise(resolve => setImmediate(resolve))
      running--
      if (fails) throw new Error('no good')
    }
    const all = [true, false, true, false].map(fails => budget.inTurn('a', () => read(fails)))
    expect((await Promise.allSettled(all)).map(({ status }) => status)).toEqual([
      'rejected',
      'fulfilled',
      'rejected',
      'fulfilled'
    ])
  })
})

import { expect, test, vi } from 'vitest'
import type { Manifest } from '../../../models/manifest.ts'
import type { Shard, ShardSpec } from '../../../models/runtime/runtime.ts'
import { LOAD_AHEAD_MS, LoadAhead } from '../../../node/stage/load-ahead.ts'

const manifest = { layers: [{ sha256: 'a' }, { sha256: 'b' }, { sha256: 'c' }] } as Manifest
const WHOLE: ShardSpec = { manifest, range: [0, 3], blobsDir: 'blobs' }

/** A runtime that writes down what it does. */
function setUp({ failing = 0 } = {}) {
  const did: string[] = []
  let left = failing
  const runtime = {
    async load({ range: [start, end] }: ShardSpec): Promise<Shard> {
      did.push(`load ${start} ${end}`)
      if (left-- > 0) throw new Error('disk gone')
      return { release: async () => void did.push(`release ${start} ${end}`) } as unknown as Shard
    }
  }
  return { ahead: new LoadAhead(runtime), did }
}

test('what was loaded ahead is handed over once, and every later load is one', async () => {
  const { ahead, did } = setUp()
  ahead.begin(WHOLE)
  expect(ahead.waits).toBe(true)
  const fractions: number[] = []
  const again: ShardSpec = { ...WHOLE, manifest: structuredClone(manifest) }
  const shard = await ahead.load(again, { onProgress: fraction => fractions.push(fraction) })
  expect([ahead.waits, did, fractions]).toEqual([false, ['load 0 3'], [1]])
  await ahead.load(WHOLE)
  expect(did).toEqual(['load 0 3', 'load 0 3'])
  await shard.release()
  expect(did).toEqual(['load 0 3', 'load 0 3', 'release 0 3'])
})

test('where something else is wanted it is released before that is loaded', async () => {
  const { ahead, did } = setUp()
  ahead.begin(WHOLE)
  await ahead.load({ ...WHOLE, range: [1, 3] })
  expect([ahead.waits, did]).toEqual([false, ['load 0 3', 'release 0 3', 'load 1 3']])
  ahead.begin(WHOLE)
  const other = { layers: manifest.layers.map(({ sha256 }) => ({ sha256: `${sha256}!` })) } as Manifest
  await ahead.load({ ...WHOLE, manifest: other })
  expect(did.slice(3)).toEqual(['load 0 3', 'release 0 3', 'load 0 3'])
})

test('a model that drafts for it is loaded beside it', async () => {
  const { ahead, did } = setUp()
  const sized = (bytes: number) =>
    ({ layers: manifest.layers.map(layer => ({ ...layer, bytes })) }) as Manifest
  const large: ShardSpec = { ...WHOLE, manifest: sized(100) }
  ahead.begin(large)
  const small = { layers: [{ sha256: 'd', bytes: 75 }] } as Manifest
  await ahead.load({ ...WHOLE, manifest: small, range: [0, 1] })
  expect([ahead.waits, did]).toEqual([true, ['load 0 3', 'load 0 1']])
  // A part of it is none, however small, and one that is hardly smaller has no room beside it.
  const part = await ahead.load({ ...large, manifest: sized(1), range: [0, 1] })
  expect([ahead.waits, did.slice(2)]).toEqual([false, ['release 0 3', 'load 0 1']])
  await part.release()
  ahead.begin(large)
  const medium = { layers: [{ sha256: 'd', bytes: 76 }] } as Manifest
  await ahead.load({ ...WHOLE, manifest: medium, range: [0, 1] })
  expect(did.slice(5)).toEqual(['load 0 3', 'release 0 3', 'load 0 1'])
})

test('where nobody wants it, it is given back after a while', async () => {
  vi.useFakeTimers()
  try {
    const { ahead, did } = setUp()
    ahead.begin(WHOLE)
    await vi.advanceTimersByTimeAsync(LOAD_AHEAD_MS)
    expect([ahead.waits, did]).toEqual([false, ['load 0 3', 'release 0 3']])
  } finally {
    vi.useRealTimers()
  }
})

test('a load that failed ahead is done again, for whoever asks for it', async () => {
  const once = setUp({ failing: 1 })
  once.ahead.begin(WHOLE)
  const shard = await once.ahead.load(WHOLE)
  await shard.release()
  expect(once.did).toEqual(['load 0 3', 'load 0 3', 'release 0 3'])
  const always = setUp({ failing: Infinity })
  always.ahead.begin(WHOLE)
  await expect(always.ahead.load(WHOLE)).rejects.toThrow('disk gone')
  await expect(always.ahead.load(WHOLE)).rejects.toThrow('disk gone')
  expect(always.did).toEqual(['load 0 3', 'load 0 3', 'load 0 3'])
  // In vain and failed: nobody needs to hear of it.
  always.ahead.begin(WHOLE)
  await expect(always.ahead.load({ ...WHOLE, range: [0, 1] })).rejects.toThrow('disk gone')
})

test('what was read from files that are found damaged is released and loaded again, other files are no matter', async () => {
  const { ahead, did } = setUp()
  ahead.begin({ ...WHOLE, range: [0, 2] })
  ahead.doubt([{ sha256: 'c' }, { sha256: 'x' }])
  expect(ahead.waits).toBe(true)
  ahead.doubt([{ sha256: 'x' }, { sha256: 'b' }])
  expect(ahead.waits).toBe(false)
  await ahead.load({ ...WHOLE, range: [0, 2] })
  expect(did).toEqual(['load 0 2', 'release 0 2', 'load 0 2'])
})

test('what is given back after a while is gone before anything else is loaded', async () => {
  vi.useFakeTimers()
  try {
    const did: string[] = []
    const { promise, resolve } = Promise.withResolvers<void>()
    const ahead = new LoadAhead({
      async load() {
        did.push('load')
        return {
          async release() {
            await promise
            did.push('released')
          }
        } as unknown as Shard
      }
    })
    ahead.begin(WHOLE)
    await vi.advanceTimersByTimeAsync(LOAD_AHEAD_MS)
    const loading = ahead.load(WHOLE)
    await vi.advanceTimersByTimeAsync(1)
    expect(did).toEqual(['load'])
    resolve()
    await loading
    expect(did).toEqual(['load', 'released', 'load'])
  } finally {
    vi.useRealTimers()
  }
})

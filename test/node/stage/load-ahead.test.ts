import { expect, test, vi } from 'vitest'
import type { Manifest } from '../../../models/manifest.ts'
import type { Shard, ShardSpec } from '../../../models/runtime/runtime.ts'
import { LOAD_AHEAD_MS, LoadAhead } from '../../../node/stage/load-ahead.ts'

const manifest = { layers: [{ sha256: 'a' }, { sha256: 'b' }, { sha256: 'c' }] } as Manifest
const WHOLE: ShardSpec = { manifest, range: [0, 3], blobsDir: 'blobs' }

/** A runtime that writes down what it does. */
function setUp({ failing = false } = {}) {
  const did: string[] = []
  const runtime = {
    async load({ range: [start, end] }: ShardSpec): Promise<Shard> {
      did.push(`load ${start} ${end}`)
      if (failing) throw new Error('disk gone')
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

test('a load that failed ahead is told to whoever asks for it, and the next one is tried', async () => {
  const { ahead, did } = setUp({ failing: true })
  ahead.begin(WHOLE)
  await expect(ahead.load(WHOLE)).rejects.toThrow('disk gone')
  await expect(ahead.load(WHOLE)).rejects.toThrow('disk gone')
  expect(did).toEqual(['load 0 3', 'load 0 3'])
  // In vain and failed: nobody needs to hear of it.
  ahead.begin(WHOLE)
  await expect(ahead.load({ ...WHOLE, range: [0, 1] })).rejects.toThrow('disk gone')
})

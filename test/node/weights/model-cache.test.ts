import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { weightBytes } from '../../../models/runtime/memory.ts'
import {
  CACHE_DISK_SHARE,
  CACHE_SOURCE_SHARE,
  KEPT_FREE_BYTES,
  MAX_CACHED_MODELS
} from '../../../node/constants.ts'
import { LeaseTable } from '../../../node/stage/lease-table.ts'
import { ModelCache } from '../../../node/weights/model-cache.ts'
import { pass, stopClock } from '../simulation/clock.ts'
import { SimulatedStore } from '../simulation/device.ts'
import { type SimulatedModel, simulatedModel } from '../simulation/mesh.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const SHARE = MAX_CACHED_MODELS / 4
const MODELS = Array.from({ length: SHARE + 1 }, (_, i) => simulatedModel(`model-${i}`))
const BYTES = weightBytes(MODELS[0]!.manifest)

function cacheOf() {
  const store = new SimulatedStore()
  const leases = new LeaseTable({ budgetBytes: 1e9, termMs: 1e9, now: () => 0 })
  let evicted = 0
  const cache = new ModelCache({ store, leases, onEvicted: () => evicted++ })
  const bring = async ({ id, name, bytes, manifest }: SimulatedModel, source: string) => {
    await cache.keep({ id, called: name, bytes }, source)
    await cache.makeRoom({ id, source, bytes: BYTES })
    for (const { sha256 } of manifest.layers) store.files.add(sha256)
    await pass(1000)
  }
  const lease = (model: SimulatedModel, source = 'x') =>
    leases.reserve([{ source, modelId: model.id, range: [0, 1], weightBytes: 1, ownBytes: 1 }])![0]!
  return { store, leases, cache, bring, lease, evicted: () => evicted }
}

test('leases that wait for a session go with their model, and its files; one that is used keeps it', async () => {
  const { store, leases, bring, lease, evicted } = cacheOf()
  for (const model of MODELS.slice(0, SHARE)) {
    await bring(model, 'a')
    const { id } = lease(model)
    leases.setIdle(id, model !== MODELS[0])
  }
  await bring(MODELS.at(-1)!, 'a')
  expect([0, 1].map(at => store.brought.has(MODELS[at]!.id))).toEqual([true, false])
  expect([0, 1].map(at => leases.useOf(MODELS[at]!.id))).toEqual(['busy', 'no'])
  expect(evicted()).toBe(1)
  expect(MODELS[1]!.manifest.layers.some(({ sha256 }) => store.files.has(sha256))).toBe(false)
  expect(store.brought.size).toBe(SHARE)
})

test('a model that is used again is not the one that was used longest ago', async () => {
  const { store, cache, bring } = cacheOf()
  for (const model of MODELS.slice(0, SHARE)) await bring(model, 'a')
  // It is noted once in a while only.
  await cache.claim(MODELS[0]!.id, 'a')
  await pass(3_600_000)
  await cache.claim(MODELS[1]!.id, 'a')
  await bring(MODELS.at(-1)!, 'a')
  expect([0, 1].map(at => store.brought.has(MODELS[at]!.id))).toEqual([false, true])
})

test('what others use, too, stays for them', async () => {
  const { store, bring } = cacheOf()
  await bring(MODELS[0]!, 'b')
  for (const model of MODELS) await bring(model, 'a')
  expect(Object.keys(store.brought.get(MODELS[0]!.id)!.claims)).toEqual(['b'])
  expect(store.brought.size).toBe(SHARE + 1)
})

test('files take so much of the disk, and those of one source so much of that', async () => {
  const { store, cache, bring } = cacheOf()
  const room = 10 * BYTES
  store.diskBytes = KEPT_FREE_BYTES + room
  const mine = Math.floor(CACHE_SOURCE_SHARE * CACHE_DISK_SHARE * 10)
  for (const model of MODELS.slice(0, mine + 2)) await bring(model, 'a')
  expect(store.brought.size).toBe(mine)
  const wanted = cache.makeRoom({ id: MODELS[0]!.id, source: 'c', bytes: room })
  await expect(wanted).rejects.toMatchObject({
    name: 'StoreError',
    message: expect.stringContaining('no room')
  })
  expect(store.brought.size).toBe(mine)
})

test("the user's own model needs no place among them, whoever brings it", async () => {
  const { store, cache, bring } = cacheOf()
  const [own] = MODELS
  store.hold('mine', own!.bytes)
  await cache.keep({ id: own!.id, called: 'theirs', bytes: own!.bytes }, 'a')
  await cache.claim(own!.id, 'a')
  await cache.makeRoom({ id: own!.id, source: 'a', bytes: 2 ** 50 })
  expect(store.brought.size).toBe(0)
  for (const model of MODELS.slice(1)) await bring(model, 'a')
  expect(store.brought.size).toBe(SHARE)
  expect((await store.list()).map(({ name }) => name)).toEqual(['mine'])
})

test('where the clock is set back uses are noted all the same, and what was noted before does not count as used last', async () => {
  const { store, cache, bring } = cacheOf()
  for (const model of MODELS.slice(0, SHARE)) await bring(model, 'a')
  vi.setSystemTime(Date.now() - 3 * 3_600_000)
  await pass(20 * 60_000)
  await cache.claim(MODELS[0]!.id, 'a')
  await bring(MODELS.at(-1)!, 'a')
  expect([0, 1].map(at => store.brought.has(MODELS[at]!.id))).toEqual([true, false])
})

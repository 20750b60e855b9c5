import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { LayerRange } from '../../../models/layers.ts'
import { CACHE_DISK_SHARE, KEPT_FREE_BYTES, PREFETCH_TERM_MS } from '../../../node/constants.ts'
import { PrefetchedFiles } from '../../../node/weights/prefetched-files.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, type SimulatedModel, type SimulatedNode, simulatedModel } from '../simulation/mesh.ts'
import { onMeeting } from '../simulation/peers.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const MODELS = ['one', 'two', 'three'].map(name => simulatedModel(name))
const [ONE, TWO, THREE] = MODELS as [SimulatedModel, SimulatedModel, SimulatedModel]
const going = { signal: new AbortController().signal }
const bytesIn = ({ manifest }: SimulatedModel, [start, end]: LayerRange) =>
  manifest.layers.slice(start, end).reduce((sum, { bytes }) => sum + bytes, 0)
const WHOLE: LayerRange = [0, ONE.manifest.layers.length]
const BYTES = bytesIn(ONE, WHOLE)

/** Two sources with all models, and a spare. */
function meshOf(prefetchBytes: number) {
  const mesh = new SimulatedMesh(...MODELS)
  for (const id of ['a', 'b']) mesh.add(id, { memoryBytes: 1e9, models: MODELS })
  const spare = mesh.add('spare', { memoryBytes: 1e9, prefetchBytes })
  return { mesh, spare }
}

/** Asks a spare as a source does. @returns the refusal, if it is one */
async function prefetch(
  mesh: SimulatedMesh,
  source: string,
  { id }: { id: string },
  range: LayerRange = WHOLE,
  holders = [source]
): Promise<string | undefined> {
  const lease = await mesh.get(source).peers.lease('spare', going)
  try {
    const asked = { modelId: id, range: [...range] as [number, number], maxTokens: 1, sessions: 1 }
    const reply = await lease.reserve({ ...asked, prefetch: true }, going)
    if (reply.type === 'refused') return reply.reason
    const load = { leaseId: reply.leaseId, holders, previous: source, next: source }
    await lease.load(load, { ...going, timeoutMs: 60_000 })
    return undefined
  } catch (error) {
    return (error as Error).message
  } finally {
    lease.end()
  }
}

const held = ({ record }: SimulatedNode) => record.models.map(({ id, layers }) => [id, layers.length])

test('layers come to the disk, take no memory once their source is gone, and are said in the record', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  expect(await played(prefetch(mesh, 'a', ONE, [1, 3]))).toBeUndefined()
  expect(held(spare)).toEqual([[ONE.id, 2]])
  expect(spare.record.prefetch).toEqual({ quotaBytes: 4 * BYTES, bytes: bytesIn(ONE, [1, 3]) })
  await pass(1000)
  expect(spare.empty).toBe(true)
  // What is there already comes no second time.
  const { met } = mesh.get('a').peers
  const before = met.get('weights')
  expect(await played(prefetch(mesh, 'a', ONE, [1, 3]))).toBeUndefined()
  expect(met.get('weights')).toBe(before)
})

test('a device whose quota is 0 keeps nothing', async () => {
  const { mesh, spare } = meshOf(0)
  expect(await played(prefetch(mesh, 'a', ONE))).toMatch('keeps no weights')
  expect(held(spare)).toEqual([])
})

test('a source has half of the quota, and gives up its own before anybody else’s', async () => {
  const { mesh, spare } = meshOf(2.5 * BYTES)
  expect(await played(prefetch(mesh, 'b', THREE))).toBeUndefined()
  expect(await played(prefetch(mesh, 'a', ONE))).toBeUndefined()
  expect(await played(prefetch(mesh, 'a', TWO))).toBeUndefined()
  expect(held(spare)).toEqual([
    [THREE.id, WHOLE[1]],
    [TWO.id, WHOLE[1]]
  ])
  expect(spare.record.prefetch!.bytes).toBe(2 * BYTES)
})

test('more than half of the quota is refused, whatever the source says of it', async () => {
  const { mesh, spare } = meshOf(1.9 * BYTES)
  expect(await played(prefetch(mesh, 'a', ONE))).toMatch('too many')
  expect(held(spare)).toEqual([])
  expect(await played(prefetch(mesh, 'a', ONE, [1, 3]))).toBeUndefined()
})

test('what another source has asked for stays for a day', async () => {
  const { mesh, spare } = meshOf(2.5 * BYTES)
  expect(await played(prefetch(mesh, 'b', THREE))).toBeUndefined()
  mesh.add('c', { memoryBytes: 1e9, models: MODELS })
  expect(await played(prefetch(mesh, 'c', TWO))).toBeUndefined()
  expect(await played(prefetch(mesh, 'a', ONE))).toMatch('too many')
  vi.setSystemTime(Date.now() + PREFETCH_TERM_MS + 1)
  expect(await played(prefetch(mesh, 'a', ONE))).toBeUndefined()
  expect(held(spare).map(([id]) => id)).toEqual([TWO.id, ONE.id])
})

test('what was asked for by a clock that was ahead does not stay until that time comes', async () => {
  const { mesh, spare } = meshOf(2.5 * BYTES)
  expect(await played(prefetch(mesh, 'b', THREE))).toBeUndefined()
  mesh.add('c', { memoryBytes: 1e9, models: MODELS })
  expect(await played(prefetch(mesh, 'c', TWO))).toBeUndefined()
  vi.setSystemTime(Date.now() - 3 * 3_600_000)
  expect(await played(prefetch(mesh, 'a', ONE))).toBeUndefined()
  expect(held(spare).map(([id]) => id)).toEqual([TWO.id, ONE.id])
})

test('a source has no more than 32 ranges ready at once, and another when it ends one', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  const { peers } = mesh.get('a')
  const ask = async () => {
    const lease = await peers.lease('spare', going)
    const asked = { modelId: ONE.id, range: [1, 3] as [number, number], maxTokens: 1, sessions: 1 }
    const reply = await lease.reserve({ ...asked, prefetch: true }, going)
    if (reply.type === 'refused') return reply.reason
    const load = { leaseId: reply.leaseId, holders: ['a'], previous: 'a', next: 'a' }
    await lease.load(load, { ...going, timeoutMs: 60_000 })
    return lease
  }
  const kept: Awaited<ReturnType<typeof ask>>[] = []
  for (let i = 0; i < 33; i++) {
    kept.push(await played(ask()))
    await pass(15_000)
  }
  expect(kept.filter(each => typeof each === 'string')).toEqual([expect.stringMatching('32 ranges ready')])
  const [first] = kept
  if (typeof first === 'object') first.end()
  expect(await played(ask())).toBeTypeOf('object')
  expect(spare.runtime.shards).toBe(1)
})

test('a model that nobody has imported is not fetched, though the source has it', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  const nameless = simulatedModel('nameless')
  await mesh.get('a').store.cache(nameless.bytes, { called: '', claims: {} })
  for (const { sha256 } of nameless.manifest.layers) mesh.get('a').store.files.add(sha256)
  expect(await played(prefetch(mesh, 'a', nameless))).toMatch('nobody in the mesh has imported')
  expect([held(spare), mesh.get('a').peers.met.get('manifest')]).toEqual([[], undefined])
})

test('only devices that say that they have the model are asked for it', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  mesh.add('c', { memoryBytes: 1e9 })
  expect(await played(prefetch(mesh, 'a', ONE, WHOLE, ['c']))).toMatch('no peer holds it')
  expect(held(spare)).toEqual([])
})

test('a source asks only so often, and another one is not held up by that', async () => {
  const { mesh } = meshOf(4 * BYTES)
  const said: (string | undefined)[] = []
  for (let i = 0; i < 10; i++) said.push(await played(prefetch(mesh, 'a', ONE)))
  expect(said.slice(0, 8)).toEqual(Array(8).fill(undefined))
  expect(said.slice(8)).toEqual(Array(2).fill(expect.stringMatching('asked too often')))
  expect(await played(prefetch(mesh, 'b', ONE))).toBeUndefined()
  await pass(30_000)
  expect(await played(prefetch(mesh, 'a', ONE))).toBeUndefined()
})

test('a source has one under way at a time', async () => {
  const { mesh } = meshOf(8 * BYTES)
  const both = await played(Promise.all([prefetch(mesh, 'a', ONE), prefetch(mesh, 'a', TWO)]))
  expect(both).toEqual([undefined, expect.stringMatching('on their way')])
})

test('what has come when the source goes counts, and stays', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  onMeeting(mesh.get('a'), 'weights', () => mesh.get('a').peers.lostAll(), 3)
  expect(await played(prefetch(mesh, 'a', ONE))).toMatch('broke')
  await pass(1000)
  expect(spare.record.prefetch!.bytes).toBe(bytesIn(ONE, [0, 2]))
  expect(spare.store.files.size).toBe(2)
})

test('a stage that is loaded goes first, and its files count no more', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  expect(await played(prefetch(mesh, 'a', ONE, [1, 3]))).toBeUndefined()
  let ended: Promise<string | undefined> | undefined
  const lease = await played(mesh.get('a').peers.lease('spare', going))
  const range: [number, number] = [1, 3]
  const reply = await played(lease.reserve({ modelId: ONE.id, range, maxTokens: 64, sessions: 1 }, going))
  onMeeting(mesh.get('b'), 'weights', async () => {
    const leaseId = reply.type === 'granted' ? reply.leaseId : ''
    ended = lease
      .load({ leaseId, holders: ['a'], previous: 'a', next: 'a' }, { ...going, timeoutMs: 60_000 })
      .then(() => undefined)
    await pass(100)
  })
  expect(await played(prefetch(mesh, 'b', ONE, [3, 5]))).toMatch('ended while its weights were fetched')
  await played(ended!)
  expect(spare.runtime.loads.at(-1)).toEqual(range)
  expect(spare.record.prefetch!.bytes).toBe(0)
  lease.end()
})

test('what a person imports takes nothing of the quota any more', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  expect(await played(prefetch(mesh, 'a', ONE))).toBeUndefined()
  spare.store.hold(ONE.name, ONE.bytes)
  expect(await played(prefetch(mesh, 'a', TWO))).toBeUndefined()
  expect(spare.record.prefetch!.bytes).toBe(BYTES)
})

test('the list outlives the node, without what is gone from the disk', async () => {
  vi.useRealTimers()
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'prefetched.json')
  const file = { sha256: 'a'.repeat(64), bytes: 5, modelId: 'b'.repeat(64), source: 'x', atMs: 7 }
  const files = new PrefetchedFiles(path)
  await Promise.all([files.add([file]), files.add([{ ...file, sha256: 'c'.repeat(64) }])])
  await files.remove(['c'.repeat(64)])
  const again = new PrefetchedFiles(path)
  await again.read()
  expect(again.all).toEqual([file])
})

/** A source has a stage with layers of a model here, and gives it back. */
async function loaded(mesh: SimulatedMesh, source: string, { id }: { id: string }, range: [number, number]) {
  const lease = await played(mesh.get(source).peers.lease('spare', going))
  const reply = await played(lease.reserve({ modelId: id, range, maxTokens: 64, sessions: 1 }, going))
  const leaseId = reply.type === 'granted' ? reply.leaseId : ''
  const load = { leaseId, holders: [source], previous: source, next: source }
  await played(lease.load(load, { ...going, timeoutMs: 60_000 }))
  lease.end()
  await pass(1000)
  expect(mesh.get('spare').empty).toBe(true)
}

test('where the disk has no room nothing goes for what may never be needed', async () => {
  const { mesh, spare } = meshOf(8 * BYTES)
  mesh.add('c', { memoryBytes: 1e9, models: MODELS })
  const range: [number, number] = [1, 4]
  // What the cache has room for, and one source in it half of that.
  spare.store.diskBytes = KEPT_FREE_BYTES + (2.5 * bytesIn(ONE, range)) / CACHE_DISK_SHARE
  await loaded(mesh, 'b', ONE, range)
  await loaded(mesh, 'c', TWO, range)
  expect(await played(prefetch(mesh, 'a', THREE, range))).toMatch('too many')
  await loaded(mesh, 'a', THREE, range)
  expect(held(spare)).toHaveLength(2)
})

test('where the disk has no room for more a source’s own goes that was never used', async () => {
  const { mesh, spare } = meshOf(8 * BYTES)
  const range: [number, number] = [1, 4]
  // One source has half of that.
  spare.store.diskBytes = KEPT_FREE_BYTES + (4.5 * bytesIn(ONE, range)) / CACHE_DISK_SHARE
  for (const model of MODELS) expect(await played(prefetch(mesh, 'a', model, range))).toBeUndefined()
  expect(held(spare).map(([id]) => id)).toEqual([TWO.id, THREE.id])
})

test('what others have used here stays, whoever prefetches more of the same model', async () => {
  const { mesh, spare } = meshOf(2 * BYTES)
  await loaded(mesh, 'b', ONE, [0, 2])
  expect(await played(prefetch(mesh, 'a', ONE, [2, 5]))).toBeUndefined()
  expect(await played(prefetch(mesh, 'a', TWO))).toMatch('too many')
  expect(held(spare)).toEqual([[ONE.id, 5]])
})

test('sources that ask and fetch nothing keep nobody else from it', async () => {
  const { mesh } = meshOf(4 * BYTES)
  mesh.add('c', { memoryBytes: 1e9, models: MODELS })
  const range: [number, number] = [1, 3]
  for (const id of ['a', 'b']) {
    const lease = await played(mesh.get(id).peers.lease('spare', going))
    const asked = { modelId: ONE.id, range, maxTokens: 1, sessions: 1, prefetch: true }
    expect(await played(lease.reserve(asked, going))).toMatchObject({ type: 'granted' })
  }
  expect(await played(prefetch(mesh, 'c', ONE))).toMatch('on their way')
  await pass(60_000)
  expect(await played(prefetch(mesh, 'c', ONE))).toBeUndefined()
})

test('a device that is drained keeps nothing for later, and brings nothing to its end', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  onMeeting(mesh.get('a'), 'weights', () => mesh.drain('spare'), 2)
  expect(await played(prefetch(mesh, 'a', ONE))).toMatch('ended while its weights were fetched')
  expect(held(spare)).toEqual([[ONE.id, 1]])
  // Not even for an answer that has begun, which is granted memory.
  const lease = await played(mesh.get('a').peers.lease('spare', going))
  const asked = { modelId: ONE.id, range: [1, 3] as [number, number], maxTokens: 1, sessions: 1, begun: true }
  expect(await played(lease.reserve({ ...asked, prefetch: true }, going))).toMatchObject({ type: 'refused' })
  expect(spare.empty).toBe(true)
  lease.end()
})

test('what has come is loaded for as long as its source holds the lease, and given up when the device is drained', async () => {
  const { mesh, spare } = meshOf(4 * BYTES)
  const range: [number, number] = [1, 3]
  const ready = async (source: string) => {
    const lease = await played(mesh.get(source).peers.lease('spare', going))
    const asked = { modelId: ONE.id, range, maxTokens: 1, sessions: 1, prefetch: true }
    const reply = await played(lease.reserve(asked, going))
    const leaseId = reply.type === 'granted' ? reply.leaseId : ''
    const load = { leaseId, holders: [source], previous: source, next: source }
    await played(lease.load(load, { ...going, timeoutMs: 60_000 }))
    await pass(1000)
    return { lease, leaseId }
  }
  const [one, other] = [await ready('a'), await ready('b')]
  expect([spare.runtime.loads, spare.runtime.shards]).toEqual([[range], 1])
  one.lease.end()
  await pass(1000)
  expect(spare.runtime.shards).toBe(1)
  await played(other.lease.renew(other.leaseId))
  mesh.drain('spare')
  await pass(1000)
  expect(spare.empty).toBe(true)
  await expect(played(other.lease.renew(other.leaseId))).rejects.toMatchObject({ code: 'expired' })
  other.lease.end()
})

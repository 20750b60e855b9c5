import { EventEmitter } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { type Manifest, modelId, serializeManifest } from '../../../models/manifest.ts'
import type { Shard } from '../../../models/runtime/runtime.ts'
import { ModelStore } from '../../../models/store/store.ts'
import type { NodeRecord } from '../../../node/api.ts'
import { MAX_CACHED_MODELS } from '../../../node/constants.ts'
import type { PeersEvents } from '../../../node/mesh/peers.ts'
import { Serving } from '../../../node/serve/serving.ts'
import { createStageRoom } from '../../../node/stage/room.ts'
import { Fetches } from '../../../node/weights/fetches.ts'
import { ModelCache } from '../../../node/weights/model-cache.ts'
import { PrefetchedFiles } from '../../../node/weights/prefetched-files.ts'
import { Prefetches } from '../../../node/weights/prefetches.ts'
import { Weights } from '../../../node/weights/weights.ts'
import type { LoadProgress, ReserveRequest } from '../../../protocols/lease/index.ts'
import { temporaryFolder } from '../../fixtures/folder.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { type RandomModel, randomModel } from '../../fixtures/random-model.ts'

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let model: RandomModel
beforeEach(async () => {
  folder = await temporaryFolder()
  model = await randomModel()
})
afterEach(async () => {
  vi.useRealTimers()
  await model[Symbol.asyncDispose]()
  await folder[Symbol.asyncDispose]()
})

const SOURCE = 'source'
const RANGE = [1, 2] as const
const going = { signal: new AbortController().signal }

/** What a test opens when it wants a phase of a load to go on. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { passed: promise, open: resolve }
}

/** A serving node whose peers' files and whose runtime wait for the test; its leases and its store are real. */
async function serving(manifests: Manifest[] = [model.manifest]) {
  const store = await ModelStore.open(join(folder.path, 'store'))
  const sent = new Map(manifests.map(serializeManifest).map(bytes => [modelId(bytes), bytes]))
  const [fetching, loading, opening] = [gate(), gate(), gate()]
  const log: string[] = []
  const files = new Map(model.manifest.layers.map(({ sha256 }, i) => [sha256, model.files[i]!]))
  const named = (id: string) => ({ id, name: `model-${id.slice(0, 8)}`, layers: [] })
  const peers = {
    peerId: 'node',
    events: new EventEmitter<PeersEvents>(),
    self: { peerId: 'node', models: [...sent.keys()].map(named) } as unknown as NodeRecord,
    known: [],
    send: async () => {},
    nameOf: (peerId: string) => peerId,
    async *fetchRaw(_: string, sha256: string) {
      yield sent.get(sha256)!
    },
    async fetchBlob(
      { sha256 }: { sha256: string },
      _holders: unknown,
      put: (bytes: AsyncIterable<Uint8Array>) => Promise<unknown>
    ) {
      log.push('fetch')
      await put(
        (async function* () {
          await fetching.passed
          yield files.get(sha256)!
        })()
      )
    }
  }
  const runtime = {
    async load() {
      log.push('load')
      await loading.passed
      return {
        openBatch: async () => {
          log.push('open')
          await opening.passed
          return {
            open: async () => ({ close: async () => {} }),
            close: async () => void log.push('batch closed')
          }
        },
        release: async () => void log.push('released')
      } as unknown as Shard
    }
  }
  let nowMs = 0
  const room = createStageRoom(
    { runtime, peers },
    { blobsDir: store.blobsDir, budgetBytes: 1e9, termMs: 1000, now: () => nowMs }
  )
  const { leases } = room
  const fetches = new Fetches({ now: () => 0, onNotice() {}, nameOf: id => id })
  const cache = new ModelCache({ store, leases })
  const weights = new Weights({ store, peers, cache, fetches })
  const prefetches = new Prefetches(
    {
      ...{ store, weights, cache, leases },
      peers: { ...peers, links: [] },
      files: new PrefetchedFiles(),
      warm: { begin() {}, end() {} },
      isCarrying: () => false
    },
    { quotaBytes: 0, now: Date.now }
  )
  const node = new Serving({ peers, room, weights, prefetches })
  const reserve = async (id: string, source = SOURCE, over: Partial<ReserveRequest> = {}) =>
    await node.reserve(source, { modelId: id, range: [...RANGE], maxTokens: 64, sessions: 2, ...over }, going)
  const load = (leaseId: string, progress: LoadProgress[] = [], signal = going.signal) =>
    node.load(
      SOURCE,
      { leaseId, holders: [SOURCE], previous: SOURCE, next: SOURCE },
      { signal, onProgress: event => progress.push(event) }
    )
  const granted = async () => {
    const reply = await reserve([...sent.keys()][0]!)
    if (reply.type !== 'granted') throw new Error(JSON.stringify(reply))
    return reply.leaseId
  }
  const later = (ms: number) => {
    nowMs += ms
  }
  return {
    node,
    store,
    leases,
    log,
    gates: { fetching, loading, opening },
    ids: [...sent.keys()],
    later,
    reserve,
    granted,
    load
  }
}

/** Waits until the load has come so far. */
const reached = (log: string[], entry: string) => vi.waitFor(() => expect(log).toContain(entry))

test('a lease is filled: its files are fetched, its layers loaded, its KV caches opened', async () => {
  const { store, gates, granted, load, log } = await serving()
  for (const { open } of Object.values(gates)) open()
  await load(await granted())
  expect(log).toEqual(['fetch', 'load', 'open'])
  const [stored] = await store.cached()
  expect(await store.list()).toEqual([])
  expect(await store.heldLayers(stored!.manifest)).toEqual([[...RANGE]])
})

const ends = {
  released: async ({ node }: { node: Serving }, leaseId: string) => await node.release(SOURCE, leaseId),
  expired: async ({ node, later }: { node: Serving; later: (ms: number) => void }) => {
    later(2000)
    await node.expire()
  }
}

for (const [how, end] of Object.entries(ends)) {
  test(`a lease that is ${how} while its files are fetched loads nothing, and nothing is kept of it`, async () => {
    const set = await serving()
    const { gates, granted, load, log, leases, store } = set
    const leaseId = await granted()
    const loaded = load(leaseId)
    await reached(log, 'fetch')
    await end(set, leaseId)
    gates.fetching.open()
    await expect(loaded).rejects.toMatchObject({ name: 'RefusedError', code: 'expired' })
    expect(log).toEqual(['fetch'])
    expect(leases.freeBytes).toBe(1e9)
    expect(await store.has(model.manifest.layers[1]!)).toBe(false)
  })

  test(`a lease that is ${how} while its layers are loaded opens no KV cache and leaves nothing loaded`, async () => {
    const set = await serving()
    const { gates, granted, load, log } = set
    gates.fetching.open()
    const leaseId = await granted()
    const loaded = load(leaseId)
    await reached(log, 'load')
    await end(set, leaseId)
    // Its source need not wait for what is being loaded.
    await expect(loaded).rejects.toMatchObject({ name: 'RefusedError', code: 'expired' })
    gates.loading.open()
    await reached(log, 'released')
    expect(log).toEqual(['fetch', 'load', 'released'])
  })

  test(`a lease that is ${how} while its KV caches are opened closes them`, async () => {
    const set = await serving()
    const { gates, granted, load, log } = set
    gates.fetching.open()
    gates.loading.open()
    const leaseId = await granted()
    const loaded = load(leaseId)
    await reached(log, 'open')
    await end(set, leaseId)
    gates.opening.open()
    await expect(loaded).rejects.toMatchObject({ name: 'RefusedError', code: 'expired' })
    expect(log).toEqual(['fetch', 'load', 'open', 'batch closed', 'released'])
  })
}

test('a load that takes long says so again and again', async () => {
  const { gates, granted, load, log } = await serving()
  const leaseId = await granted()
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const progress: LoadProgress[] = []
  const loaded = load(leaseId, progress)
  while (!log.includes('fetch')) await new Promise(resolve => setTimeout(resolve, 5))
  await vi.advanceTimersByTimeAsync(60_000)
  expect(progress.length).toBeGreaterThan(3)
  for (const { open } of Object.values(gates)) open()
  await loaded
  // Every byte is there before the loading begins.
  const begun = progress.findIndex(({ phase }) => phase === 'load')
  expect(progress[begun]).toEqual({ phase: 'load', done: 0, total: 1 })
  expect(progress.slice(begun).every(({ phase }) => phase === 'load')).toBe(true)
  const said = progress.length
  await vi.advanceTimersByTimeAsync(60_000)
  expect(progress.length).toBe(said)
})

/** A node on which a load that was given up is not through, and the next lease's load has begun. */
async function servingBehindALoad() {
  const set = await serving()
  const { node, gates, granted, load, log } = set
  gates.fetching.open()
  gates.opening.open()
  const leaseId = await granted()
  const given = load(leaseId)
  await reached(log, 'load')
  await node.release(SOURCE, leaseId)
  await expect(given).rejects.toMatchObject({ code: 'expired' })
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval'] })
  const progress: LoadProgress[] = []
  let over = false
  const loaded = load(await granted(), progress).finally(() => {
    over = true
  })
  loaded.catch(() => {})
  // Files are read at the disk's pace, whatever the clock says: the seconds go on until it has come so far.
  const until = async (done: () => boolean) => {
    const endMs = performance.now() + deadlineMs(20_000)
    while (!done() && performance.now() < endMs) {
      await vi.advanceTimersByTimeAsync(1000)
      await new Promise(setImmediate)
    }
  }
  return { ...set, progress, loaded, until, isOver: () => over }
}

test('a load that waits for what leaves does not say that it loads', async () => {
  const { gates, progress, loaded, until, isOver } = await servingBehindALoad()
  await until(() => progress.length > 0)
  expect(progress.at(-1)!.phase).toBe('weights')
  gates.loading.open()
  await until(isOver)
  await loaded
  expect(progress.at(-1)!.phase).toBe('load')
})

test('a load for which nothing leaves is refused, and its device is well', async () => {
  const { gates, progress, loaded, until, isOver, log } = await servingBehindALoad()
  await until(isOver)
  await expect(loaded).rejects.toMatchObject({ name: 'RefusedError', code: 'memory' })
  expect(progress.every(({ phase }) => phase === 'weights')).toBe(true)
  expect(log.filter(entry => entry === 'load')).toHaveLength(1)
  gates.loading.open()
})

/** Models that differ in nothing but their ids. */
const alike = (count: number): Manifest[] =>
  Array.from({ length: count }, (_, i) => ({
    ...model.manifest,
    shape: { ...model.manifest.shape, rope: { theta: 10_000 + i } }
  }))

test('who only asks stores nothing, and a source fills no more than its share of the cache, from itself', async () => {
  const share = MAX_CACHED_MODELS / 4
  const { node, store, gates, ids, reserve, load } = await serving(alike(share + 4))
  for (const { open } of Object.values(gates)) open()
  const bring = async (id: string, source?: string) => {
    const reply = await reserve(id, source)
    if (reply.type !== 'granted') throw new Error(JSON.stringify(reply))
    const before = (await store.cached()).length
    await load(reply.leaseId)
    await node.release(SOURCE, reply.leaseId)
    return before
  }
  expect(await bring(ids[0]!, 'honest')).toBe(0)
  for (const id of ids.slice(1)) await bring(id, 'flooding')
  const claims = (await store.cached()).flatMap(model => Object.keys(model.claims))
  expect(claims.filter(source => source === 'flooding')).toHaveLength(share)
  expect(claims.filter(source => source === 'honest')).toHaveLength(1)
  const kept = (await store.cached()).map(({ id }) => id)
  expect(kept).toContain(ids.at(-1))
  expect(kept).not.toContain(ids[1])
  expect(await store.list()).toEqual([])
})

test('models on which leases are used stay, and one more is refused then', async () => {
  const share = MAX_CACHED_MODELS / 4
  const { store, gates, ids, reserve, load } = await serving(alike(share + 1))
  for (const { open } of Object.values(gates)) open()
  for (const [i, id] of ids.entries()) {
    const reply = await reserve(id)
    // A source has as many leases in use as models in the cache.
    expect(reply.type).toBe(i < share ? 'granted' : 'refused')
    if (reply.type === 'granted') await load(reply.leaseId)
  }
  expect((await store.cached()).map(({ id }) => id).sort()).toEqual(ids.slice(0, share).sort())
})

test('a node that drains grants nothing more and asks its sources for what they do not use', async () => {
  const { node, ids, granted, reserve } = await serving()
  const leaseId = await granted()
  expect(node.renew(SOURCE, leaseId).wanted).toBe(false)
  node.draining = true
  expect(await reserve(ids[0]!)).toEqual({
    type: 'refused',
    code: 'memory',
    reason: 'the device is being drained'
  })
  expect(node.renew(SOURCE, leaseId).wanted).toBe(true)
})

test('who waits for memory when a node begins to be drained is refused, but for answers that had begun', async () => {
  const { node, leases, ids, reserve } = await serving()
  const all = { source: 'x', modelId: 'x'.repeat(64), range: [0, 1] as const, ownBytes: 0 }
  const [held] = leases.reserve([{ ...all, weightBytes: leases.budgetBytes }])!
  const waits = { waitMs: 60_000 }
  const asked = { modelId: ids[0]!, range: [...RANGE] as [number, number], maxTokens: 64, sessions: 2 }
  const [inLine, beside] = [reserve(ids[0]!, 'a', waits), node.stand('b', { ...asked, ...waits }, going)]
  const begun = reserve(ids[0]!, 'c', { ...waits, begun: true })
  await vi.waitUntil(() => leases.waiting === 2, { timeout: deadlineMs(5000) })
  node.draining = true
  const drained = { type: 'refused', code: 'memory', reason: 'the device is being drained' }
  expect(await Promise.all([inLine, beside])).toEqual([drained, drained])
  leases.release(held!.id)
  expect((await begun).type).toBe('granted')
  node.draining = false
  expect((await reserve(ids[0]!)).type).toBe('granted')
})

test('while a node drains, a lease serves beside the sessions that run, and nothing new once they have ended', async () => {
  const { node, gates, granted, load } = await serving()
  for (const { open } of Object.values(gates)) open()
  const leaseId = await granted()
  await load(leaseId)
  const session = (sessionId: string, slot: number) =>
    node.open(SOURCE, {
      sessionId,
      leaseId,
      slot,
      keepTokens: 0,
      withholdTokens: 0,
      sampling: { temperature: 0, topP: 1, seed: 1, topLogprobs: 0 }
    })
  await session('running', 0)
  node.draining = true
  // A refusal would end the answer that runs with it.
  await session('beside', 1)
  await node.close(SOURCE, 'running')
  await session('still beside', 0)
  await node.close(SOURCE, 'beside')
  expect(node.sessionsOf(leaseId)).toBe(1)
  await node.close(SOURCE, 'still beside')
  await expect(session('next', 0)).rejects.toMatchObject({ name: 'RefusedError', code: 'expired' })
  expect(node.sessions).toBe(0)
  expect(node.sources).toEqual([SOURCE])
})

test('a session is open on one lease of one source, whatever two of them call theirs', async () => {
  const { node, gates, granted, load } = await serving()
  for (const { open } of Object.values(gates)) open()
  const [one, other] = [await granted(), await granted()]
  await load(one)
  await load(other)
  const open = (leaseId: string, source = SOURCE) =>
    node.open(source, { sessionId: 's', leaseId, slot: 0, keepTokens: 0, withholdTokens: 0 })
  // Both ask before either is open.
  const opened = await Promise.allSettled([open(one), open(other)])
  expect(opened.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  expect([one, other].map(id => node.sessionsOf(id)).sort()).toEqual([0, 1])
  await expect(open(other, 'stranger')).rejects.toMatchObject({ code: 'session-exists' })
})

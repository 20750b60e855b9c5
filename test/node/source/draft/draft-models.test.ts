import { EventEmitter } from 'node:events'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LLAMA_BLOCK } from '../../../../models/import/architectures/architecture.ts'
import type { Manifest } from '../../../../models/manifest.ts'
import { startRuntime } from '../../../../models/runtime/client.ts'
import { leaseBytes } from '../../../../models/runtime/memory.ts'
import type { Runtime } from '../../../../models/runtime/runtime.ts'
import { ModelStore, type StoredModel } from '../../../../models/store/store.ts'
import { BUNDLED_DIR } from '../../../../node/bundled.ts'
import type { PeersEvents } from '../../../../node/mesh/peers.ts'
import { AnswerPool } from '../../../../node/source/draft/answer-pool.ts'
import { createDraft } from '../../../../node/source/draft/create-draft.ts'
import { DraftModels, type DraftModelsComponents } from '../../../../node/source/draft/draft-models.ts'
import { createStageRoom } from '../../../../node/stage/room.ts'
import { deadlineMs } from '../../../fixtures/machine.ts'
import { LocalStages } from '../../../fixtures/shards.ts'

const PROMPT = [0, 2, 749, 349, 263, 479, 408, 263, 586, 292, 263, 883, 51, 1, 3]
const { signal } = new AbortController()
const bundledStore = ModelStore.at(BUNDLED_DIR)

let runtime: Runtime
let bundled: StoredModel
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
  bundled = (await bundledStore.list()).find(({ name }) => name === 'edgeshard-tiny')!
})
afterAll(() => runtime.stop())

const ROOM = { slots: 1, maxTokens: 512 }
const bytesOf = ({ manifest }: StoredModel) => {
  const { weightBytes, ownBytes } = leaseBytes(manifest, [0, manifest.layers.length], ROOM)
  return weightBytes + ownBytes
}

/** A device with so much memory that loads the bundled model as a draft, and how often. */
function deviceWith(budgetBytes: number, { keepAliveMs }: { keepAliveMs?: number } = {}) {
  const { blobsDir } = bundledStore
  const loads: string[] = []
  const noted: Pick<Runtime, 'load'> = {
    load: async (spec, options) => {
      loads.push(spec.manifest.shape.architecture)
      return await runtime.load(spec, options)
    }
  }
  const peers = { send: async () => {}, events: new EventEmitter<PeersEvents>() }
  const init = { blobsDir, budgetBytes, termMs: 30_000, now: () => performance.now() }
  const room = createStageRoom({ runtime: noted, peers }, init)
  const store = bundledStore
  const models = new DraftModels(
    { peerId: 'a', store, room },
    keepAliveMs === undefined ? {} : { keepAliveMs }
  )
  const openOf = async (model: StoredModel) => {
    const opened = await models.open(model, bundled, { maxTokens: 100 })
    await opened?.loaded
    return opened
  }
  const open = () => openOf(bundled)
  return { room, loads, models, open, openOf }
}

/** A lease of another model, in use. */
const other = (bytes: number) => ({
  source: 'b',
  modelId: 'other',
  range: [0, 1] as const,
  weightBytes: 0,
  ownBytes: bytes
})

test('a model drafts what it says, and stays loaded for the next answer', async () => {
  const { manifest } = bundled
  await using whole = await LocalStages.open(runtime, { manifest, blobsDir: bundledStore.blobsDir }, [])
  const said = (await whole.generate(PROMPT, 4)).map(({ id }) => id)
  const { room, loads, models, open } = deviceWith(2 * bytesOf(bundled))
  const first = (await open())!
  expect(await first.draft.propose(PROMPT, 4)).toEqual(said)
  expect(room.leases.freeBytes).toBe(bytesOf(bundled))
  await first.close()
  // It makes room for whoever wants it now.
  expect(room.leases.freeBytes).toBe(2 * bytesOf(bundled))
  const second = (await open())!
  expect(await second.draft.propose([...PROMPT, said[0]!], 3)).toEqual(said.slice(1))
  expect(loads).toHaveLength(1)
  await second.close()
  await models.close()
  expect(room.leases.unheldBytes).toBe(2 * bytesOf(bundled))
})

test('answers at once draft each for itself, over the same weights', async () => {
  const { room, loads, models, open } = deviceWith(2 * bytesOf(bundled))
  const [one, two] = [(await open())!, (await open())!]
  const proposals = await Promise.all([one.draft.propose(PROMPT, 4), two.draft.propose(PROMPT, 4)])
  expect(proposals[0]).toEqual(proposals[1])
  expect(proposals[0]).toHaveLength(4)
  expect(loads).toHaveLength(1)
  await Promise.all([one.close(), two.close()])
  // One is kept.
  expect(room.leases.state(() => 0)).toHaveLength(1)
  await models.close()
})

test('a draft takes no memory that somebody holds, idle or not', async () => {
  const { room, models, open } = deviceWith(bytesOf(bundled))
  const evicted: string[] = []
  room.leases.events.on('evict', ({ modelId }) => evicted.push(modelId))
  const [lease] = room.leases.reserve([other(1)])!
  room.leases.setIdle(lease!.id, true)
  expect(await open()).toBeUndefined()
  expect(evicted).toEqual([])
  room.leases.release(lease!.id)
  expect(await open()).toBeDefined()
  await models.close()
})

test('whoever cannot do without the memory of a draft gets it: the drafting ends, and fails nothing', async () => {
  const { room, models, open } = deviceWith(bytesOf(bundled))
  const { draft, close } = (await open())!
  expect(await draft.propose(PROMPT, 2)).toHaveLength(2)
  expect(room.leases.freeBytes).toBe(0)
  expect(room.leases.reserve([other(room.leases.budgetBytes)])).toBeDefined()
  expect(await draft.propose(PROMPT, 2)).toEqual([])
  await room.shards.sweep()
  await close()
  expect(room.leases.state(() => 0).map(({ modelId }) => modelId)).toEqual(['other'])
  expect(await open()).toBeUndefined()
  await models.close()
})

test('a node that keeps nothing loaded keeps no draft', async () => {
  const { room, models, open } = deviceWith(bytesOf(bundled), { keepAliveMs: 0 })
  await (await open())!.close()
  expect(room.leases.state(() => 0)).toEqual([])
  await models.close()
})

test('a model that came without a layer that guesses is refused by name, and so is one whose layer is not here', async () => {
  const { models } = deviceWith(bytesOf(bundled))
  await expect(models.guessing(bundled)).rejects.toMatchObject({
    param: 'speculate',
    message: expect.stringMatching(/^edgeshard-tiny has no layer that guesses further tokens/)
  })
  const block = { ...LLAMA_BLOCK, joins: 'token-first' as const }
  const layer = { ...bundled.manifest.layers[1]!, sha256: 'f'.repeat(64) }
  const elsewhere = { ...bundled, manifest: { ...bundled.manifest, guessing: { block, layer } } }
  await expect(models.guessing(elsewhere)).rejects.toMatchObject({
    param: 'speculate',
    message: expect.stringContaining('is not on this device')
  })
  await models.close()
})

test('a model that cannot be loaded drafts nothing, fails nothing, and holds nothing', async () => {
  const { room, models, openOf } = deviceWith(10 * bytesOf(bundled))
  const layers = bundled.manifest.layers.map(layer => ({ ...layer, sha256: 'f'.repeat(64) }))
  const missing = { ...bundled, id: 'missing', manifest: { ...bundled.manifest, layers } }
  const { draft, close } = (await openOf(missing))!
  expect(await draft.propose(PROMPT, 2)).toEqual([])
  await close()
  await models.close()
  expect(room.leases.state(() => 0)).toEqual([])
})

test('nobody waits for a draft: memory is leased at once, nothing is proposed before it is loaded, and a short answer ends', async () => {
  const { room, loads, models, open } = deviceWith(bytesOf(bundled))
  const { draft, loaded, close } = (await models.open(bundled, bundled, { maxTokens: 100, prompt: PROMPT }))!
  expect(room.leases.freeBytes).toBe(0)
  expect(draft.propose(PROMPT, 2)).toEqual([])
  await close()
  expect(room.leases.freeBytes).toBe(0)
  await loaded
  // What was loaded is there for the next answer, once this one has let go of it.
  await expect.poll(() => room.leases.freeBytes, { timeout: deadlineMs(10_000) }).toBe(bytesOf(bundled))
  const next = (await open())!
  expect(await next.draft.propose(PROMPT, 2)).toHaveLength(2)
  expect(loads).toHaveLength(1)
  await next.close()
  await models.close()
})

test('two answers that begin at once take a lease each, also where one is kept', async () => {
  const { room, models, open } = deviceWith(3 * bytesOf(bundled))
  await (await open())!.close()
  const [one, two] = await Promise.all([open(), open()])
  expect(room.leases.state(() => 0)).toHaveLength(2)
  const proposals = await Promise.all([one!.draft.propose(PROMPT, 2), two!.draft.propose(PROMPT.slice(3), 2)])
  expect(proposals.map(tokens => tokens.length)).toEqual([2, 2])
  await Promise.all([one!.close(), two!.close()])
  await models.close()
})

/** A store with models of the bundled one's layers, so many times, each with its tokens. */
function storeOf(models: Record<string, { times: number; tokens: string[]; whole?: boolean }>) {
  const held = Object.entries(models).map(([name, { times, tokens }]): StoredModel => {
    const sha256 = tokens.join('').padEnd(64, '0')
    const layers = bundled.manifest.layers.map(layer => ({ ...layer, bytes: times * layer.bytes }))
    const files = { 'tokenizer.json': { sha256, bytes: 1 } }
    return { name, id: `id of ${name}`, manifest: { ...bundled.manifest, layers, files } }
  })
  const store: DraftModelsComponents['store'] = {
    list: async () => held,
    heldLayers: async ({ layers }: Manifest) => {
      const found = held.find(({ manifest }) => manifest.layers === layers)!
      return models[found.name]!.whole === false ? [[1, 3]] : [[0, layers.length]]
    },
    readSideFile: async ({ name }) => {
      const { tokens } = models[name]!
      const vocab = Object.fromEntries(tokens.map((token, id) => [token, id]))
      const json = { model: { vocab }, added_tokens: [], decoder: null, note: tokens.join('-') }
      return new TextEncoder().encode(JSON.stringify(tokens.includes('!') ? {} : json))
    }
  }
  const named = (name: string) => held.find(model => model.name === name)!
  const { room } = deviceWith(1)
  const modelsOf = (init?: { named: string; onNotice?: (message: string) => void }) =>
    new DraftModels({ peerId: 'a', store, room }, init)
  return { named, modelsOf }
}

const HELD = {
  large: { times: 100, tokens: ['a', 'b'] },
  small: { times: 10, tokens: ['a', 'b'] },
  smaller: { times: 5, tokens: ['a', 'b'] },
  partly: { times: 2, tokens: ['a', 'b'], whole: false },
  foreign: { times: 1, tokens: ['b', 'a'] },
  damaged: { times: 1, tokens: ['a', '!'] },
  sibling: { times: 50, tokens: ['a', 'b'] }
}

test('the smallest model of the same vocabulary drafts, if all of it is here and it is far smaller', async () => {
  const { named, modelsOf } = storeOf(HELD)
  const models = modelsOf()
  expect((await models.find(named('large')))?.name).toBe('smaller')
  expect(await models.find(named('small'))).toBeUndefined()
  expect(await models.find(named('foreign'))).toBeUndefined()
  await models.close()
})

test('the model that is named drafts, by the request or else by the node', async () => {
  const { named, modelsOf } = storeOf(HELD)
  const models = modelsOf({ named: 'sibling' })
  expect((await models.find(named('large')))?.name).toBe('sibling')
  expect((await models.find(named('large'), 'id of small'))?.name).toBe('small')
  await models.close()
})

test.each([
  ['nobody', 'nobody cannot draft: this device has no model of that name'],
  ['large', 'large cannot draft: it is the model that it is to draft for'],
  ['partly', 'partly cannot draft: not all of its layers are on this device'],
  ['foreign', 'foreign cannot draft: its vocabulary is not that of large'],
  ['damaged', 'damaged cannot draft: its vocabulary is not that of large']
])('%s is refused by its name', async (name, message) => {
  const { named, modelsOf } = storeOf(HELD)
  const models = modelsOf()
  await expect(models.find(named('large'), name)).rejects.toMatchObject({
    name: 'RequestError',
    param: 'draft',
    message
  })
  await models.close()
})

test('where the one that the node was started with does not fit, another one drafts, and it is said once', async () => {
  const { named, modelsOf } = storeOf(HELD)
  const said: string[] = []
  const models = modelsOf({ named: 'foreign', onNotice: message => said.push(message) })
  expect((await models.find(named('large')))?.name).toBe('smaller')
  expect((await models.find(named('large')))?.name).toBe('smaller')
  expect(said).toEqual(['foreign cannot draft: its vocabulary is not that of large'])
  await models.close()
})

test('an answer is drafted by what was said, by a model, or by both', async () => {
  const { models } = deviceWith(4 * bytesOf(bundled))
  const pool = new AnswerPool()
  const opened: DraftModels['open'] = async (...asked) => {
    const draft = await models.open(...asked)
    await draft?.loaded
    return draft
  }
  const guessing: DraftModels['guessing'] = target => models.guessing(target)
  const found = { find: async () => bundled, guessing, open: opened }
  const none = { find: async () => undefined, guessing, open: opened }
  const asked = { target: bundled, scope: 'chat', maxTokens: 100 }
  const draftOf = (kind: 'ngram' | 'model' | 'both', among: typeof found | typeof none = found) =>
    createDraft({ pool, models: among }, { kind, ...asked }, { signal })
  const said = [1, 2, 3, 4, 5, 6, 7, 8, 9]

  const first = await draftOf('ngram')
  expect(await first.propose(PROMPT, 2)).toEqual([])
  await first.end(said)
  const second = await draftOf('ngram')
  expect(await second.propose([1, 2, 3, 4], 2)).toEqual([5, 6])
  await second.end()

  const model = await draftOf('model')
  const drawn = await model.propose(PROMPT, 2)
  expect(drawn).toHaveLength(2)
  await model.end()
  expect(await model.propose(PROMPT, 2)).toEqual([])

  const both = await draftOf('both')
  expect(both.kind).toBe('both')
  expect(await both.propose(PROMPT, 2)).toEqual(drawn)
  expect(await both.propose([3, 4], 2)).not.toEqual([5, 6])
  expect(await both.propose(said.slice(0, 8), 2)).toEqual([9])
  await both.end()
  // What is ended looks up what it can.
  expect(await both.propose([3, 4], 2)).toEqual([5, 6])

  const without = await draftOf('both', none)
  expect(without.kind).toBe('ngram')
  await without.end()
  await expect(draftOf('model', none)).rejects.toMatchObject({ name: 'RequestError', param: 'draft' })
  await models.close()
})

import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import { type Manifest, modelId, serializeManifest } from '../../models/manifest.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { NodeRecord } from '../../node/api.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { DEFAULT_MODEL, MAX_CACHED_MODELS } from '../../node/constants.ts'
import type { Mesh } from '../../node/mesh/index.ts'
import type { WeightsHandlers } from '../../protocols/weights/index.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { answer, ask, bundledManifest, bundledShare, Nodes, SECRET, until } from '../fixtures/nodes.ts'
import { TINY_SHAPE } from '../fixtures/random-model.ts'
import { Meshes, record } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

type Blobs = Map<string, Uint8Array>

/** A member that says it holds these models, and sends their files. */
async function member(
  name: string,
  addresses: string[],
  models: NodeRecord['models'],
  blobs: Blobs
): Promise<Mesh> {
  const weights: WeightsHandlers = {
    open: async sha256 => {
      const bytes = blobs.get(sha256)
      if (bytes === undefined) return null
      return {
        bytes: bytes.byteLength,
        async *stream(offset: number) {
          yield bytes.subarray(offset)
        }
      }
    }
  }
  const init = { secret: SECRET, peers: addresses.slice(0, 1), record: { ...record(name), models } }
  return await meshes.add(name, { ...init, handlers: { weights } })
}

/** A model of a few KiB; `at` tells it from others. */
function crafted(at: number): { id: string; blobs: Blobs } {
  const shape = {
    ...TINY_SHAPE,
    decoderLayers: 1,
    hiddenSize: 32,
    ffnSize: 32 + 32 * at,
    heads: 2,
    kvHeads: 1
  }
  const random = randomManifest({ ...shape, vocabSize: 64, blocks: [LLAMA_BLOCK] }, undefined)
  const blobs: Blobs = new Map()
  const layers: Manifest['layers'] = random.layers.map((layer, i) => {
    const bytes = new Uint8Array(layer.bytes)
    new Float32Array(bytes.buffer).fill(0.01 * (i + 1))
    const sha256 = createHash('sha256').update(bytes).digest('hex')
    blobs.set(sha256, bytes)
    return { ...layer, sha256 }
  })
  const manifest = serializeManifest({ ...random, layers })
  blobs.set(modelId(manifest), manifest)
  return { id: modelId(manifest), blobs }
}

test('models that a lease brings are under no name, make room for each other, and take no place from others', {
  timeout: deadlineMs(60_000)
}, async () => {
  await using nodes = new Nodes()
  const memoryBytes = await bundledShare(0.7)
  const home = await nodes.home()
  const victim = await nodes.add({ home, name: 'victim', memoryBytes, bundled: false })
  const share = MAX_CACHED_MODELS / 4
  const models = Array.from({ length: share + 2 }, (_, at) => crafted(at))
  const named = models.map(({ id }, i) => {
    const name = i === 0 ? 'llama-3-8b' : `llama-3-8b-${i}`
    return { name, id, layers: [[0, 3] as [number, number]] }
  })
  const blobs: Blobs = new Map(models.flatMap(model => [...model.blobs]))
  const evil = await member('evil', victim.addresses, named, blobs)
  await until(() => evil.peers.some(peer => peer.record.peerId === victim.peerId && peer.connected))
  let loaded = 0
  for (const { id } of models) {
    const lease = await evil.lease(victim.peerId, { signal: AbortSignal.timeout(deadlineMs(10_000)) })
    const reply = await lease.reserve({ modelId: id, range: [1, 2], maxTokens: 16, sessions: 1 })
    if (reply.type !== 'granted') throw new Error(JSON.stringify(reply))
    const { peerId } = evil
    await lease.load(
      { leaseId: reply.leaseId, holders: [peerId], previous: peerId, next: peerId },
      { timeoutMs: deadlineMs(10_000) }
    )
    loaded++
    lease.end()
    await until(() => victim.mesh().leases.length === 0)
  }
  expect(loaded).toBe(models.length)
  const store = await ModelStore.open(join(home, 'store'))
  expect(await store.list()).toEqual([])
  expect(await store.cached()).toHaveLength(share)
  // To the others it gives them no name either.
  await until(() => victim.mesh().self.models.length === share)
  for (const { name, id } of victim.mesh().self.models) expect(name).toBe(id)

  await evil.stop()
  await until(() => victim.mesh().peers.every(({ connected }) => !connected))
  expect(await victim.models()).toEqual([])
  await expect(answer(victim, ask('Hello', { model: 'llama-3-8b' }))).rejects.toMatchObject({
    name: 'UnknownModelError'
  })
  const honest = await nodes.add({ name: 'honest', memoryBytes, peers: victim.addresses.slice(0, 1) })
  await until(() => honest.mesh().peers.some(({ connected, name }) => connected && name === 'victim'))
  const { plan, tokens } = await answer(honest, ask('What is a pump?'))
  expect(plan.stages.map(({ name }) => name)).toContain('victim')
  expect(tokens.length).toBeGreaterThan(0)
})

test('a name that a member has taken for a model of its own means neither of the two; ids still do', async () => {
  await using nodes = new Nodes()
  const honest = await nodes.add({ name: 'Bbb' })
  const third = await nodes.add({ name: 'third', bundled: false, peers: honest.addresses.slice(0, 1) })
  const store = ModelStore.at(BUNDLED_DIR)
  const manifest = await bundledManifest()
  const files = [...manifest.layers, ...Object.values(manifest.files)]
  const blobs: Blobs = new Map()
  for (const { sha256 } of files) blobs.set(sha256, await readFile(store.blobPath(sha256)))
  const bytes = serializeManifest({ ...manifest, eosTokenIds: [...manifest.eosTokenIds, 7] })
  const id = modelId(bytes)
  blobs.set(id, bytes)
  const layers: [number, number][] = [[0, manifest.layers.length]]
  // It sorts before the honest one.
  await member('Aaa', third.addresses, [{ name: DEFAULT_MODEL, id, layers }], blobs)
  await until(async () => (await third.models()).length === 2)
  const honestId = modelId(serializeManifest(manifest))
  expect((await third.models()).map(model => [model.name, model.id]).sort()).toEqual(
    [id, honestId].sort().map(of => [DEFAULT_MODEL, of])
  )
  for (const model of [DEFAULT_MODEL, undefined]) {
    const request = ask('What is a pump?')
    if (model !== undefined) request.model = model
    await expect(answer(third, request)).rejects.toMatchObject({
      name: 'AmbiguousModelError',
      message: expect.stringMatching(
        new RegExp(`(?=.*${id.slice(0, 12)} on Aaa)(?=.*${honestId.slice(0, 12)} on Bbb)`)
      )
    })
  }
  const { text } = await answer(third, ask('What is a pump?', { model: honestId.slice(0, 12) }))
  // Its owner has said what it calls so.
  await until(() => honest.mesh().peers.length === 2)
  expect((await answer(honest, ask('What is a pump?', { model: DEFAULT_MODEL }))).text).toBe(text)
})

import { EventEmitter } from 'node:events'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRuntime } from '../../../../models/runtime/client.ts'
import { FREE_SHARDS, kvCacheBytes, weightBytes } from '../../../../models/runtime/memory.ts'
import type { Runtime, Shard } from '../../../../models/runtime/runtime.ts'
import { ModelStore, type StoredModel } from '../../../../models/store/store.ts'
import { BUNDLED_DIR } from '../../../../node/bundled.ts'
import { SPOT_CHECK_WRONG_TOKENS } from '../../../../node/constants.ts'
import type { PeersEvents } from '../../../../node/mesh/peers.ts'
import { drawAgain, type Feeding } from '../../../../node/source/verify/replay.ts'
import { MAX_LEASES } from '../../../../node/stage/lease-room.ts'
import { createStageRoom } from '../../../../node/stage/room.ts'
import { LocalStages } from '../../../fixtures/shards.ts'

/** "Tell me a story about a robot and a lamp." as the bundled model's chat template has it. */
const PROMPT = [0, 2, 749, 349, 263, 479, 408, 263, 586, 292, 263, 883, 51, 1, 3]
const COUNT = 40
const signal = new AbortController().signal
const { blobsDir } = ModelStore.at(BUNDLED_DIR)

let runtime: Runtime
let model: StoredModel
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
  model = (await ModelStore.at(BUNDLED_DIR).list())[0]!
})
afterAll(() => runtime.stop())

/** A device with room for so many times its largest layer, and what it loads. */
function deviceWith(layers: number, around = (shard: Shard) => shard) {
  const { manifest } = model
  const largest = Math.max(
    ...manifest.layers.map((_, i) => {
      const range: [number, number] = [i, i + 1]
      const maxTokens = PROMPT.length + COUNT
      return weightBytes(manifest, range) + kvCacheBytes(manifest.shape, range, { slots: 1, maxTokens })
    })
  )
  const loads: (readonly [number, number])[] = []
  const noted: Pick<Runtime, 'load'> = {
    load: async (spec, options) => {
      loads.push(spec.range)
      return around(await runtime.load(spec, options))
    }
  }
  const peers = { send: async () => {}, events: new EventEmitter<PeersEvents>() }
  const budgetBytes = Math.ceil(layers * largest)
  const init = { blobsDir, budgetBytes, termMs: 30_000, now: () => performance.now() }
  return { room: createStageRoom({ runtime: noted, peers }, init), loads }
}

const sampling = { temperature: 0.8, topP: 0.95, seed: 7, topLogprobs: 0 }
const FROM = 16

test('the model draws the same tokens again, a few layers at a time, and not what somebody made up', async () => {
  const { manifest, id: modelId } = model
  await using whole = await LocalStages.open(runtime, { manifest, blobsDir }, [], { sampling })
  const drawn = (await whole.generate(PROMPT, COUNT)).map(({ id }) => id)
  const { room, loads } = deviceWith(2.5)
  const differ = async (tokens: number[], feeding: Feeding) => {
    const answer = { modelId, manifest, prompt: PROMPT, tokens, sampling }
    const again = await drawAgain(room, 'a', answer, { from: FROM, feeding, signal })
    expect(again).toHaveLength(COUNT - FROM)
    return again.filter(({ id }, i) => id !== tokens[FROM + i]).length
  }
  expect(await differ(drawn, 'as-drawn')).toBe(0)
  expect(loads.length).toBeGreaterThan(3)
  expect(room.leases.unheldBytes).toBe(room.leases.budgetBytes)
  expect(await differ(drawn, 'grouped')).toBeLessThan(SPOT_CHECK_WRONG_TOKENS)
  const madeUp = drawn.map((_, i) => 100 + ((i * 37) % 400))
  expect(await differ(madeUp, 'as-drawn')).toBeGreaterThan(SPOT_CHECK_WRONG_TOKENS)
})

test('what a penalty or the least tokens depend on are the answer’s tokens, not those that are drawn again', async () => {
  const { manifest, id: modelId } = model
  const penalties = { repetition: 1.3, frequency: 0.5, presence: 0.5, window: 30 }
  const all = { ...sampling, penalties, topK: 50, minP: 0.01, minTokens: 30, ends: [1, 2] }
  const reply = { promptTokens: PROMPT.length, knownTokens: 0, lastIds: [] }
  const told = { ...all, reply }
  await using whole = await LocalStages.open(runtime, { manifest, blobsDir }, [], { sampling: told })
  const drawn = (await whole.generate(PROMPT, COUNT)).map(({ id }) => id)
  const { room } = deviceWith(30)
  const again = async (tokens: number[]) => {
    const answer = { modelId, manifest, prompt: PROMPT, tokens, sampling: all }
    return (await drawAgain(room, 'a', answer, { from: FROM, signal })).map(({ id }) => id)
  }
  expect(await again(drawn)).toEqual(drawn.slice(FROM))
  // One token that was not drawn, from which on the answer was another: what is behind it follows the answer.
  const otherAt = FROM + 4
  const begun = [...drawn.slice(0, otherAt), drawn[otherAt] === 300 ? 301 : 300]
  await using other = await LocalStages.open(runtime, { manifest, blobsDir }, [], {
    sampling: { ...all, reply: { ...reply, knownTokens: begun.length, lastIds: begun.slice(-30) } }
  })
  await other.feed(PROMPT)
  let last = 0
  for (const token of begun) last = (await other.feed([token])).id
  const rest = [last]
  while (begun.length + rest.length < COUNT) rest.push((await other.feed([rest.at(-1)!])).id)
  expect(await again([...begun, ...rest])).toEqual([...drawn.slice(FROM, otherAt + 1), ...rest])
})

test('a device without room for a layer is busy', async () => {
  const { manifest, id: modelId } = model
  const { room } = deviceWith(0.5)
  const answer = { modelId, manifest, prompt: PROMPT, tokens: [5, 6, 7], sampling }
  await expect(drawAgain(room, 'a', answer, { from: 0, signal })).rejects.toMatchObject({
    name: 'BusyHereError'
  })
  expect(room.leases.unheldBytes).toBe(room.leases.budgetBytes)
})

test('whoever gets the memory of a check loads nothing before its step has ended and its layers are released', async () => {
  const { manifest, id: modelId } = model
  const begun = Promise.withResolvers<void>()
  const goOn = Promise.withResolvers<void>()
  const released: (readonly [number, number])[] = []
  const { room, loads } = deviceWith(2.5, shard => ({
    manifest: shard.manifest,
    range: shard.range,
    ended: shard.ended,
    open: options => shard.open(options),
    async release() {
      await shard.release()
      released.push(shard.range)
    },
    async openBatch(options) {
      const batch = await shard.openBatch(options)
      return {
        async open(slot) {
          const session = await batch.open(slot)
          return {
            async forward(step) {
              begun.resolve()
              await goOn.promise
              return await session.forward(step)
            },
            exact: session.exact,
            trim: length => session.trim(length),
            close: () => session.close()
          }
        },
        step: (sessions, step) => batch.step(sessions, step),
        decode: (sessions, step) => batch.decode(sessions, step),
        close: () => batch.close()
      }
    }
  }))
  const answer = { modelId, manifest, prompt: PROMPT, tokens: [5, 6, 7], sampling }
  const checked = drawAgain(room, 'a', answer, { from: 0, signal }).catch(error => error)
  await begun.promise
  const [first] = loads
  const last = manifest.layers.length
  const range: [number, number] = [last - 1, last]
  const wanted = { source: 'b', modelId, range, weightBytes: room.leases.budgetBytes, ownBytes: 0 }
  const [lease] = room.leases.reserve([wanted])!
  const acquiring = room.shards.acquire(modelId, manifest, range, { signal })
  expect([loads, released]).toEqual([[first], []])
  goOn.resolve()
  expect(await checked).toMatchObject({ name: 'BusyHereError' })
  const handle = await acquiring
  expect([loads, released]).toEqual([[first, range], [first]])
  room.leases.release(lease!.id)
  await handle.release()
})

test.each([
  ['every shard that takes nothing of the memory', FREE_SHARDS, (i: number) => i],
  ['every lease that there may be', MAX_LEASES, () => 0]
])('a check ends no idle lease, where %s is one', async (_, count, startOf) => {
  const { manifest, id: modelId } = model
  const { room } = deviceWith(2.5)
  const evicted: string[] = []
  room.leases.events.on('evict', ({ id }) => evicted.push(id))
  for (let i = 0; i < count; i++) {
    const range: [number, number] = [startOf(i), startOf(i) + 1]
    const [lease] = room.leases.reserve([
      { source: 'b', modelId: 'other', range, weightBytes: 0, ownBytes: 0 }
    ])!
    room.leases.setIdle(lease!.id, true)
  }
  const answer = { modelId, manifest, prompt: PROMPT, tokens: [5, 6, 7], sampling }
  await expect(drawAgain(room, 'a', answer, { from: 0, signal })).rejects.toMatchObject({
    name: 'BusyHereError'
  })
  expect(evicted).toEqual([])
})

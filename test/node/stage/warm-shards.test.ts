import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { LayerRange } from '../../../models/layers.ts'
import { heldBytes } from '../../../models/runtime/memory.ts'
import { LEASE_TERM_MS } from '../../../node/constants.ts'
import { WarmShards } from '../../../node/stage/warm-shards.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, simulatedModel } from '../simulation/mesh.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const MODEL = simulatedModel()
const RANGE: LayerRange = [1, 3]
const BYTES = heldBytes(MODEL.manifest, RANGE)
const going = { signal: new AbortController().signal }

/** A device whose memory is so many times what the range takes. */
function deviceOf(times: number, isCarrying = () => false) {
  const mesh = new SimulatedMesh(MODEL)
  const node = mesh.add('spare', { memoryBytes: Math.ceil(times * BYTES), models: [MODEL] })
  const { room } = node
  const warm = new WarmShards({ room, isCarrying })
  const begin = (id: string, range: LayerRange = RANGE) =>
    warm.begin(id, { source: 'a', modelId: MODEL.id, manifest: MODEL.manifest, range })
  const other = (share: number) => ({
    source: 'b',
    modelId: 'f'.repeat(64),
    range: [0, 1] as LayerRange,
    weightBytes: Math.floor(share * times * BYTES),
    ownBytes: 0
  })
  return { node, room, leases: room.leases, warm, begin, other }
}

test('weights are loaded in memory that stays free, and given back at the end', async () => {
  const { node, leases, warm, begin } = deviceOf(2)
  begin('one')
  await pass(1000)
  expect([node.runtime.loads, node.runtime.shards]).toEqual([[RANGE], 1])
  expect(leases.freeBytes).toBe(leases.budgetBytes)
  // Nobody else renews its lease.
  await pass(3 * LEASE_TERM_MS)
  expect(node.runtime.shards).toBe(1)
  warm.end('one')
  await pass(1000)
  expect(node.empty).toBe(true)
})

test('a stage of the very range finds them loaded, and keeps them', async () => {
  const { node, room, leases, warm, begin } = deviceOf(4)
  begin('one')
  await pass(1000)
  const wanted = { source: 'a', modelId: MODEL.id, range: RANGE, weightBytes: BYTES, ownBytes: 1 }
  const [lease] = leases.reserve([wanted])!
  warm.end('one')
  const shard = await played(room.shards.acquire(MODEL.id, MODEL.manifest, RANGE, going))
  expect([node.runtime.loads.length, node.runtime.shards]).toEqual([1, 1])
  await played(shard.release())
  leases.release(lease!.id)
  await pass(1000)
  expect(node.empty).toBe(true)
})

test('one that is still being loaded when a stage wants it is loaded once', async () => {
  const { node, room, leases, warm, begin } = deviceOf(4)
  node.runtime.speed.loadMs = 5000
  begin('one')
  await pass(1000)
  const wanted = { source: 'a', modelId: MODEL.id, range: RANGE, weightBytes: BYTES, ownBytes: 1 }
  leases.reserve([wanted])
  warm.end('one')
  await played(room.shards.acquire(MODEL.id, MODEL.manifest, RANGE, going))
  expect(node.runtime.loads.length).toBe(1)
})

test('whoever wants the memory has it at once, and nothing is loaded there before it is free', async () => {
  const { node, room, leases, begin, other } = deviceOf(2)
  begin('one')
  await pass(1000)
  expect(leases.reserve([other(0.9)])).toBeDefined()
  expect(await played(room.shards.allLeft({ waitMs: 1000, ...going }))).toBe(true)
  expect(node.runtime.shards).toBe(0)
})

test('they take no more than half of what nobody holds, and none where somebody computes', async () => {
  const small = deviceOf(1.9)
  small.begin('one')
  await pass(1000)
  expect(small.node.runtime.loads).toEqual([])
  const used = deviceOf(10)
  used.leases.reserve([used.other(0.1)])
  used.begin('one')
  await pass(1000)
  expect(used.node.runtime.loads).toEqual([])
})

test('several ranges take no more than half together, one that two sources want counting once', async () => {
  const { node, begin } = deviceOf(3.1)
  begin('one')
  await pass(1000)
  begin('same')
  begin('next', [3, 5])
  await pass(1000)
  expect([node.runtime.loads, node.runtime.shards]).toEqual([[RANGE], 1])
})

test('nothing is loaded while an answer passes through', async () => {
  let isCarrying = true
  const { node, warm, begin } = deviceOf(2, () => isCarrying)
  begin('one')
  begin('other')
  await pass(5000)
  expect(node.runtime.loads).toEqual([])
  warm.end('other')
  isCarrying = false
  await pass(1000)
  expect(node.runtime.loads).toEqual([RANGE])
})

test('what cannot be loaded leaves nothing behind', async () => {
  const { node, begin } = deviceOf(2)
  node.runtime.failing.load = new Error('the file is damaged')
  begin('one')
  await pass(1000)
  expect(node.empty).toBe(true)
})

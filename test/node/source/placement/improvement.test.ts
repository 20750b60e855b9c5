import { EventEmitter } from 'node:events'
import { afterAll, expect, test, vi } from 'vitest'
import type { LayerRange } from '../../../../models/layers.ts'
import { weightBytes } from '../../../../models/runtime/memory.ts'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import type { LinkState, NodeRecord, PlannedStage } from '../../../../node/api.ts'
import { PlanThread } from '../../../../node/plan/thread.ts'
import { Corrections } from '../../../../node/source/placement/corrections.ts'
import { expectedMoving, worthLeaving, worthMoving } from '../../../../node/source/placement/improvement.ts'
import { stageLoadMs } from '../../../../node/source/placement/loading-times.ts'
import { type PlacementNeeds, Planning } from '../../../../node/source/placement/planning.ts'
import { TINY_SHAPE } from '../../../fixtures/random-model.ts'

const MODEL = 'm'.repeat(64)
const manifest = randomManifest(TINY_SHAPE, undefined)
const WHOLE = weightBytes(manifest)
const planner = new PlanThread()
afterAll(() => planner.stop())

const device = (peerId: string, decodeMs: number, memoryBytes: number): NodeRecord => ({
  peerId,
  name: peerId,
  version: '1',
  sequence: 1,
  hardware: { platform: 'linux', arch: 'x64', cpu: '', cores: 1, totalMemoryBytes: memoryBytes },
  profiles: { [MODEL]: { decoder: { decodeMs, prefillMsPerToken: decodeMs / 4 } } },
  memory: { budgetBytes: memoryBytes, freeBytes: memoryBytes },
  models: peerId === 'a' ? [{ name: 'm', id: MODEL, layers: [[0, 5]] }] : [],
  leases: [],
  links: {}
})

function planningWith(records: NodeRecord[], mbps = 1000): Planning {
  const self = device('a', 40, 0.75 * WHOLE)
  const ids = ['a', ...records.map(({ peerId }) => peerId)]
  const links: LinkState[] = ids.flatMap(from =>
    ids.flatMap(to => (from === to ? [] : [{ from, to, mbps, rttMs: 1, spread: 0, ageMs: 0 }]))
  )
  const known = records.map(record => ({
    ...{ record, state: 'connected' as const, connected: true, direct: true, suspect: false },
    ...{ rttMs: 1, lastSeenMs: 0 }
  }))
  return new Planning({
    peers: {
      peerId: 'a',
      self,
      known,
      links,
      apart: [],
      events: new EventEmitter(),
      measure: async () => {},
      glance: async () => {},
      nameOf: id => id
    },
    leases: { freeBytes: self.memory.freeBytes },
    corrections: new Corrections(() => 0),
    planner,
    profiler: { time: async () => {} },
    now: () => 0
  })
}

const needs: PlacementNeeds = {
  model: { name: 'm', id: MODEL, manifest },
  promptTokens: 8,
  newTokens: 32,
  objective: 'latency',
  privacy: 'prompt',
  placement: {}
}
const stage = (peerId: string, layers: [number, number]): PlannedStage => ({
  peerId,
  name: peerId,
  layers,
  weightBytes: weightBytes(manifest, layers)
})
/** Half on the source, half on a device as slow as it is. */
const current = {
  stages: [stage('a', [0, 3]), stage('b', [3, 5])],
  slots: 1,
  microBatches: 1,
  contextTokens: 256
}
const slow = device('b', 40, 0.75 * WHOLE)

test('nothing new, nothing to move for', async () => {
  expect(await worthMoving(planningWith([slow]), needs, current)).toBe(false)
})

test('a fast device that has joined is worth it', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  expect(await worthMoving(planningWith([slow, fast]), needs, current)).toBe(true)
})

test('a fast device that was left is not: the new placement would be made without it', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  const left = { ...needs, avoid: new Set(['c']) }
  expect(await worthMoving(planningWith([slow, fast]), left, current)).toBe(false)
})

test('a deployment for throughput moves for more tokens a second', async () => {
  const many: PlacementNeeds = { ...needs, objective: 'throughput', placement: { batch: 1 } }
  const fast = device('c', 4, 2 * WHOLE)
  expect(await worthMoving(planningWith([slow]), many, current)).toBe(false)
  expect(await worthMoving(planningWith([slow, fast]), many, current)).toBe(true)
})

test('one that is hardly faster is not', async () => {
  const hardly = device('c', 38, 2 * WHOLE)
  expect(await worthMoving(planningWith([slow, hardly]), needs, current)).toBe(false)
})

test('what is saved must pay for carrying the weights there', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  // Half a megabyte over 10 kbit/s takes minutes.
  expect(await worthMoving(planningWith([slow, fast], 0.01), needs, current)).toBe(false)
})

test('what is in the KV caches is computed again there: a long prompt stays for it', async () => {
  const quicker = device('c', 20, 2 * WHOLE)
  const long = { ...needs, promptTokens: 200, newTokens: 4 }
  const planning = planningWith([slow, quicker])
  expect(await worthMoving(planning, long, current)).toBe(true)
  expect(await worthMoving(planning, long, { ...current, cachedTokens: 190 })).toBe(false)
  // All of it, and what is known of the answer.
  expect(await worthMoving(planning, long, { ...current, cachedTokens: 203 })).toBe(false)
})

test('what others have in the KV caches is computed again there, too, by those that come back', async () => {
  const quicker = device('c', 20, 2 * WHOLE)
  const planning = planningWith([slow, quicker])
  const beside = (heldBeside: number[]) => worthMoving(planning, needs, { ...current, heldBeside })
  expect(await beside([240])).toBe(true)
  expect(await beside(Array(9).fill(240))).toBe(false)
  // More requests than pay for the move do not come.
  expect(await beside([...Array(9).fill(1), ...Array(50).fill(240)])).toBe(true)
})

test('a load here takes longer beside the start of its tokenizer, one elsewhere does not', () => {
  const planning = planningWith([slow])
  vi.spyOn(planning.ownLoads, 'msOf').mockImplementation((_, ms) => ms + 1000)
  const moving = (...devices: string[]) =>
    expectedMoving(
      planning,
      needs,
      [],
      devices.map(device => ({ device, layers: [0, 5] as LayerRange }))
    )
  const { source } = planning.candidates()
  const here = stageLoadMs(needs.model, { layers: [0, 5] }, { device: source.record, own: source.record })
  expect(moving('a')).toEqual({ loadMs: here, besideMs: 1000 })
  const there = moving('b')
  expect(there.loadMs).toBeGreaterThan(0)
  expect(there.besideMs).toBe(0)
  // The slower one of both decides.
  expect(moving('a', 'b')).toEqual({
    loadMs: Math.max(here, there.loadMs),
    besideMs: here + 1000 - Math.max(here, there.loadMs)
  })
})

test('a device that is gone is for the session that is opened to find out', async () => {
  expect(await worthMoving(planningWith([device('c', 4, 2 * WHOLE)]), needs, current)).toBe(false)
})

test('a deployment that was asked for stays', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  const fixed = { ...needs, placement: { method: 'edgeshard-even' as const } }
  expect(await worthMoving(planningWith([slow, fast]), fixed, current)).toBe(false)
})

test('a slow stage is left when the others would finish sooner', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  const without = new Set(['b'])
  const leave = (stepMs: number, tokens: number, peers = [slow, fast], answers = 1) =>
    worthLeaving(planningWith(peers), needs, without, {
      answers: Array(answers).fill({ tokens, leftTokens: 100 - tokens }),
      stepMs
    })
  expect(await leave(2000, 20)).toBe(true)
  // It is not slow enough, the answer is nearly done, or no other device can hold the model.
  expect(await leave(60, 20)).toBe(false)
  expect(await leave(2000, 99)).toBe(false)
  expect(await leave(2000, 20, [slow])).toBe(false)
  // Several answers are left together, though each waits for the KV caches of all.
  expect(await leave(2000, 20, [slow, fast], 4)).toBe(true)
  expect(await leave(2000, 90, [slow, fast], 4)).toBe(false)
})

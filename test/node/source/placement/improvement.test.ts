import { afterAll, expect, test } from 'vitest'
import { weightBytes } from '../../../../models/runtime/memory.ts'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import type { LinkState, PlannedStage } from '../../../../node/api.ts'
import { PlanThread } from '../../../../node/plan/thread.ts'
import { Corrections } from '../../../../node/source/placement/corrections.ts'
import { worthLeaving, worthMoving } from '../../../../node/source/placement/improvement.ts'
import type { PlacementNeeds, PlanningComponents } from '../../../../node/source/placement/planning.ts'
import type { Candidate } from '../../../../node/source/placement/scenario.ts'
import { TINY_SHAPE } from '../../../fixtures/random-model.ts'

const MODEL = 'm'.repeat(64)
const manifest = randomManifest(TINY_SHAPE, undefined)
const WHOLE = weightBytes(manifest)
const planner = new PlanThread()
afterAll(() => planner.stop())

const device = (peerId: string, decodeMs: number, memoryBytes: number): Candidate => ({
  record: {
    peerId,
    name: peerId,
    profiles: { [MODEL]: { decoder: { decodeMs, prefillMsPerToken: decodeMs / 4 } } },
    memory: { budgetBytes: memoryBytes, freeBytes: memoryBytes },
    models: peerId === 'a' ? [{ name: 'm', id: MODEL, layers: [[0, 5]] }] : []
  },
  memoryBytes,
  rttMs: 1
})

function components(peers: Candidate[], mbps = 1000): PlanningComponents {
  const source = device('a', 40, 0.75 * WHOLE)
  const ids = ['a', ...peers.map(({ record }) => record.peerId)]
  const links: LinkState[] = ids.flatMap(from =>
    ids.flatMap(to => (from === to ? [] : [{ from, to, mbps, rttMs: 1, spread: 0, ageMs: 0 }]))
  )
  return {
    candidates: () => ({ source, peers }),
    linkStates: () => links,
    measureLinks: async () => {},
    directoryChanged: async () => {},
    corrections: new Corrections(() => 0),
    planner,
    now: () => 0
  }
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
  expect(await worthMoving(components([slow]), needs, current)).toBe(false)
})

test('a fast device that has joined is worth it', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  expect(await worthMoving(components([slow, fast]), needs, current)).toBe(true)
})

test('a placement for throughput moves for more tokens a second', async () => {
  const many: PlacementNeeds = { ...needs, objective: 'throughput', placement: { batch: 1 } }
  const fast = device('c', 4, 2 * WHOLE)
  expect(await worthMoving(components([slow]), many, current)).toBe(false)
  expect(await worthMoving(components([slow, fast]), many, current)).toBe(true)
})

test('one that is hardly faster is not', async () => {
  const hardly = device('c', 38, 2 * WHOLE)
  expect(await worthMoving(components([slow, hardly]), needs, current)).toBe(false)
})

test('what is saved must pay for carrying the weights there', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  // Half a megabyte over 10 kbit/s takes minutes.
  expect(await worthMoving(components([slow, fast], 0.01), needs, current)).toBe(false)
})

test('a device that is gone is for the session that is opened to find out', async () => {
  expect(await worthMoving(components([device('c', 4, 2 * WHOLE)]), needs, current)).toBe(false)
})

test('a placement that was asked for stays', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  const fixed = { ...needs, placement: { method: 'edgeshard-even' as const } }
  expect(await worthMoving(components([slow, fast]), fixed, current)).toBe(false)
})

test('a slow stage is left when the others would finish sooner', async () => {
  const fast = device('c', 4, 2 * WHOLE)
  const without = new Set(['b'])
  const leave = (stepMs: number, tokens: number, peers = [slow, fast], answers = 1) =>
    worthLeaving(components(peers), needs, without, {
      answers: Array(answers).fill({ tokens, leftTokens: 100 - tokens }),
      stepMs
    })
  expect(await leave(2000, 20)).toBe(true)
  // It is not slow enough, the answer is nearly done, or nobody else can hold the model.
  expect(await leave(60, 20)).toBe(false)
  expect(await leave(2000, 99)).toBe(false)
  expect(await leave(2000, 20, [slow])).toBe(false)
  // Several answers are left together, though each waits for the KV caches of all.
  expect(await leave(2000, 20, [slow, fast], 4)).toBe(true)
  expect(await leave(2000, 90, [slow, fast], 4)).toBe(false)
})

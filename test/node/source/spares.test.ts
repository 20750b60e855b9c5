import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LATE_AVOID_MS, LEASE_RENEW_MS, SPARE_LOOK_MS, SPARE_READY_MS } from '../../../node/constants.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import type { SimulatedMesh } from '../simulation/mesh.ts'
import { SimulatedMesh as Mesh, type NodeOptions, shareOf } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const LONG = needsOf(MODEL, { newTokens: 60 })

/** `a` has the model, which takes three of them; `d` is slower, so it is the spare. */
function spareMesh(prefetchBytes: number, spare: Partial<NodeOptions> = {}): SimulatedMesh {
  const mesh = new Mesh(MODEL)
  const memoryBytes = shareOf(MODEL, 0.42)
  mesh.add('a', { memoryBytes, models: [MODEL] })
  for (const id of ['b', 'c']) mesh.add(id, { memoryBytes })
  mesh.add('d', { memoryBytes, decodeMs: 1.1, prefetchBytes, ...spare })
  return mesh
}

/** A spare with the memory for several stages, and too slow to be one of the first. */
const ROOMY = { memoryBytes: shareOf(MODEL, 2), decodeMs: 3 }

const layersAt = (mesh: SimulatedMesh, id: string) =>
  mesh.get(id).record.models.flatMap(({ layers }) => layers.map(([start]) => start))

test('the spare fetches what either loss would have it load, and then a loss costs no fetch', async () => {
  const mesh = spareMesh(1e9)
  const { deployments } = mesh.get('a').source()
  const first = await played(drawAnswer(deployments))
  const { stages } = first.stream.plan
  expect(stages.map(({ peerId }) => peerId)).toEqual(['a', 'b', 'c'])
  await pass(10 * SPARE_LOOK_MS)
  const needed = MODEL.manifest.layers.map((_, at) => at).slice(stages[1]!.layers[0])
  expect(layersAt(mesh, 'd')).toEqual(needed)
  const before = mesh.get('a').peers.met.get('weights')
  const { tokens, stream } = await played(
    drawAnswer(deployments, LONG, {
      onToken: tokens => {
        if (tokens.length === 20) mesh.vanish('c')
      }
    })
  )
  const alone = meshOf(['a'], 5).get('a').source().deployments
  expect(tokens).toEqual((await played(drawAnswer(alone, LONG))).tokens)
  expect(stream.recoveries).toBe(1)
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'b', 'd'])
  expect(mesh.get('a').peers.met.get('weights')).toBe(before)
  await played(deployments.close())
})

test('one whose quota has no room for it is not asked', async () => {
  const mesh = spareMesh(10)
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  const { met } = mesh.get('d').peers
  await pass(10 * SPARE_LOOK_MS)
  expect([met.get('reserve'), layersAt(mesh, 'd')]).toEqual([undefined, []])
  await played(deployments.close())
})

test('one that refuses is left alone for minutes', async () => {
  const mesh = spareMesh(1e9)
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  let asked = 0
  mesh.get('d').peers.meet = what => {
    if (what !== 'reserve') return
    asked++
    throw new Error('it does not want to')
  }
  await pass(60_000)
  expect(asked).toBe(1)
  await pass(300_000)
  expect(asked).toBeGreaterThan(1)
  await played(deployments.close())
})

test('one that was left is asked when it may be taken again', async () => {
  const mesh = spareMesh(1e9)
  const { deployments, distrust } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  distrust.late('d', 'it was late')
  await pass(10 * SPARE_LOOK_MS)
  expect(layersAt(mesh, 'd')).toEqual([])
  await pass(LATE_AVOID_MS)
  expect(layersAt(mesh, 'd')).not.toEqual([])
  await played(deployments.close())
})

test('nothing is asked when the node has stopped', async () => {
  const mesh = spareMesh(1e9)
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  await played(deployments.close())
  await pass(10 * SPARE_LOOK_MS)
  expect(layersAt(mesh, 'd')).toEqual([])
})

test('a spare with the memory has the layers loaded, so that a loss costs no load, and lets go of them with the deployment', async () => {
  const mesh = spareMesh(1e9, ROOMY)
  const { deployments } = mesh.get('a').source()
  const { stages } = (await played(drawAnswer(deployments))).stream.plan
  await pass(10 * SPARE_LOOK_MS)
  const { runtime, room } = mesh.get('d')
  const loaded = [...runtime.loads]
  expect(loaded).toContainEqual(stages[2]!.layers)
  expect(room.leases.freeBytes).toBe(room.leases.budgetBytes)
  const { stream } = await played(
    drawAnswer(deployments, LONG, {
      onToken: tokens => {
        if (tokens.length === 20) mesh.vanish('c')
      }
    })
  )
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'b', 'd'])
  expect(runtime.loads).toEqual(loaded)
  await played(deployments.close())
  await pass(1000)
  expect(mesh.get('d').empty).toBe(true)
})

test('a spare that has the files already is asked once to have them ready, as long as answers come', async () => {
  const mesh = spareMesh(1e9, ROOMY)
  const spare = mesh.get('d')
  spare.store.hold(MODEL.name, MODEL.bytes)
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  await pass(20 * SPARE_LOOK_MS)
  expect(spare.runtime.shards).toBe(2)
  const asked = spare.peers.met.get('load')
  await pass(60_000)
  expect([spare.peers.met.get('load'), spare.runtime.shards]).toEqual([asked, 2])
  // Long behind the last answer it has its memory back, until the next one.
  await pass(SPARE_READY_MS)
  expect([spare.empty, deployments.state().length]).toEqual([true, 1])
  await played(drawAnswer(deployments))
  await pass(20 * SPARE_LOOK_MS)
  expect(spare.runtime.shards).toBe(2)
  deployments.keepAlive(MODEL.id, 0)
  await pass(3 * SPARE_LOOK_MS)
  expect(spare.empty).toBe(true)
  await played(deployments.close())
})

test('a spare that is drained has nothing ready any more, and its leases are given up', async () => {
  const mesh = spareMesh(1e9, ROOMY)
  const { deployments } = mesh.get('a').source()
  await played(drawAnswer(deployments))
  await pass(10 * SPARE_LOOK_MS)
  const { peers } = mesh.get('a')
  const kept = () => [...peers.leases].filter(({ peerId }) => peerId === 'd').length
  expect([kept(), mesh.get('d').runtime.shards]).toEqual([2, 2])
  mesh.drain('d')
  await pass(LEASE_RENEW_MS + 1000)
  expect([kept(), mesh.get('d').empty]).toEqual([0, true])
  await played(deployments.close())
})

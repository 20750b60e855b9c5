import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

async function undisturbed(): Promise<number[]> {
  const whole = meshOf(['a'], 5, MODEL).get('a').source()
  return (await played(drawAnswer(whole.deployments, needsOf()))).tokens
}

const bytes = (share: number) => shareOf(MODEL, share)
/** A device whose GPU and CPU both compute. */
const both = (gpu: number, cpu: number) => ({ memoryBytes: bytes(gpu), beside: { memoryBytes: bytes(cpu) } })

async function expectAllGivenBack(mesh: SimulatedMesh, source: { close(): Promise<void> }): Promise<void> {
  await played(source.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
}

test('a model that is larger than the card is on the card and on the CPU of one device', async () => {
  const expected = await undisturbed()
  const mesh = new SimulatedMesh(MODEL)
  const a = mesh.add('a', { ...both(0.8, 0.6), models: [MODEL] })
  const source = a.source().deployments
  const { tokens, stream } = await played(drawAnswer(source))
  expect(tokens).toEqual(expected)
  const { stages } = stream.plan
  expect(stages.map(({ peerId, processor }) => [peerId, processor])).toEqual([
    ['a', 'gpu'],
    ['a', 'cpu']
  ])
  expect(stages.map(({ bitsClass }) => bitsClass)).toEqual(['gpu', undefined])
  // Each loads what it was planned for, and in its own memory.
  expect(a.runtime.loads).toEqual([stages[0]!.layers])
  expect(a.besideRuntime!.loads).toEqual([stages[1]!.layers])
  for (const leases of [a.room.leases, a.room.beside!.leases]) expect(leases.state(() => 0)).toHaveLength(1)
  await expectAllGivenBack(mesh, source)
})

test('both processors of a peer each have a stage, and hand over inside the device', async () => {
  const expected = await undisturbed()
  const mesh = meshOf(['a'], 0.42)
  const b = mesh.add('b', both(0.5, 0.5))
  const source = mesh.get('a').source().deployments
  const { tokens, stream } = await played(drawAnswer(source))
  expect(tokens).toEqual(expected)
  expect(stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'b', 'b'])
  expect(new Set(stream.plan.stages.slice(1).map(({ processor }) => processor))).toEqual(
    new Set(['gpu', 'cpu'])
  )
  // One frame comes in for each step, and a token goes back.
  expect(b.peers.met.get('frame')).toBe(tokens.length)
  expect(b.room.beside!.leases.heldBytes).toBeGreaterThan(0)
  await expectAllGivenBack(mesh, source)
})

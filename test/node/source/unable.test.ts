import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { simulatedModel } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

test('a device that said that it cannot load what it promised is not asked first by the next request, but later again', async () => {
  const OTHER = simulatedModel('other')
  const mesh = meshOf(['a', 'b', 'c', 'd'], 0.42, MODEL, OTHER)
  const { deployments, distrust } = mesh.get('a').source()
  const unable = mesh.get('b')
  unable.store.full = true
  const asked = () => unable.peers.met.get('reserve')
  const first = await played(drawAnswer(deployments))
  expect(first.stream.plan.stages.map(({ peerId }) => peerId)).toEqual(['a', 'c', 'd'])
  expect([asked(), distrust.leftPeerIds]).toEqual([1, ['b']])
  await played(drawAnswer(deployments, needsOf(OTHER)))
  expect(asked()).toBe(1)
  unable.store.full = false
  await pass(60_000)
  expect(distrust.leftPeerIds).toEqual([])
  mesh.vanish('d')
  await pass(1000)
  const later = await played(drawAnswer(deployments))
  expect(later.stream.plan.stages.map(({ peerId }) => peerId)).toContain('b')
  await played(deployments.close())
})

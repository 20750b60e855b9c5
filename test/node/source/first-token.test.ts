import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { predictedFirstMs } from '../../../node/first-token.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

test('the first token with its load is predicted by what earlier placements took, and says nothing of a load where there is none', async () => {
  const mesh = new SimulatedMesh(MODEL)
  const speed = { decodeMs: 2, stepMs: 6, loadMs: 1400 }
  mesh.add('a', { memoryBytes: shareOf(MODEL, 0.7), models: [MODEL], ...speed })
  mesh.add('b', { memoryBytes: shareOf(MODEL, 4, 4, 1024), ...speed })
  const { deployments } = mesh.get('a').source()
  const first = async (keepAliveMs: number) => {
    const startMs = performance.now()
    let firstMs = 0
    const needs = needsOf(MODEL, { newTokens: 12, keepAliveMs })
    const { stream } = await played(
      drawAnswer(deployments, needs, {
        onToken: ({ length }) => {
          if (length === 1) firstMs = performance.now() - startMs
        }
      })
    )
    await pass(1000)
    return { predictedMs: predictedFirstMs(stream.predicted!), firstMs, loadMs: stream.predicted!.loadMs }
  }
  const errorOf = ({ predictedMs, firstMs }: { predictedMs: number; firstMs: number }) =>
    Math.abs(predictedMs - firstMs) / firstMs
  const [unknown, , third] = [await first(0), await first(0), await first(60_000)]
  expect(unknown!.loadMs).toBeGreaterThan(0)
  expect(errorOf(third!)).toBeLessThan(0.05)
  expect(errorOf(third!)).toBeLessThan(errorOf(unknown!))
  expect((await first(60_000)).loadMs).toBeUndefined()
  await played(deployments.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
})

test('what a request has waited for before its stages were asked for is part of its first token, loaded or not', async () => {
  const mesh = new SimulatedMesh(MODEL)
  mesh.add('a', { memoryBytes: shareOf(MODEL, 4), models: [MODEL] })
  const { deployments } = mesh.get('a').source()
  const waited = async (agoMs: number | undefined) => {
    const startedAtMs = agoMs === undefined ? undefined : performance.now() - agoMs
    const needs = needsOf(MODEL, { newTokens: 4, keepAliveMs: 60_000, startedAtMs })
    const { stream } = await played(drawAnswer(deployments, needs, {}))
    await pass(1000)
    return stream.predicted!
  }
  const [cold, warm, unknown] = [await waited(300), await waited(70), await waited(undefined)]
  expect(cold.loadMs).toBeGreaterThan(0)
  expect(cold.waitedMs).toBe(300)
  expect(predictedFirstMs(cold)).toBe(300 + cold.loadMs! + cold.ttftMs)
  expect([warm.loadMs, warm.waitedMs]).toEqual([undefined, 70])
  expect(unknown.waitedMs).toBeUndefined()
  await played(deployments.close())
  await pass(1000)
})

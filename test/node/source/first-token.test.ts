import { afterEach, beforeEach, expect, test, vi } from 'vitest'
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
    const { ttftMs, loadMs } = stream.predicted!
    await pass(1000)
    return { predictedMs: ttftMs + (loadMs ?? 0), firstMs, loadMs }
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

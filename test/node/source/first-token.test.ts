import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
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

test('what is done beside a first load teaches nothing of loads, and of the next one it is no part', async () => {
  const mesh = new SimulatedMesh(MODEL)
  mesh.add('a', { memoryBytes: shareOf(MODEL, 4), models: [MODEL], loadMs: 1400 })
  const { deployments, planning } = mesh.get('a').source()
  const { ownLoads, loads } = planning
  vi.spyOn(ownLoads, 'msOf').mockImplementation((_, ms) => (ownLoads.isFirst ? ms + 500 : ms))
  const noted = vi.spyOn(loads, 'note')
  for (let i = 0; i < 2; i++) {
    await played(drawAnswer(deployments, needsOf(MODEL, { newTokens: 4, keepAliveMs: 0 })))
    await pass(1000)
  }
  const [first, second] = noted.mock.calls
  expect([first![3], second![3]]).toEqual([{ isFirst: true }, { isFirst: false }])
  expect(second![2] - first![2]).toBeCloseTo(500, -1)
  await played(deployments.close())
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

test('chunks of a long prompt are on several devices at once, and its first token is predicted so; deadlines are not', async () => {
  const mesh = new SimulatedMesh(MODEL)
  const stepMs = 20
  // Each has two layers that compute all of a prompt, in steps of that time.
  const device = (share: number) => ({
    memoryBytes: shareOf(MODEL, share, 1, 1024),
    stepMs,
    decodeMs: stepMs / 2,
    prefillMs: stepMs / 2 / PREFILL_CHUNK_TOKENS
  })
  mesh.add('a', { ...device(0.36), models: [MODEL] })
  mesh.add('b', device(0.45))
  const { deployments } = mesh.get('a').source()
  const prompt = Array.from({ length: 12 * PREFILL_CHUNK_TOKENS }, (_, i) => (i * 7919) % 200)
  const answered = async () => {
    const startMs = performance.now()
    let firstMs = 0
    const { stream } = await played(
      drawAnswer(deployments, needsOf(MODEL, { prompt, newTokens: 2, keepAliveMs: 60_000 }), {
        onToken: ({ length }) => {
          if (length === 1) firstMs = performance.now() - startMs
        }
      })
    )
    await pass(1000)
    return { firstMs, predictedMs: stream.predicted!.ttftMs }
  }
  await answered()
  const { firstMs, predictedMs } = await answered()
  expect(Math.abs(predictedMs - firstMs) / firstMs).toBeLessThan(0.15)
  const [state] = deployments.state()
  expect(state!.plan.stages.map(({ layers }) => layers)).toEqual([
    [0, 2],
    [2, 5]
  ])
  expect(state!.predicted.ttftMs).toBeGreaterThan(1.5 * firstMs)
  await played(deployments.close())
  await pass(1000)
})

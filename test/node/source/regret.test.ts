import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const ANSWERS = 8

/** The device that each of some answers was drawn on, and what its tokens took, by the clock of the simulation. */
async function drawnOn(mesh: SimulatedMesh, answers: number) {
  const { deployments } = mesh.get('a').source()
  const rows: { device: string; tokenMs: number }[] = []
  for (let i = 0; i < answers; i++) {
    let firstMs = 0
    const { stream, tokens } = await played(
      drawAnswer(deployments, needsOf(MODEL, { newTokens: 40 }), {
        onToken: ({ length }) => {
          if (length === 1) firstMs = performance.now()
        }
      })
    )
    rows.push({
      device: stream.plan.stages.at(-1)!.peerId,
      tokenMs: (performance.now() - firstMs) / (tokens.length - 1)
    })
    expect(stream.recoveries).toBe(0)
    // Looks at what there is come no more often.
    await pass(6000)
  }
  await played(deployments.close())
  await pass(1000)
  expect(mesh.empty).toBe(true)
  return rows
}

/** `a` has room for a part of the model; `b` and `c` say what a layer takes them, and take what they take for a step. */
function meshOf(b: { says: number; takes: number }, c: { says: number; takes: number }): SimulatedMesh {
  const mesh = new SimulatedMesh(MODEL)
  mesh.add('a', { memoryBytes: shareOf(MODEL, 0.7), models: [MODEL], decodeMs: 10, stepMs: 10 })
  for (const [id, { says, takes }] of Object.entries({ b, c }))
    mesh.add(id, { memoryBytes: shareOf(MODEL, 4, 4, 1024), decodeMs: says, stepMs: takes })
  return mesh
}

/** The steps of `b` take longer than it says, so that `c`, which says nearly the same, is worth a try. */
const B = { says: 10, takes: 36 }

test('a device that is predicted to be better after an answer took longer than predicted is tried, and kept where it is', async () => {
  const rows = await drawnOn(meshOf(B, { says: 10.5, takes: 26 }), ANSWERS)
  const first = rows[0]!
  expect(first.device).toBe('b')
  expect(rows.map(({ device }) => device)).toContain('c')
  expect(rows.at(-1)!.device).toBe('c')
  expect(rows.at(-1)!.tokenMs).toBeLessThan(0.85 * first.tokenMs)
})

test('one that turns out to be worse is left for the one before it, and not tried again', async () => {
  const rows = await drawnOn(meshOf(B, { says: 10.5, takes: 44 }), ANSWERS)
  const on = rows.map(({ device }) => device).join('')
  expect(on).toMatch(/^b+c+b+$/)
  expect(rows.at(-1)!.tokenMs).toBeCloseTo(rows[0]!.tokenMs)
})

test('what takes what it was predicted to take stays where it is', async () => {
  const takes = 30
  const rows = await drawnOn(meshOf({ says: 10, takes }, { says: 10.5, takes }), ANSWERS)
  expect(new Set(rows.map(({ device }) => device))).toEqual(new Set(['b']))
})

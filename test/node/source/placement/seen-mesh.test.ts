import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { seenMesh } from '../../../../node/source/placement/seen-mesh.ts'
import { stopClock } from '../../simulation/clock.ts'
import { shareOf } from '../../simulation/mesh.ts'
import { MODEL, meshOf } from '../simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

test('a round trip makes another mesh where it is another one in a plan, too', () => {
  const mesh = meshOf(['a', 'b'])
  const { planning } = mesh.get('a').source()
  const seen = (latencyMs: number) => {
    mesh.latencyMs = latencyMs
    return seenMesh(planning, MODEL.id)
  }
  const [far, near] = [seen(40), seen(0.3)]
  expect(near).not.toBe(far)
  expect(seen(0.9)).toBe(near)
})

test.each(['gpu', 'cpu'])(
  'what answers teach of the %s of a device that has both makes another mesh',
  processor => {
    const mesh = meshOf(['a'])
    const memoryBytes = shareOf(MODEL, 1)
    const { record } = mesh.add('b', { memoryBytes, beside: { memoryBytes } })
    const { planning } = mesh.get('a').source()
    const before = seenMesh(planning, MODEL.id)
    expect(seenMesh(planning, MODEL.id)).toBe(before)
    const profile = record.profiles[MODEL.id]!
    const stage = { peerId: 'b', processor, modelId: MODEL.id, borrowed: false, own: false, profile }
    const stages = [{ computeMs: 30, waitMs: 0 }]
    for (let i = 0; i < 5; i++)
      planning.corrections.observe({
        stages: [stage],
        expected: { stages: [{ computeMs: 3 }], linksMs: [] },
        measured: {
          ...{ steps: 20, sequences: 1, contextTokens: 9, stages, linksMs: [] },
          stepMs: 30,
          doubted: 0,
          doubt: undefined
        },
        batch: 1
      })
    expect(seenMesh(planning, MODEL.id)).not.toBe(before)
  }
)

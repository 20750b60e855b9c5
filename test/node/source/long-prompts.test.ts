import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { STEP_DEADLINE_FLOOR_MS } from '../../../node/constants.ts'
import { played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { drawAnswer, MODEL, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const told = (events: readonly GenerateEvent[]) =>
  events.flatMap(event => (event.type === 'prefill' ? [[event.done, event.total]] : []))

/** 29 chunks, with a milestone behind each eighth. */
const PROMPT = Array.from({ length: 900 }, (_, i) => (i * 7919) % 200)

interface Devices {
  ids: string[]
  /** Time of a step on each. */
  stepMs?: number
  /** A device whose worker hangs from a frame on, though its network does not. */
  hangs?: { id: string; frame: number }
}

/** An answer to the long prompt on devices of which it takes three; only the first has the model. */
async function answerOf({ ids, stepMs = 2, hangs }: Devices) {
  const mesh = new SimulatedMesh(MODEL)
  const memoryBytes = shareOf(MODEL, 0.42, 1, 1024)
  ids.forEach((id, i) => void mesh.add(id, { memoryBytes, stepMs, models: i === 0 ? [MODEL] : [] }))
  if (hangs !== undefined) {
    const { peers } = mesh.get(hangs.id)
    let hanging = false
    peers.meet = async what => {
      hanging ||= what === 'frame' && peers.met.get('frame') === hangs.frame
      if (hanging && (what === 'frame' || what === 'close')) await new Promise(() => {})
    }
  }
  const { deployments } = mesh.get(ids[0]!).source()
  const startMs = Date.now()
  const { tokens, events, stream } = await played(drawAnswer(deployments, needsOf(MODEL, { prompt: PROMPT })))
  const tookMs = Date.now() - startMs
  await played(deployments.close())
  return { tokens, events, stream, tookMs }
}

test('milestones of a prompt change no token of its answer', async () => {
  const alone = new SimulatedMesh(MODEL)
  const node = alone.add('a', { memoryBytes: shareOf(MODEL, 1, 4, 1024), models: [MODEL] })
  const { deployments } = node.source()
  const { tokens, events } = await played(drawAnswer(deployments, needsOf(MODEL, { prompt: PROMPT })))
  const spread = await answerOf({ ids: ['a', 'b', 'c'] })
  expect(spread.stream.plan.stages).toHaveLength(3)
  expect(spread.tokens).toEqual(tokens)
  // How far it is is told of while it is computed, by one device as by three.
  const parts = [256, 512, 768].map(done => [done, PROMPT.length])
  expect(told(events)).toEqual(parts)
  expect(told(spread.events)).toEqual(parts)
})

test('devices that take several deadlines for a prompt are waited for as long as it gets on', async () => {
  // A milestone is eight chunks; none of them would be in time by the prediction alone.
  const { stream, tookMs } = await answerOf({ ids: ['a', 'b', 'c'], stepMs: STEP_DEADLINE_FLOOR_MS / 9 })
  expect(stream.recoveries).toBe(0)
  expect(tookMs).toBeGreaterThan(3 * STEP_DEADLINE_FLOOR_MS)
})

test.each(['b', 'c'])('%s, whose worker hangs in the middle of a prompt, is replaced in time', async id => {
  const undisturbed = await answerOf({ ids: ['a', 'b', 'c'] })
  const { tokens, events, stream, tookMs } = await answerOf({
    ids: ['a', 'b', 'c', 'd'],
    hangs: { id, frame: 12 }
  })
  expect(tokens).toEqual(undisturbed.tokens)
  expect(events.find(({ type }) => type === 'recovery')).toMatchObject({
    peerId: id,
    reason: expect.stringMatching(/tokens 256 to 512 of the prompt were not through within 15 s/)
  })
  expect(stream.plan.stages.map(({ peerId }) => peerId)).not.toContain(id)
  expect(tookMs).toBeLessThan(2 * STEP_DEADLINE_FLOOR_MS)
})

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { GenerateEvent, Move } from '../../../node/api.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf } from '../simulation/mesh.ts'
import { type AnswerNeeds, drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const LONG = needsOf(MODEL, { newTokens: 400 })

/** What a lone device draws. */
async function undisturbed(needs: AnswerNeeds = LONG): Promise<number[]> {
  const { deployments } = meshOf(['a'], 5).get('a').source()
  return (await played(drawAnswer(deployments, needs))).tokens
}

/** `a` has the model and is slow; all have room for it several times over. */
function roomyMesh(others: Record<string, number>): SimulatedMesh {
  const mesh = new SimulatedMesh(MODEL)
  mesh.add('a', { memoryBytes: shareOf(MODEL, 3, 4, 1024), models: [MODEL], decodeMs: 20, stepMs: 20 })
  for (const [id, decodeMs] of Object.entries(others)) join(mesh, id, decodeMs)
  return mesh
}

function join(mesh: SimulatedMesh, id: string, decodeMs: number): void {
  mesh.add(id, { memoryBytes: shareOf(MODEL, 4, 4, 1024), decodeMs, stepMs: 2 * decodeMs })
}

const movesIn = (events: GenerateEvent[]): Move[] =>
  events.flatMap(event => (event.type === 'moved' ? [event.move] : []))
const devices = ({ to }: Pick<Move, 'to'>) => to.map(({ peerId }) => peerId)

/** Draws an answer, and how long each token came after the one before. */
async function drawn(
  mesh: SimulatedMesh,
  needs: AnswerNeeds,
  onToken: (tokens: number[]) => void = () => {},
  { deployments } = mesh.get('a').source()
) {
  const gapsMs: number[] = []
  let lastMs = performance.now()
  const answer = await drawAnswer(deployments, needs, {
    onToken: tokens => {
      gapsMs.push(performance.now() - lastMs)
      lastMs = performance.now()
      onToken(tokens)
    }
  })
  // The first token has a prompt before it.
  return { ...answer, deployments, gapsMs: gapsMs.slice(1) }
}

/** Does something when an answer has so many tokens. */
const at = (count: number, act: () => void) => (tokens: number[]) => {
  if (tokens.length === count) act()
}

test('a device that joins takes over between two tokens of a running answer', async () => {
  const mesh = roomyMesh({ b: 10 })
  const { tokens, events, stream, deployments, gapsMs } = await played(
    drawn(
      mesh,
      LONG,
      at(20, () => join(mesh, 'c', 1))
    )
  )
  expect(tokens).toEqual(await undisturbed())
  const [move] = movesIn(events)
  expect(movesIn(events)).toEqual(stream.moves)
  expect([stream.recoveries, stream.moves.length]).toEqual([0, 1])
  expect(devices(move!)).toContain('c')
  expect(move!.reason).toBe('faster')
  expect(move!.predicted.afterMs).toBeLessThan(move!.predicted.beforeMs)
  // What the clock of the simulation says is the same each time.
  expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
  await pass(1000)
  expect(mesh.get('b').empty).toBe(true)
  await played(deployments.close())
  expect(mesh.empty).toBe(true)
})

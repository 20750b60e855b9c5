import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { STATEFUL } from '../../fixtures/random-model.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf, simulatedModel } from '../simulation/mesh.ts'
import { at, closed, drawn, movesIn } from './moving-answer.ts'
import { type AnswerNeeds, drawAnswer, needsOf } from './simulated-answer.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const MODEL = simulatedModel('moving states', STATEFUL)
const PROMPT = Array.from({ length: 60 }, (_, i) => (i * 7919) % 200)

const asked = (prompt: number[], over: Partial<AnswerNeeds> = {}): AnswerNeeds =>
  needsOf(MODEL, { prompt, newTokens: 200, scope: 'mine', ...over })

/** `a` has the model and is slow; the others have room for it several times over. */
function meshWith(others: Record<string, number>): SimulatedMesh {
  const mesh = new SimulatedMesh(MODEL)
  mesh.add('a', { memoryBytes: shareOf(MODEL, 3, 4, 1024), models: [MODEL], decodeMs: 20, stepMs: 4 })
  for (const [id, decodeMs] of Object.entries(others)) join(mesh, id, decodeMs)
  return mesh
}

function join(mesh: SimulatedMesh, id: string, decodeMs: number): void {
  mesh.add(id, { memoryBytes: shareOf(MODEL, 4, 4, 1024), decodeMs, stepMs: 2 * decodeMs })
}

async function freshly(needs: AnswerNeeds): Promise<number[]> {
  const { deployments } = meshWith({}).get('a').source()
  const { tokens } = await played(drawAnswer(deployments, { ...needs, standby: false }))
  await played(deployments.close())
  return tokens
}

describe('an answer of a model with states', () => {
  test('goes over to a device that joins, and the next turn goes on from the states that it has there', async () => {
    const needs = asked(PROMPT)
    const mesh = meshWith({ b: 18 })
    const { tokens, events, stream, deployments, gapsMs } = await played(
      drawn(
        mesh,
        at(20, () => join(mesh, 'c', 1)),
        needs
      )
    )
    expect(tokens).toEqual(await freshly(needs))
    expect([stream.recoveries, movesIn(events).map(({ reason }) => reason)]).toEqual([0, ['faster']])
    // By the clock of the simulation, which is the same each time.
    expect(Math.max(...gapsMs)).toBeLessThanOrEqual(2 * gapsMs[0]!)
    const turn = asked([...PROMPT, ...tokens, 5, 5], { newTokens: 8 })
    const again = await played(drawAnswer(deployments, turn))
    expect(again.stream.cachedTokens).toBeGreaterThan(PROMPT.length)
    expect(again.tokens).toEqual(await freshly(turn))
    await closed(mesh, deployments)
  })

  test('goes over in its second turn, which went on from a state', async () => {
    const mesh = meshWith({ b: 18 })
    const { deployments } = mesh.get('a').source()
    const first = await played(drawAnswer(deployments, asked(PROMPT, { newTokens: 12 })))
    const needs = asked([...PROMPT, ...first.tokens, 3, 3])
    const joining = at(20, () => join(mesh, 'c', 1))
    const { tokens, stream } = await played(drawn(mesh, joining, needs, { deployments }))
    expect(stream.cachedTokens).toBeGreaterThan(0)
    expect([stream.recoveries, stream.moves.length]).toEqual([0, 1])
    expect(tokens).toEqual(await freshly(needs))
    const turn = asked([...needs.prompt, ...tokens, 9], { newTokens: 8 })
    const again = await played(drawAnswer(deployments, turn))
    expect(again.stream.cachedTokens).toBeGreaterThan(0)
    expect(again.tokens).toEqual(await freshly(turn))
    await closed(mesh, deployments)
  })

  test('leaves a device that is drained while others are drawn beside it', async () => {
    const mesh = meshWith({ b: 5 })
    const { deployments } = mesh.get('a').source()
    const needs = [0, 1, 2].map(i => asked([...PROMPT.slice(i), 9, i]))
    const drain = at(20, () => {
      join(mesh, 'c', 1)
      mesh.drain('b')
    })
    const answers = await played(
      Promise.all(needs.map((each, i) => drawn(mesh, i === 0 ? drain : () => {}, each, { deployments })))
    )
    for (const [i, { tokens, stream }] of answers.entries()) {
      expect([stream.recoveries, stream.moves.map(({ reason }) => reason)]).toEqual([0, ['drained']])
      expect(tokens).toEqual(await freshly(needs[i]!))
    }
    await pass(1000)
    expect(mesh.get('b').empty).toBe(true)
    await closed(mesh, deployments)
  })

  test('has others stand by for a loss', async () => {
    const needs = asked(PROMPT, { standby: true })
    const mesh = meshWith({ b: 5, c: 6 })
    const { tokens, events, stream, deployments } = await played(
      drawn(
        mesh,
        at(60, () => mesh.vanish('b')),
        needs
      )
    )
    expect(tokens).toEqual(await freshly(needs))
    expect([stream.recoveries, movesIn(events).map(({ reason }) => reason)]).toEqual([0, ['lost']])
    await closed(mesh, deployments)
  })
})

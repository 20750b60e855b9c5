import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { prng } from '../../fixtures/prng.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'
import { SimulatedMesh, shareOf, simulatedModel } from '../simulation/mesh.ts'
import { type AnswerNeeds, drawAnswer, MODEL, meshOf, needsOf } from './simulated-answer.ts'

const OTHER = simulatedModel('other')
const ROUNDS = 40
/** Which an answer may end with where devices are lost. */
const ENDS = new Set(['StageLostError', 'PlanRefusedError', 'BusyError'])

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

test(`in ${ROUNDS} meshes with random losses every answer is right or says why not, and nothing stays behind`, async () => {
  const expected = new Map<AnswerNeeds, number[]>()
  const requests = [
    needsOf(),
    needsOf(MODEL, { prompt: [9, 8, 7], newTokens: 12 }),
    needsOf(OTHER),
    needsOf(MODEL, { privacy: 'sealed' }),
    needsOf(MODEL, { objective: 'throughput', placement: { batch: 2 } })
  ]
  for (const needs of requests) {
    const whole = meshOf(['a'], 5, MODEL, OTHER).get('a').source()
    expected.set(needs, (await played(drawAnswer(whole.deployments, needs))).tokens)
  }
  const counts = { right: 0, refused: 0, recoveries: 0 }
  for (let seed = 1; seed <= ROUNDS; seed++) {
    const random = prng(seed)
    const below = (limit: number) => Math.floor(random() * limit)
    const mesh = new SimulatedMesh(MODEL, OTHER)
    const ids = ['a', 'b', 'c', 'd', 'e'].slice(0, 4 + below(2))
    for (const id of ids) {
      const held = id === 'a' || id === 'b' ? [MODEL, OTHER] : []
      mesh.add(id, {
        memoryBytes: shareOf(MODEL, 0.42 + 0.6 * random()),
        models: held,
        decodeMs: 1 + below(5)
      })
    }
    mesh.latencyMs = 1 + below(20)
    const sources = ['a', 'b'].map(id => mesh.get(id).source().deployments)
    // In every other mesh two devices that are no source lose sight of each other.
    if (seed % 2 === 0 && ids.length > 4) {
      const [one, other] = [ids[2 + below(2)]!, ids[4]!]
      mesh.tellsApart = random() < 0.5
      setTimeout(() => mesh.part(one, other), below(600))
    }
    for (let losses = below(3); losses > 0; losses--) {
      const id = ids[2 + below(ids.length - 2)]!
      const lose = random() < 0.5 ? () => mesh.vanish(id) : () => void mesh.silence(id)
      setTimeout(lose, below(600))
    }
    const drawn = Array.from({ length: 1 + below(4) }, async () => {
      const needs = requests[below(requests.length)]!
      const source = sources[below(2)]!
      await new Promise(resolve => setTimeout(resolve, below(300)))
      try {
        const { tokens, stream } = await drawAnswer(source, needs)
        expect(tokens, `seed ${seed}`).toEqual(expected.get(needs))
        counts.right++
        counts.recoveries += stream.recoveries
      } catch (error) {
        if (!ENDS.has((error as Error).name)) throw error
        counts.refused++
      }
    })
    await played(Promise.all(drawn))
    await played(Promise.all(sources.map(source => source.close())))
    await pass(1000)
    expect(mesh.empty, `seed ${seed}`).toBe(true)
    vi.clearAllTimers()
  }
  expect(counts.right).toBeGreaterThan(counts.refused)
  expect(counts.recoveries).toBeGreaterThan(0)
})

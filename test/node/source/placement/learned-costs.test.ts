import { beforeAll, describe, expect, test } from 'vitest'
import { quantile } from '../../../bench/statistics.ts'
import { type Figure, HiddenMesh } from '../../simulation/hidden-mesh.ts'

const MESHES = 8
const ANSWERS = 6

const errorOf = ({ predictedMs, measuredMs }: Figure) => Math.abs(predictedMs - measuredMs) / measuredMs
const median = (values: readonly number[]) => quantile(values, 0.5)

/** Answers of each mesh, each placed as what the ones before have taught says, and the best of all candidates. */
async function played(objective: 'latency' | 'throughput') {
  const meshes: { answers: Figure[]; bestMs: number }[] = []
  for (let seed = 1; seed <= MESHES; seed++) {
    const mesh = new HiddenMesh(seed)
    const answers: Figure[] = []
    for (let i = 0; i < ANSWERS; i++) answers.push(mesh.run(objective, await mesh.chosen(objective), true))
    const others = mesh.candidates(objective).map(each => mesh.run(objective, each, false).measuredMs)
    meshes.push({ answers, bestMs: Math.min(...others, ...answers.map(({ measuredMs }) => measuredMs)) })
  }
  return meshes
}

describe.each(['latency', 'throughput'] as const)(
  'of devices that take other times than they say: %s',
  objective => {
    let meshes: Awaited<ReturnType<typeof played>>
    beforeAll(async () => {
      meshes = await played(objective)
    })
    const errors = (at: number) => meshes.map(({ answers }) => errorOf(answers[at]!))

    test('the third answer is predicted by what the first ones took', () => {
      expect(median(errors(0))).toBeGreaterThan(0.1)
      expect(median(errors(2))).toBeLessThan(objective === 'latency' ? 0.02 : 0.05)
    })

    test('what is chosen then is as good as the best of all that could be', () => {
      const regrets = meshes.map(({ answers, bestMs }) => answers.at(-1)!.measuredMs / bestMs - 1)
      expect(median(regrets)).toBeLessThan(0.03)
      expect(Math.max(...regrets)).toBeLessThan(0.15)
    })
  }
)

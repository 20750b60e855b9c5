import type { Objective } from '../../node/api.ts'
import { HiddenMesh } from '../node/simulation/hidden-mesh.ts'
import { type Chosen, summary } from './regret-statistics.ts'

/** Answers, or batches, of which the source learns. */
export const ANSWERS = 6

/** What was chosen for every answer on meshes `[1, meshes]`, both objectives, by how many answers were before it. */
export async function playMeshes(meshes: number): Promise<Chosen[][]> {
  const rows: Chosen[][] = Array.from({ length: ANSWERS }, () => [])
  for (let seed = 1; seed <= meshes; seed++) {
    for (const objective of ['latency', 'throughput'] as const) {
      const answers = await playMesh(seed, objective)
      answers.forEach((row, i) => void rows[i]!.push(row))
    }
  }
  return rows
}

async function playMesh(seed: number, objective: Objective): Promise<Chosen[]> {
  const mesh = new HiddenMesh(seed)
  const tried = new HiddenMesh(seed)
  const bests = tried
    .candidates(objective)
    .map(candidate => tried.run(objective, candidate, false).measuredMs)
  const seenMs = Math.min(...bests)
  const chosen: Omit<Chosen, 'bestMs'>[] = []
  for (let i = 0; i < ANSWERS; i++) {
    chosen.push({ objective, ...mesh.run(objective, await mesh.chosen(objective), true) })
  }
  // What was learned may have led to a plan that no method had at first.
  const learned = mesh.candidates(objective).map(each => mesh.run(objective, each, false).measuredMs)
  const bestMs = Math.min(seenMs, ...learned, ...chosen.map(({ measuredMs }) => measuredMs))
  return chosen.map(row => ({ ...row, bestMs }))
}

/** One line an answer. */
export function describe(rows: readonly Chosen[][]): string[] {
  return rows.flatMap((row, i) =>
    (['latency', 'throughput'] as const).map(
      objective =>
        `answer ${i + 1}, ${objective}: ${summary(row.filter(each => each.objective === objective))}`
    )
  )
}

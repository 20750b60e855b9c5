// Chaos: `npm run chaos -- --rounds N --seed S [--lab]`. Disturbs answers of real nodes and holds each against its
// undisturbed twin; prints a line for each event and a table, and fails where anything was not as it must be.

import { bundledShare } from '../fixtures/nodes.ts'
import { prng } from '../fixtures/prng.ts'
import { labProblem } from '../lab/permitted.ts'
import { type CrowdOptions, crowd, crowdLine } from './crowd.ts'
import { LabMesh } from './lab-mesh.ts'
import { type ChaosMesh, KEEP_ALIVE_MS, whole } from './mesh.ts'
import { chaosOptions, USAGE } from './options.ts'
import { ProcessMesh } from './process-mesh.ts'
import { report } from './report.ts'
import { atRest, Baseline, noLeases } from './rest.ts'
import { drawRound, type Kind } from './round.ts'
import { series } from './series.ts'
import { Twins } from './twin.ts'

const NAMES = ['a', 'b', 'c', 'd', 'e']
/** Share of what the model needs: three devices hold it, so two of the five may be lost at once. */
const SHARE = 0.45
/** So many devices are asked at once. */
const SOURCES = 4
const LINK = { mbps: 1000, latencyMs: 0.25 }
const KINDS: readonly Kind[] = ['kill', 'kill', 'restart', 'hang', 'pause', 'source']
const CABLE_KINDS: readonly Kind[] = ['unplug', 'unplug', 'slow']

const say = (line: string) => process.stdout.write(`${line}\n`)

try {
  process.exitCode = await main()
} catch (error) {
  process.stderr.write(`chaos: ${(error as Error).message}\n${USAGE}`)
  process.exitCode = 2
}

async function main(): Promise<number> {
  const { rounds, seed, requests, lab } = chaosOptions(process.argv.slice(2))
  const problem = lab ? labProblem() : null
  if (problem !== null) throw new Error(problem)
  const random = prng(seed)
  await using alone = await ProcessMesh.create({ names: ['alone'], memoryBytes: 2 ** 30, holders: 1 })
  const twins = new Twins(alone.devices[0]!)
  const devices = { names: NAMES, memoryBytes: await bundledShare(SHARE), holders: 3 }
  const problems: string[] = []
  {
    await using mesh = await (lab ? LabMesh.create({ ...devices, link: LINK }) : ProcessMesh.create(devices))
    const kinds = lab ? [...KINDS, ...CABLE_KINDS] : KINDS
    const drawn = Array.from({ length: rounds }, () => drawRound(random, NAMES.length, kinds))
    const result = await series(mesh, twins, drawn, say)
    problems.push(...result.problems)
    say(report(result.played))
    if (requests > 0) problems.push(...(await together(mesh, twins, { requests, sources: SOURCES, random })))
  }
  for (const problem of problems) say(`PROBLEM ${problem}`)
  return problems.length === 0 ? 0 : 1
}

/** Many at once; afterwards every lease is given back and every process is as it was. */
async function together(mesh: ChaosMesh, twins: Twins, options: CrowdOptions): Promise<string[]> {
  await whole(mesh)
  const baseline = new Baseline()
  baseline.note(mesh)
  const result = await crowd(mesh, twins, options)
  say(crowdLine(result, options))
  try {
    await atRest(mesh, baseline)
    await noLeases(mesh, KEEP_ALIVE_MS + 30_000)
    await atRest(mesh, baseline)
  } catch (error) {
    return [...result.problems, (error as Error).message]
  }
  for (const device of mesh.devices) say(`  ${device.name}: ${baseline.change(device)}`)
  return result.problems
}

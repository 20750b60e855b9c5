/**
 * How much longer one waits with the placement that is chosen than with the best of all methods, strategies and numbers of
 * micro-batches that were measured on the same mesh, and how far predictions are off, by how many answers taught them.
 *
 *     npm run bench:regret -- [--meshes N] [--from SEED] [--out FILE]
 *     npm run bench:regret -- --simulated N
 *
 * Each mesh is three real nodes in network namespaces whose processors, memory and links are drawn by lot (`--from` says with
 * which seed it begins). They are asked when each has timed its layers twice, at its start and calmly. Rows are printed as they
 * are measured: a token's ms, predicted and measured, of one sequence or of all together. What is held against each other are
 * placements, each by the median of all rows that ran on it: of many rows the luckiest would be better than the others by chance
 * alone. `--out` takes one line of JSON a mesh; meshes that it holds are not measured again, so a run that was stopped goes on, and
 * the summary is of all that it holds. A mesh takes some two minutes. Needs Linux, the right to make namespaces and control groups,
 * and a machine with little else to do.
 *
 * `--simulated` plays meshes event by event instead, whose devices and links take other times than the cost model knows: the
 * same each time, on any machine. What they hide nobody can know before the first answer, so its error is that of the lot.
 */
import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Installed } from '../consumer/installed.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { storeRandomModel } from '../fixtures/stored-model.ts'
import { labProblem } from '../lab/permitted.ts'
import { type MeshResult, meshOf, playLab, resultLine } from './regret-lab.ts'
import { describe, playMeshes } from './regret-simulated.ts'
import { type Chosen, summary } from './regret-statistics.ts'

/** 100M parameters at 4 bits: a few ms a token, as models of billions take on devices with room for them. */
const MODEL = 'measured'
const SHAPE = { decoderLayers: 10, hiddenSize: 1024, ffnSize: 2816, heads: 16, kvHeads: 4 }

const { values } = commandOptions(import.meta.url, {
  options: {
    meshes: { type: 'string', default: '3' },
    from: { type: 'string', default: '1' },
    out: { type: 'string' },
    simulated: { type: 'string' }
  }
})
const say = (line: string) => process.stdout.write(`${line}\n`)

const problem = labProblem()
if (values.simulated !== undefined) {
  say(
    "of the first answers, the error is what these meshes' lot hides (layers by 0.8 to 1.5, hops by up to 0.8 ms): see --meshes"
  )
  say(describe(await playMeshes(Number(values.simulated))).join('\n'))
} else if (problem !== null) say(`skipped: ${problem}`)
else await inLab()

async function inLab(): Promise<void> {
  const results = await known()
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-regret-'))
  try {
    const storeDir = join(folder, 'store')
    // A first token has the start of programs in it, which takes twice as long of sources.
    await using installed = await Installed.pack()
    const cli = join(installed.dir, 'node_modules/edgeshard/node/cli/edgeshard.mjs')
    const manifest = await storeRandomModel(storeDir, MODEL, SHAPE, { bits: 4, blockSize: 32 })
    const first = Number(values.from)
    for (let seed = first; seed < first + Number(values.meshes); seed++) {
      if (results.some(({ mesh }) => mesh.seed === seed)) continue
      const mesh = meshOf(seed)
      say(`mesh ${seed}: processors ${mesh.cpus.join(' ')}, memory ${mesh.shares.join(' ')} of the model`)
      say(
        `  ${mesh.links.map(({ between, mbps, latencyMs }) => `${between.join('-')} ${mbps} Mbps ${latencyMs} ms`).join(', ')}`
      )
      const result = await playLab(mesh, { manifest, model: MODEL, storeDir, cli }, say)
      results.push(result)
      if (values.out !== undefined) await appendFile(values.out, `${JSON.stringify(result)}\n`)
      say(resultLine(result))
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
  for (const line of byAnswer(results)) say(line)
}

/** What an earlier run has written. */
async function known(): Promise<MeshResult[]> {
  if (values.out === undefined) return []
  const text = await readFile(values.out, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return ''
    throw error
  })
  return text
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line) as MeshResult)
}

function byAnswer(results: readonly MeshResult[]): string[] {
  return (['latency', 'throughput'] as const).flatMap(objective => {
    const own = results.map(({ chosen }) => chosen.filter(each => each.objective === objective))
    const answers = Math.max(0, ...own.map(({ length }) => length))
    return Array.from({ length: answers }, (_, i) => {
      const rows = own.flatMap((chosen): Chosen[] => (chosen[i] === undefined ? [] : [chosen[i]]))
      return `${objective}, answer ${i + 1} of ${rows.length} meshes: ${summary(rows)}`
    })
  })
}

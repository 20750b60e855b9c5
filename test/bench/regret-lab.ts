/** One mesh in the lab by lot, what a source chooses on it, and what else could be chosen, all of it measured. */
import { execFile } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Manifest } from '../../models/manifest.ts'
import type { GenerateResult, LayerProfile, MeshState, Objective } from '../../node/api.ts'
import type { BenchReport, MeasuredRow } from '../../node/bench/types.ts'
import { RECONSIDER_MS } from '../../node/constants.ts'
import { predictedFirstMs } from '../../node/first-token.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { prng } from '../fixtures/prng.ts'
import { shareBytes } from '../fixtures/stored-model.ts'
import { Lab } from '../lab/lab.ts'
import { members } from '../lab/members.ts'
import { meshReady } from '../lab/ready.ts'
import { type Chosen, percent, regretOf, withBest } from './regret-statistics.ts'

const NAMES = ['a', 'b', 'c'] as const
/** Processors that all devices have together, on a machine of two. */
const ALL_CPUS = 1.5
/** Shortest period that the kernel takes for the smallest share: stages are slow all the time, not in bursts. */
const QUOTA_US = 1000
export const SEQUENCES = 4
const MICRO_BATCHES = [1, 2, 4]
const NEW_TOKENS = 48
/** Answers, or batches, that are asked for; each teaches the next ones. */
const ANSWERS = 5
const BATCHES = 4
/** An answer that ends sooner says nothing of its tokens, and another one is asked for. */
const LEAST_TOKENS = 16
const MAX_TRIES = 20
/** Batches that only the second timing of a device's layers has, and those of the first. */
const CALM_BATCHES = 5
const CALM_TIMEOUT_MS = 180_000
const CALM_POLL_MS = 2_000
const SPLIT_METHODS = 'edge-solo,cloud-edge-even,cloud-edge-opt,edgeshard-even,paper-dp'

/** What a mesh is made of. */
export interface LabMesh {
  seed: number
  cpus: number[]
  /** Of what the model needs with one sequence. */
  shares: number[]
  links: { between: [string, string]; mbps: number; latencyMs: number }[]
}

/** What was found on one mesh; `chosen` in the order of the answers. */
export interface MeshResult {
  mesh: LabMesh
  chosen: Chosen[]
}

/** A mesh by lot: processors, memory and links all differ, and together the devices hold the model. */
export function meshOf(seed: number): LabMesh {
  const random = prng(seed)
  const even = (low: number, high: number) => low + (high - low) * random()
  const spread = (low: number, high: number) => Math.exp(even(Math.log(low), Math.log(high)))
  const round = (value: number) => Number(value.toPrecision(2))
  const parts = NAMES.map(() => even(0.3, 1))
  const whole = parts.reduce((sum, part) => sum + part)
  return {
    seed,
    cpus: parts.map(part => round((ALL_CPUS * part) / whole)),
    shares: NAMES.map(() => round(even(1.5, 4))),
    links: [
      ['a', 'b'],
      ['a', 'c'],
      ['b', 'c']
    ].map(([from, to]) => ({
      between: [from!, to!],
      mbps: round(spread(5, 500)),
      latencyMs: round(spread(0.2, 5))
    }))
  }
}

/**
 * @param settings `cli`: the command line of every device
 * @param onLine one line for people, as soon as something is measured
 */
export async function playLab(
  mesh: LabMesh,
  { manifest, model, storeDir, cli }: { manifest: Manifest; model: string; storeDir: string; cli: string },
  onLine: (line: string) => void
): Promise<MeshResult> {
  const hosts = NAMES.map((name, i) => ({
    name,
    memory: String(shareBytes(manifest, mesh.shares[i]!)),
    cpus: mesh.cpus[i]!,
    cpuPeriodUs: Math.max(QUOTA_US, Math.round(QUOTA_US / mesh.cpus[i]!))
  }))
  await using lab = await Lab.create({
    hosts,
    links: { default: { mbps: 0, latencyMs: 0 }, pairs: mesh.links }
  })
  // Every device holds the weights, as after the first answer on it: slow links carry hidden states alone.
  for (const name of NAMES) {
    lab.use(name, cli)
    await mkdir(lab.home(name), { recursive: true })
    await promisify(execFile)('cp', ['-rl', storeDir, join(lab.home(name), 'store')])
  }
  await members(lab, NAMES)
  await meshReady(lab, 'a', NAMES.length)
  await timedCalmly(lab)
  const run: LabRun = { lab, cli, model, onLine }
  const latency = await latencyOf(run)
  const throughput = await throughputOf(run)
  return { mesh, chosen: [...latency, ...throughput] }
}

/**
 * Waits until every device has timed its layers once more, which it does a while after its start, as devices have that are up for
 * longer than a minute: while one does, it slows the others down, whose processors it shares here.
 */
async function timedCalmly(lab: Lab): Promise<void> {
  const endMs = performance.now() + deadlineMs(CALM_TIMEOUT_MS)
  for (;;) {
    const { self, peers } = JSON.parse(await lab.cli('a', ['peers', '--json'])) as MeshState
    const timed = [self, ...peers].flatMap(({ profiles }) => Object.values(profiles))
    const isCalm = ({ decoder }: LayerProfile) =>
      Object.keys(decoder?.decodeMsByBatch ?? {}).length >= CALM_BATCHES
    if (timed.length === NAMES.length && timed.every(isCalm)) return
    if (performance.now() > endMs) throw new Error('some devices have not timed their layers a second time')
    await delay(CALM_POLL_MS)
  }
}

interface LabRun {
  lab: Lab
  cli: string
  model: string
  onLine: (line: string) => void
}

/** Answers as a client asks for them, each placed as the source then likes; then every method's placement. */
async function latencyOf(run: LabRun): Promise<Chosen[]> {
  const { lab, model, onLine } = run
  const figures: Figure[] = []
  for (let seed = 1; figures.length < ANSWERS && seed <= MAX_TRIES; seed++) {
    // A better placement is looked for no more often.
    if (seed > 1) await delay(RECONSIDER_MS)
    const settings = ['--model', model, '--max-tokens', String(NEW_TOKENS), '--seed', String(seed)]
    const prompt = 'Tell me a story about a robot and a lamp.'
    const answer = await lab.cli('a', ['run', prompt, '--json', '--temperature', '1', ...settings])
    const { predicted, ttftMs, tpotMs, plan, tokens } = JSON.parse(answer) as GenerateResult
    if (tokens.length < LEAST_TOKENS) continue
    const first = { predictedMs: predictedFirstMs(predicted), measuredMs: ttftMs }
    const placement = placed(plan.stages)
    figures.push({ predictedMs: predicted.tpotMs, measuredMs: tpotMs, first, placement })
    onLine(
      `  latency     chosen ${figures.length}                       ${pair(predicted.tpotMs, tpotMs)}  ${placement}, first token ${pair(first.predictedMs, first.measuredMs)}`
    )
  }
  const options = ['--methods', `edgeshard,${SPLIT_METHODS}`, '--repeats', '2']
  const rows = await benched(run, 'latency', options)
  return chosenOf('latency', figures, rows)
}

/** Batches of what the planner chooses; then its plan and the other methods' in other micro-batches and the other strategy. */
async function throughputOf(run: LabRun): Promise<Chosen[]> {
  const figures: Figure[] = []
  const batch = ['--batch', String(SEQUENCES)]
  for (let i = 0; i < BATCHES; i++) {
    if (i > 0) await delay(RECONSIDER_MS)
    const options = ['--methods', 'edgeshard', '--strategies', 'no-bubble', '--repeats', '1', ...batch]
    const rows = await benched(run, 'throughput', options)
    figures.push(...rows.map(figureOf))
  }
  const others: MeasuredRow[] = []
  for (const count of MICRO_BATCHES) {
    const cut = [
      '--micro-batches',
      String(count),
      '--strategies',
      count === 1 ? 'no-bubble' : 'no-bubble,bubble'
    ]
    others.push(
      ...(await benched(run, 'throughput', ['--methods', 'edgeshard', '--repeats', '1', ...batch, ...cut]))
    )
  }
  const methods = ['--methods', SPLIT_METHODS, '--strategies', 'no-bubble', '--repeats', '1', ...batch]
  others.push(...(await benched(run, 'throughput', methods)))
  return chosenOf('throughput', figures, others)
}

async function benched(
  { lab, cli, model, onLine }: LabRun,
  objective: Objective,
  options: string[]
): Promise<MeasuredRow[]> {
  const what = ['--model', model, '--objective', objective, '--new-tokens', String(NEW_TOKENS)]
  const args = [cli, 'bench', '--json', '--home', lab.home('a'), ...what, ...options]
  const { rows } = JSON.parse(await lab.background('a', process.execPath, args)) as BenchReport
  return rows.flatMap(row => {
    const { method, strategy } = row
    const called = `  ${objective.padEnd(11)} ${method} ${strategy ?? ''}`
    if (row.outcome !== 'measured') {
      onLine(`${called.padEnd(42)} ${row.reason}`)
      return []
    }
    const cut = objective === 'throughput' ? ` in ${row.microBatches}` : ''
    onLine(`${`${called}${cut}`.padEnd(42)}${pair(predictedOf(row), measuredOf(row))}  ${placed(row.stages)}`)
    return [row]
  })
}

/** What was chosen, and on which placement: where it is, and how its sequences follow each other. */
interface Figure extends Pick<Chosen, 'predictedMs' | 'measuredMs' | 'first'> {
  placement: string
}

function chosenOf(objective: Objective, figures: readonly Figure[], rows: readonly MeasuredRow[]): Chosen[] {
  return withBest(figures, rows.map(figureOf)).map(figure => ({ objective, ...figure }))
}

function figureOf(row: MeasuredRow): Figure {
  const { objective, strategy, microBatches, stages } = row
  const cut = objective === 'throughput' ? ` ${microBatches === 1 ? '' : strategy} in ${microBatches}` : ''
  const placement = `${placed(stages)}${cut}`
  return { predictedMs: predictedOf(row), measuredMs: measuredOf(row), placement }
}

/** Of a token of one sequence, or of all together, as the rate says. */
function measuredOf({ objective, tpotMs, tokensPerSecond }: MeasuredRow): number {
  return objective === 'latency' ? tpotMs.median : 1000 / tokensPerSecond.median
}

function predictedOf({ objective, predicted }: MeasuredRow): number {
  return objective === 'latency' ? predicted.tpotMs : 1000 / predicted.tokensPerSecond
}

function placed(stages: readonly { name: string; layers: readonly [number, number] }[]): string {
  return stages.map(({ name, layers: [start, end] }) => `${name} [${start}, ${end})`).join(' > ')
}

function pair(predictedMs: number, measuredMs: number): string {
  return `${predictedMs.toFixed(2).padStart(8)} ${measuredMs.toFixed(2).padStart(8)}`
}

/** The mesh and the last choice of each objective, in one line. */
export function resultLine({ mesh, chosen }: MeshResult): string {
  const last = (['latency', 'throughput'] as const).flatMap(objective => {
    const row = chosen.findLast(each => each.objective === objective)
    return row === undefined
      ? []
      : [
          `${objective} ${pair(row.predictedMs, row.measuredMs)} best ${row.bestMs.toFixed(2)} regret ${percent(regretOf(row))}`
        ]
  })
  return `mesh ${mesh.seed}: ${last.join('; ')}`
}

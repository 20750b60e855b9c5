/**
 * Predicted against measured time a token over lab scenarios that differ in bandwidth, delay, stages and processors.
 *
 *     npm run bench:predictions -- [--only NAME]... [--json]
 *
 * Each scenario is a fresh mesh of real nodes in network namespaces. Its first answer is predicted from profiles and
 * link estimates alone; the later ones with what the answers before have taught the cost model. Every answer is
 * predicted before its first token. Needs Linux and the right to make namespaces, and a machine with little else to do.
 */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Manifest } from '../../models/manifest.ts'
import type { GenerateResult, MeshState } from '../../node/api.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { until } from '../fixtures/nodes.ts'
import { shareBytes, storeRandomModel } from '../fixtures/stored-model.ts'
import { Lab } from '../lab/lab.ts'
import { labProblem } from '../lab/permitted.ts'
import { quantile } from './statistics.ts'

interface Scenario {
  name: string
  stages: 1 | 2 | 3
  mbps: number
  latencyMs: number
  /** Processors of each device. */
  cpus?: number[]
}

const SCENARIOS: Scenario[] = [
  { name: 'one device', stages: 1, mbps: 0, latencyMs: 0 },
  { name: 'one device, half a processor', stages: 1, mbps: 0, latencyMs: 0, cpus: [0.5] },
  { name: 'two, cable', stages: 2, mbps: 1000, latencyMs: 0.25 },
  { name: 'two, 100 Mbps', stages: 2, mbps: 100, latencyMs: 1 },
  { name: 'two, 50 Mbps, 5 ms', stages: 2, mbps: 50, latencyMs: 5 },
  { name: 'two, 50 Mbps, 10 ms', stages: 2, mbps: 50, latencyMs: 10 },
  { name: 'two, 10 Mbps', stages: 2, mbps: 10, latencyMs: 2 },
  { name: 'two, 1 Mbps', stages: 2, mbps: 1, latencyMs: 2 },
  { name: 'two, the second slow', stages: 2, mbps: 1000, latencyMs: 0.25, cpus: [1, 0.3] },
  { name: 'three, cable', stages: 3, mbps: 1000, latencyMs: 0.25 },
  { name: 'three, 50 Mbps, 5 ms', stages: 3, mbps: 50, latencyMs: 5 },
  { name: 'three, 50 Mbps, 10 ms', stages: 3, mbps: 50, latencyMs: 10 },
  { name: 'three, 10 Mbps', stages: 3, mbps: 10, latencyMs: 2 },
  { name: 'three, uneven, 20 Mbps', stages: 3, mbps: 20, latencyMs: 3, cpus: [1, 0.5, 0.3] }
]
/** 170M parameters at 4 bits: a few ms a token, as models of billions take on devices with room for them. */
const MODEL = 'measured'
const SHAPE = { decoderLayers: 14, hiddenSize: 1024, ffnSize: 2816, heads: 16, kvHeads: 4 }
/** Share of the model's memory that each device gives, so that it takes so many of them. */
const SHARES = { 1: 2, 2: 0.6, 3: 0.42 }
const NAMES = ['a', 'b', 'c']
/** Nodes time their layers one after the other: devices have processors of their own, hosts of a lab have not. */
const PROFILE_MS = 1500
const TEACHING = 3
const JUDGED = 3

const { values } = commandOptions(import.meta.url, {
  options: { only: { type: 'string', multiple: true }, json: { type: 'boolean', default: false } }
})
const say = (line: string) => process.stdout.write(`${line}\n`)

/** One answer's prediction and what it took, ms a token. */
interface Row {
  predictedMs: number
  measuredMs: number
  error: number
}

async function play(
  { stages, mbps, latencyMs, cpus }: Scenario,
  manifest: Manifest,
  storeDir: string
): Promise<{ rows: Row[]; first: GenerateResult; last: GenerateResult }> {
  const memory = String(shareBytes(manifest, SHARES[stages]))
  // A lab has two hosts at least; nothing runs on the other.
  const hosts = NAMES.slice(0, Math.max(2, stages)).map((name, i) => ({
    name,
    memory,
    ...(cpus?.[i] !== undefined && { cpus: cpus[i] })
  }))
  await using lab = await Lab.create({ hosts, links: { default: { mbps, latencyMs } } })
  // Every device holds the weights, as after the first answer on it: slow links carry hidden states alone.
  for (const { name } of hosts) {
    await mkdir(lab.home(name), { recursive: true })
    await promisify(execFile)('cp', ['-rl', storeDir, join(lab.home(name), 'store')])
  }
  await lab.up('a')
  await setTimeout(PROFILE_MS)
  for (const name of NAMES.slice(1, stages)) {
    await lab.cli(name, ['join'], await lab.cli('a', ['invite']))
    await lab.up(name)
    await setTimeout(PROFILE_MS)
  }
  await until(async () => {
    await setTimeout(500)
    const { self, peers, links } = JSON.parse(await lab.cli('a', ['peers', '--json'])) as MeshState
    const timed = [self, ...peers].filter(({ profiles }) => Object.keys(profiles).length > 0)
    return timed.length === stages && links.length === stages * (stages - 1)
  })
  const rows: Row[] = []
  const answers: GenerateResult[] = []
  for (let seed = 1; seed <= TEACHING + JUDGED; seed++) {
    const answer = await ask(lab, seed)
    answers.push(answer)
    const { predicted, tpotMs, plan } = answer
    // The source may hold the tail too.
    const devices = new Set(plan.stages.map(({ peerId }) => peerId)).size
    if (devices !== stages) throw new Error(`${devices} devices instead of ${stages}`)
    rows.push({
      predictedMs: predicted.tpotMs,
      measuredMs: tpotMs,
      error: Math.abs(predicted.tpotMs - tpotMs) / tpotMs
    })
  }
  return { rows, first: answers[0]!, last: answers.at(-1)! }
}

async function ask(lab: Lab, seed: number): Promise<GenerateResult> {
  const settings = ['--model', MODEL, '--max-tokens', '64', '--temperature', '1', '--seed', String(seed)]
  const prompt = 'Tell me a story about a robot and a lamp.'
  return JSON.parse(await lab.cli('a', ['run', prompt, '--json', ...settings]))
}

/** `1.9/0.2+1.4/0.3 | 0.6+0.5`: compute of each stage and what it took beside that, then each link. */
function parts(
  stages: readonly { computeMs: number; waitMs?: number }[],
  linksMs: readonly number[]
): string {
  const each = stages.map(({ computeMs, waitMs = 0 }) => `${computeMs.toFixed(2)}/${waitMs.toFixed(2)}`)
  return `${each.join('+')} | ${linksMs.map(ms => ms.toFixed(2)).join('+')}`
}

const problem = labProblem()
if (problem !== null) say(`skipped: ${problem}`)
else {
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-predictions-'))
  try {
    await predictions(join(folder, 'store'))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function predictions(storeDir: string): Promise<void> {
  const manifest = await storeRandomModel(storeDir, MODEL, SHAPE, { bits: 4, blockSize: 32 })
  const judged: Row[] = []
  const firsts: Row[] = []
  say('ms a token                        first answer            after three answers')
  say('                              predicted  measured  error  predicted  measured  error')
  for (const scenario of SCENARIOS.filter(({ name }) => values.only?.includes(name) ?? true)) {
    const { rows, first, last } = await play(scenario, manifest, storeDir)
    const taught = rows.slice(TEACHING)
    firsts.push(rows[0]!)
    judged.push(...taught)
    const middle = taught.toSorted((a, b) => a.error - b.error)[taught.length >> 1]!
    say(`${scenario.name.padEnd(29)}${figures(rows[0]!)}${figures(middle)}`)
    for (const [called, { predicted, measured }] of Object.entries({ first, last })) {
      say(`    ${called.padEnd(5)} predicted ${parts(predicted.stages, predicted.linksMs)}`)
      say(`          measured  ${parts(measured.stages, measured.linksMs)}`)
    }
    const { predicted, ttftMs } = first
    const { waitedMs = 0, loadMs = 0 } = predicted
    const firstParts = [waitedMs, loadMs, predicted.ttftMs].map(ms => ms.toFixed(0)).join(' + ')
    say(`    first token: waited, to load, prompt ${firstParts} predicted, measured ${ttftMs.toFixed(0)}`)
    if (values.json) say(JSON.stringify({ scenario, rows, first, last }))
  }
  say(
    `\nmedian error of the first answers ${medianError(firsts)}, of ${judged.length} later ones ${medianError(judged)}`
  )
}

function figures({ predictedMs, measuredMs, error }: Row): string {
  return `${predictedMs.toFixed(2).padStart(10)} ${measuredMs.toFixed(2).padStart(9)} ${`${(100 * error).toFixed(1)} %`.padStart(7)}`
}

function medianError(rows: Row[]): string {
  const errors = rows.map(({ error }) => error)
  return `${(100 * quantile(errors, 0.5)).toFixed(1)} %`
}

/**
 * The paper's experiments on this software: `edgeshard bench` in the lab, over a sweep of bandwidths and of sources.
 *
 *     npm run bench:lab -- [--part NAME]... [--seconds N] [--list] [--report]
 *
 * Each part is a fresh mesh of real nodes; its figures go to test/lab/report/NAME.json, and all that are there make
 * test/lab/REPORT.md with its plots (`--report`: only that). Methods that a part's file has are not measured again, so
 * a run that was stopped, or that was given only so many seconds, goes on where it ended. Needs Linux, the right to
 * make namespaces and control groups, and a machine with little else to do; a part takes two to five minutes.
 */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Manifest } from '../../models/manifest.ts'
import { kvCacheBytes, leaseBytes, weightBytes, workingBytes } from '../../models/runtime/memory.ts'
import type { Objective } from '../../node/api.ts'
import type { BenchReport, BenchRow } from '../../node/bench/types.ts'
import type { Method } from '../../node/plan/index.ts'
import { commandOptions } from '../fixtures/command-options.ts'
import { CONTEXT_TOKENS } from '../fixtures/nodes.ts'
import { randomStore } from '../fixtures/random-store.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'
import {
  DEVICES,
  LATENCY_MS,
  METHOD_NAMES,
  MODELS,
  OTHER_MBPS,
  PARTS,
  type Part,
  type PartResult,
  partName
} from './bench-parts.ts'
import { REPORT_DIR, writeReport } from './bench-report.ts'
import { Lab } from './lab.ts'
import { members } from './members.ts'
import { labProblem } from './permitted.ts'
import { meshReady } from './ready.ts'

const CLI = new URL('../../node/cli/edgeshard.mjs', import.meta.url).pathname
/** Shortest period that the kernel takes for the smallest share: stages are slow all the time, not in bursts. */
const QUOTA_US = 1000
/** Rounds in which EdgeShard may learn and try other placements before it is measured. */
const SETTLE_ROUNDS = 6
/** What Figure 10 is about, at its bandwidth. */
const BUBBLES_MBPS = 1

const { values } = commandOptions(import.meta.url, {
  options: {
    part: { type: 'string', multiple: true },
    seconds: { type: 'string', default: '3600' },
    list: { type: 'boolean', default: false },
    report: { type: 'boolean', default: false }
  }
})
const say = (line: string) => process.stderr.write(`${line}\n`)
let running: Lab | undefined
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, async () => {
    if (running === undefined) process.exit(1)
    // What is being measured fails then, and all the rest is put away on the way out.
    await running.stop()
  })
}
const endMs = performance.now() + 1000 * Number(values.seconds)
const problem = labProblem()
if (values.list) say(PARTS.map(partName).join('\n'))
else if (values.report) await writeReport()
else if (problem !== null) say(`skipped: ${problem}`)
else {
  const asked = PARTS.filter(part => values.part?.includes(partName(part)) ?? true)
  const known = await Promise.all(asked.map(readPart))
  for (const [at, part] of asked.entries()) {
    const missing = stepsOf(part).filter(step => !holds(known[at], step))
    if (missing.length === 0 || performance.now() > endMs) continue
    say(partName(part))
    await play(part, missing, known[at])
    await writeReport()
  }
}

/** A row or two of one method, by one call of the command. */
interface Step {
  objective: Objective
  method: Method
  more: string[]
}

function stepsOf({ mbps }: Part): Step[] {
  const strategies = mbps === BUBBLES_MBPS ? 'no-bubble,bubble' : 'no-bubble'
  const options = {
    latency: ['--repeats', '2'],
    throughput: ['--repeats', '1', '--batch', 'max', '--strategies', strategies]
  }
  return (['latency', 'throughput'] as const).flatMap(objective =>
    METHOD_NAMES.map(({ method }) => {
      const settle = method === 'edgeshard' ? ['--settle', String(SETTLE_ROUNDS)] : []
      return { objective, method, more: [...options[objective], ...settle] }
    })
  )
}

function holds(result: PartResult | undefined, { objective, method }: Step): boolean {
  return result?.reports[objective]?.rows.some(row => row.method === method) ?? false
}

async function play(part: Part, steps: readonly Step[], before: PartResult | undefined): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'edgeshard-lab-'))
  try {
    const small = await randomStore(join(folder, 'small'), MODELS.small)
    const manifest =
      part.model === 'small' ? small : await randomStore(join(folder, part.model), MODELS[part.model])
    const hosts = DEVICES.map(({ name, cpus, memoryShare }) => {
      const memory = String(Math.ceil(memoryShare * neededBytes(small)))
      return { name, cpus, memory, cpuPeriodUs: Math.max(QUOTA_US, Math.round(QUOTA_US / cpus)) }
    })
    const between: [string, string] = [part.source, 'cloud']
    const pairs = [{ between, mbps: part.mbps, latencyMs: LATENCY_MS }]
    const links = { default: { mbps: OTHER_MBPS, latencyMs: LATENCY_MS }, pairs }
    await using lab = await Lab.create({ hosts, links })
    running = lab
    for (const { name } of DEVICES) {
      await cp(join(folder, part.model), join(lab.home(name), 'store'), { recursive: true })
    }
    const names = DEVICES.map(({ name }) => name)
    await members(lab, [part.source, ...names.filter(name => name !== part.source)])
    await meshReady(lab, part.source, names.length)
    let result = before ?? {
      part,
      weightBytes: weightBytes(manifest),
      sequenceBytes: sequenceBytes(manifest),
      reports: {}
    }
    for (const step of steps) {
      if (performance.now() > endMs) break
      result = withReport(result, step.objective, await measure(lab, part, step))
      await writePart(result)
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** A source needs so much, which is planned for as if it had two stages. */
function neededBytes(manifest: Manifest): number {
  const room = { slots: 1, maxTokens: CONTEXT_TOKENS }
  const whole: [number, number] = [0, manifest.layers.length]
  const { weightBytes, ownBytes } = leaseBytes(manifest, whole, room)
  return weightBytes + ownBytes + workingBytes(manifest, whole, room)
}

function sequenceBytes({ shape, layers }: Manifest): number {
  return kvCacheBytes(shape, [0, layers.length], { slots: 1, maxTokens: CONTEXT_TOKENS })
}

function withReport(result: PartResult, objective: Objective, report: BenchReport): PartResult {
  const rows = [...(result.reports[objective]?.rows ?? []), ...report.rows]
  return { ...result, reports: { ...result.reports, [objective]: { ...report, rows } } }
}

async function measure(lab: Lab, { source }: Part, { objective, method, more }: Step): Promise<BenchReport> {
  const text = hasSharedData ? ['--text', sharedData('text/wikitext-2-test.txt')] : []
  const what = ['--objective', objective, '--methods', method, '--cloud', 'cloud', ...more]
  const args = [CLI, 'bench', '--json', '--home', lab.home(source), ...what, ...text]
  const report = JSON.parse(await lab.background(source, process.execPath, args)) as BenchReport
  for (const row of report.rows)
    say(`  ${row.objective} ${row.method} ${row.strategy ?? ''}: ${figureOf(row)}`)
  return report
}

function figureOf(row: BenchRow): string {
  if (row.outcome !== 'measured') return row.reason
  const { tpotMs, tokensPerSecond, batch, microBatches, ratio, stages } = row
  const placed = stages.map(({ name, layers }) => `${name} [${layers}]`).join(' ')
  return `${tpotMs.median.toFixed(1)} ms a token, ${tokensPerSecond.median.toFixed(1)} tokens/s, ${batch} in ${microBatches}, ratio ${ratio.tpot.toFixed(2)}, ${placed}`
}

async function readPart(part: Part): Promise<PartResult | undefined> {
  const text = await readFile(fileOf(part), 'utf8').catch(() => undefined)
  return text === undefined ? undefined : (JSON.parse(text) as PartResult)
}

async function writePart(result: PartResult): Promise<void> {
  await mkdir(REPORT_DIR, { recursive: true })
  await writeFile(fileOf(result.part), `${JSON.stringify(result, null, 1)}\n`)
}

function fileOf(part: Part): string {
  return join(REPORT_DIR, `${partName(part)}.json`)
}

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { bench } from '../../bench/bench.ts'
import { casesOf } from '../../bench/cases.ts'
import { plotsOf } from '../../bench/plots.ts'
import { renderBench } from '../../bench/table.ts'
import type { BenchApi, BenchCase, BenchReport, BenchRow } from '../../bench/types.ts'
import type { Client } from '../../client/index.ts'
import { formatMs } from '../../units.ts'
import { connectNode } from '../api-client.ts'
import { addMeasureOptions, type MeasureOptions, optionsOf } from '../bench-options.ts'
import { InfeasibleError, InputError } from '../errors.ts'
import { clean, jsonLine } from '../format.ts'
import { homeDir } from '../home.ts'
import { interruptSignal } from '../interrupt.ts'

interface BenchCommandOptions extends MeasureOptions {
  svg?: string
  json?: boolean
}

/** `edgeshard bench`: how fast this mesh is, method by method. */
export function benchCommand(): Command {
  const command = new Command('bench').description(
    "Measure the mesh with the paper's workload: every method, latency and throughput."
  )
  return addMeasureOptions(command)
    .option('--svg <dir>', 'draw the figures into files of this folder')
    .option('--json', 'one JSON document on stdout instead of tables')
    .addHelpText(
      'after',
      `
Every answer has exactly the tokens asked for: end-of-turn tokens do not end it, and one that ends early is no figure. Greedy
sampling. tokens/s counts while all sequences decode, by when the node drew each token, not when it was read here; "with
prefill" counts from the first request. busy %: share of the time in which each stage computed.

All rows take minutes: 50 of the bundled model on two devices some three and a half. A line a row on stderr says how far it is.

Examples:
  edgeshard bench
  edgeshard bench --objective latency --methods edgeshard,edge-solo --repeats 5
  edgeshard bench --text wiki.test.tokens --batch 1,8,max --svg figures --json > bench.json

Exit status: 0 measured (rows that do not fit say why), 1 failure, 2 bad input, 3 no row fits.`
    )
    .action(run)
}

async function run(options: BenchCommandOptions): Promise<void> {
  const { signal, dispose } = interruptSignal()
  try {
    const { json = false, svg } = options
    const benchOptions = optionsOf(options)
    const home = homeDir(options.home)
    const { node, close } = await connectNode({ ...options, home }, signal)
    try {
      const onRow = progressOf(casesOf(benchOptions).length)
      const report = await bench(apiOf(node, options.model), benchOptions, { signal, onRow })
      process.stdout.write(json ? jsonLine(report) : renderBench(report, process.stdout.columns))
      if (svg !== undefined) writePlots(svg, report)
      failWhereNothingFits(report)
    } finally {
      await close()
    }
  } finally {
    dispose()
  }
}

function apiOf(node: Client, model?: string): BenchApi {
  return {
    generate: (request, signal) => node.generate(request, { signal }),
    mesh: () => node.mesh(),
    scenario: needs => node.scenario(needs),
    countTokens: async text => (await node.tokenize(text, { model })).length
  }
}

/** One line a row on stderr: in a terminal it begins when the row does, in a pipe it comes whole. */
export function progressOf(
  rows: number,
  out: { isTTY?: boolean; write(text: string): unknown } = process.stderr
): (asked: BenchCase, row?: BenchRow) => void {
  let at = 0
  return (asked, row) => {
    const { objective, method, strategy, batch } = asked
    if (row === undefined) at++
    const what = [objective, method, strategy, batch].filter(part => part !== null).join(' ')
    const begun = `${at} of ${rows}: ${what} ... `
    if (row === undefined && out.isTTY) out.write(begun)
    if (row !== undefined) out.write(`${out.isTTY ? '' : begun}${clean(figureOf(row))}\n`)
  }
}

function figureOf(row: BenchRow): string {
  if (row.outcome !== 'measured') return row.reason
  if (row.objective === 'latency') return `${formatMs(row.tpotMs.median)} a token`
  return `${row.tokensPerSecond.median.toFixed(1)} tokens/s`
}

function failWhereNothingFits({ rows }: BenchReport): void {
  if (rows.some(({ outcome }) => outcome === 'measured')) return
  const [first] = rows
  const reason = first?.outcome === 'measured' ? '' : first?.reason
  if (rows.some(({ outcome }) => outcome === 'failed')) throw new Error(`no row was measured: ${reason}`)
  throw new InfeasibleError(`no row fits: ${reason}`)
}

function writePlots(dir: string, report: BenchReport): void {
  try {
    mkdirSync(dir, { recursive: true })
    for (const [file, svg] of Object.entries(plotsOf(report))) writeFileSync(join(dir, file), svg)
  } catch (error) {
    throw new InputError(`--svg: ${error instanceof Error ? error.message : String(error)}`)
  }
}

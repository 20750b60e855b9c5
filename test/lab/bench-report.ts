import { readdir, readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { spreadOf } from '../../node/bench/statistics.ts'
import { busyText, percent, stagesText } from '../../node/bench/table.ts'
import type { BenchRow, MeasuredRow } from '../../node/bench/types.ts'
import { formatBytes } from '../../node/units.ts'
import { type PipelineFigures, pipelineLines } from '../bench/pipeline-lines.ts'
import { figures, type PlotFile } from './bench-figures.ts'
import {
  DEVICES,
  LATENCY_MS,
  METHOD_NAMES,
  MODELS,
  type ModelName,
  OTHER_MBPS,
  type PartResult,
  rowOf
} from './bench-parts.ts'

export const REPORT_DIR = new URL('./report/', import.meta.url).pathname
const PIPELINE = join(REPORT_DIR, 'pipeline.json')
const REPORT = new URL('./REPORT.md', import.meta.url).pathname

/** Writes REPORT.md and its plots from the parts that have been measured. */
export async function writeReport(): Promise<void> {
  const files = (await readdir(REPORT_DIR)).filter(file => file.endsWith('mbps.json'))
  const texts = await Promise.all(files.map(file => readFile(join(REPORT_DIR, file), 'utf8')))
  const parts = texts
    .map(text => JSON.parse(text) as PartResult)
    .sort((a, b) => order(a).localeCompare(order(b)))
  const plots = figures(parts)
  for (const { file, svg } of plots) await writeFile(join(REPORT_DIR, file), svg)
  const sections = [head(parts), table4(parts), plotted(plots), await pipeline(), everyRow(parts)]
  await writeFile(REPORT, `${sections.flat().join('\n').trimEnd()}\n`)
}

function order({ part: { model, source, mbps } }: PartResult): string {
  return `${model === 'small' ? 0 : 1} ${source} ${String(mbps).padStart(4, '0')}`
}

function head(parts: readonly PartResult[]): string[] {
  const promised = parts[0]?.reports.latency?.workload
  const processor = [...new Set(cpus().map(({ model }) => model.trim()))].join(', ')
  return [
    "# The paper's experiments, measured on this software",
    '',
    'Made by `npm run bench:lab`, which writes this page, its plots and the figures behind them (`test/lab/report/`).',
    'Every figure comes from real nodes, started with the command line, that stream hidden states to each other over',
    'links held to the bandwidths named here; none comes from the simulator. Only `predicted` is the cost model.',
    '',
    '## Set-up, and what it does to the figures',
    '',
    `One machine with ${cpus().length} processors (${processor}) plays all devices: a network namespace each, joined by meshlink`,
    `(userspace, per-pair bandwidth and delay), one compute thread each, and a control group that holds each to a share of`,
    'one processor. Between the source and `cloud` the bandwidth is what a table or axis says; between all others it is',
    `${OTHER_MBPS} Mbps; one way takes ${LATENCY_MS} ms everywhere.`,
    '',
    '| device | processor | memory for stages | stands for |',
    '|---|---|---|---|',
    ...DEVICES.map(({ name, cpus: share, standsFor }) => {
      const budget = parts[0]?.reports.latency?.devices.find(device => device.name === name)?.budgetBytes
      return `| \`${name}\` | ${share} | ${budget === undefined ? '' : formatBytes(budget)} | ${standsFor} |`
    }),
    '',
    'Models of random weights, 8 bits, with the shape of a Llama (hidden size 1024, so a token is 4 KiB on the wire):',
    ...(Object.keys(MODELS) as ModelName[]).flatMap(name => {
      const found = parts.find(({ part }) => part.model === name)
      return found === undefined
        ? []
        : [
            `- \`${name}\`: ${MODELS[name].shape.decoderLayers} decoder layers, ${formatBytes(found.weightBytes)} of weights, ${formatBytes(found.sequenceBytes)} of KV cache a sequence.`
          ]
    }),
    '',
    ...(promised === undefined
      ? []
      : [
          `Workload: ${promised.promptTokens} tokens of WikiText-2 in, ${promised.newTokens} out, greedy, end-of-turn tokens ignored. Latency: one sequence, median of 2`,
          'answers after a warm-up. Throughput: the largest batch that the devices hold (at most 32), one round after a warm-up, tokens',
          'counted while all sequences decode. Weights lie at every device beforehand. EdgeShard learns from answers and tries what it then',
          'predicts to be better, so its rows come after rounds that are not counted, six at most, until three in a row ran on one placement.',
          ''
        ]),
    'Read with care:',
    '',
    '- A share of a processor is a quota (1 ms of every few), not a slower processor: a step shorter than what is left of',
    '  a period runs at full speed, so a device that computes now and then (latency mode) looks faster than one that',
    '  computes all the time (throughput mode).',
    '- Devices time their layers while their nodes start, and say what they can keep up under their quotas; the later predictions of',
    '  a part have learned from the answers before them, too. Rows of a part are in the order in which they were measured, with few',
    '  exceptions after a stop.',
    '- Network threads, meshlink and the client that asks take their time from the same processors. Shares add up to 1.65 of 2.',
    "- The devices and models are not the paper's. What can be compared is the order of the methods and how it changes with the",
    '  bandwidth, not the milliseconds.',
    ''
  ]
}

/** Latency and throughput of every method at the lowest bandwidth. */
function table4(parts: readonly PartResult[]): string[] {
  const models = (Object.keys(MODELS) as ModelName[]).flatMap(model => {
    const part = parts.find(({ part }) => part.model === model && part.source === 'edge' && part.mbps === 1)
    return part === undefined ? [] : [{ model, part }]
  })
  if (models.length === 0) return []
  return [
    '## Table IV: source and cloud at 1 Mbps',
    '',
    'ms a token with one sequence, tokens/s with the largest batch. OOM: no placement of that method fits.',
    '',
    `| method | ${models.map(({ model }) => `${model}: latency | ${model}: throughput`).join(' | ')} |`,
    `|---|${models.map(() => '---:|---:|').join('')}`,
    ...METHOD_NAMES.map(({ name, method }) => {
      const cells = models.map(({ part }) => {
        const throughput = rowOf(part, 'throughput', method, 'no-bubble')
        return `${cell(rowOf(part, 'latency', method), latencyOf)} | ${cell(throughput, rateOf)}`
      })
      return `| ${name} | ${cells.join(' | ')} |`
    }),
    ''
  ]
}

function plotted(plots: readonly PlotFile[]): string[] {
  return plots.flatMap(({ file, title }) => [`## ${title}`, '', `![${title}](report/${file})`, ''])
}

/** Bubble against no-bubble over stages that are all equal, where that was measured. */
async function pipeline(): Promise<string[]> {
  const text = await readFile(PIPELINE, 'utf8').catch(() => undefined)
  if (text === undefined) return []
  return [
    '## Bubbles with 8 sequences over three devices, on loopback',
    '',
    'Made by `node test/bench/pipeline.ts --json > test/lab/report/pipeline.json`; `npm run bench:pipeline` prints it. Three',
    'equal devices, the shape of TinyLlama 1.1B at 4 bits, three micro-batches of 3, 3 and 2 sequences.',
    'A stage is busy when it computes; waiting is for the micro-batch before, or for another stage of its device.',
    '',
    '```',
    ...pipelineLines(JSON.parse(text) as PipelineFigures),
    '```',
    ''
  ]
}

function everyRow(parts: readonly PartResult[]): string[] {
  const lines = ['## Every row', '']
  for (const { part, reports } of parts) {
    lines.push(
      `### \`${part.model}\` from \`${part.source}\`, ${part.mbps} Mbps to the cloud`,
      '',
      '| | batch | stages | TTFT ms | TPOT ms | tokens/s | predicted TPOT | predicted tokens/s | predicted : measured | busy % |',
      '|---|---|---|---:|---:|---:|---:|---:|---:|---|',
      ...[...(reports.latency?.rows ?? []), ...(reports.throughput?.rows ?? [])].map(rowLine),
      ''
    )
  }
  return lines
}

function rowLine(row: BenchRow): string {
  const { objective, method, strategy } = row
  const what = `${method}, ${objective === 'latency' ? objective : strategy}`
  if (row.outcome !== 'measured') return `| ${what} | | ${row.outcome}: ${row.reason} | | | | | | | |`
  const { batch, microBatches, predicted, ratio, ttftMs } = row
  return [
    `| ${what}`,
    objective === 'latency' ? '1' : `${batch} in ${microBatches}`,
    stagesText(row),
    ttftMs.median.toFixed(0),
    latencyOf(row),
    rateOf(row),
    predicted.tpotMs.toFixed(1),
    predicted.tokensPerSecond.toFixed(1),
    (objective === 'latency' ? ratio.tpot : ratio.tokensPerSecond).toFixed(2),
    `${busyText(row)} |`
  ].join(' | ')
}

function cell(row: BenchRow | undefined, figure: (row: MeasuredRow) => string): string {
  if (row === undefined) return '-'
  return row.outcome === 'measured' ? figure(row) : row.outcome === 'infeasible' ? 'OOM' : 'failed'
}

function latencyOf({ tpotMs }: MeasuredRow): string {
  return `${tpotMs.median.toFixed(1)} (±${percent(spreadOf(tpotMs) / 2)} %)`
}

function rateOf({ tokensPerSecond }: MeasuredRow): string {
  return tokensPerSecond.median.toFixed(1)
}

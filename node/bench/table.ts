import Table from 'cli-table3'
import { plainText } from '../../protocols/text.ts'
import { formatMs } from '../units.ts'
import { spreadOf } from './statistics.ts'
import type { BenchReport, BenchRow, MeasuredRow, Summary } from './types.ts'

/** The rows for people: latency and throughput in a table each, then what could not be measured. */
export function renderBench({ workload, model, rows }: BenchReport): string {
  const { promptTokens, newTokens, repeats } = workload
  const measured = rows.filter(row => row.outcome === 'measured')
  const parts = [
    `${model}: ${promptTokens} tokens in, ${newTokens} out, median of ${repeats} (spread in %)`,
    latencyTable(measured.filter(({ objective }) => objective === 'latency')),
    throughputTable(measured.filter(({ objective }) => objective === 'throughput')),
    ...refusalLines(rows)
  ]
  return `${parts.filter(part => part !== '').join('\n')}\n`
}

/** `desktop [0, 4), laptop [4, 10)`. */
export function stagesText({ stages }: Pick<MeasuredRow, 'stages'>): string {
  return stages.map(({ name, layers: [start, end] }) => `${plainText(name)} [${start}, ${end})`).join(', ')
}

/** Busy shares of the stages in their order, in percent. */
export function busyText({ stages }: Pick<MeasuredRow, 'stages'>): string {
  return stages.map(({ busy }) => percent(busy)).join(' ')
}

export function percent(share: number): string {
  return (100 * share).toFixed(0)
}

function latencyTable(rows: readonly MeasuredRow[]): string {
  if (rows.length === 0) return ''
  const table = newTable(['method', 'stages', 'TTFT', 'TPOT', 'predicted', 'ratio', 'busy %'])
  for (const row of rows) {
    const { method, ttftMs, tpotMs, predicted, ratio } = row
    table.push([
      method,
      stagesText(row),
      timeText(ttftMs),
      timeText(tpotMs),
      formatMs(predicted.tpotMs),
      ratio.tpot.toFixed(2),
      busyText(row)
    ])
  }
  return table.toString()
}

function throughputTable(rows: readonly MeasuredRow[]): string {
  if (rows.length === 0) return ''
  const table = newTable([
    ...['method', 'strategy', 'batch', 'stages', 'tokens/s', 'with prefill', 'TPOT'],
    ...['predicted', 'ratio', 'busy %']
  ])
  for (const row of rows) {
    const { method, strategy, batch, microBatches, largest, tokensPerSecond, predicted, ratio } = row
    table.push([
      method,
      strategy ?? '',
      `${batch}${largest ? ' (max)' : ''} in ${microBatches}`,
      stagesText(row),
      `${tokensPerSecond.median.toFixed(1)} (${percent(spreadOf(tokensPerSecond))})`,
      row.overallTokensPerSecond.median.toFixed(1),
      timeText(row.tpotMs),
      predicted.tokensPerSecond.toFixed(1),
      ratio.tokensPerSecond.toFixed(2),
      busyText(row)
    ])
  }
  return table.toString()
}

/** One line a method and objective: what does not fit for few sequences does not for more. */
function refusalLines(rows: readonly BenchRow[]): string[] {
  const lines = new Map<string, string>()
  for (const row of rows) {
    if (row.outcome === 'measured') continue
    const { objective, method, strategy, batch, outcome, reason } = row
    const what =
      objective === 'latency' ? '' : ` of ${[batch, strategy].filter(part => part !== null).join(' ')}`
    const key = `${method}, ${objective}`
    const line = `${key}${what}: ${outcome}: ${plainText(reason)}`
    if (outcome === 'failed') lines.set(`${key}${what}`, line)
    else if (!lines.has(key)) lines.set(key, line)
  }
  return [...lines.values()]
}

function timeText(summary: Summary): string {
  return `${formatMs(summary.median)} (${percent(spreadOf(summary))})`
}

function newTable(head: string[]): Table.Table {
  return new Table({ head, style: { head: [], border: [] } })
}

import { plainText } from '../../protocols/text.ts'
import { shortNames } from '../short-names.ts'
import { fitted, tableText } from '../table.ts'
import { formatMs } from '../units.ts'
import { spreadOf } from './statistics.ts'
import type { BenchReport, BenchRow, MeasuredRow, Summary } from './types.ts'

type Names = ReadonlyMap<string, string>

/**
 * The rows for people: latency and throughput in a table each, then what could not be measured.
 *
 * @param columns of the terminal; undefined: there is none
 */
export function renderBench({ workload, model, devices, rows }: BenchReport, columns?: number): string {
  const { promptTokens, newTokens, repeats } = workload
  const measured = rows.filter(row => row.outcome === 'measured')
  const names = shortNames([...devices, ...measured.flatMap(({ stages }) => stages)])
  const parts = [
    `${model}: ${promptTokens} tokens in, ${newTokens} out, median of ${repeats} (spread in %)`,
    latencyTable(
      measured.filter(({ objective }) => objective === 'latency'),
      names,
      columns
    ),
    throughputTable(
      measured.filter(({ objective }) => objective === 'throughput'),
      names,
      columns
    ),
    ...refusalLines(rows)
  ]
  return `${fitted(parts.filter(part => part !== '').join('\n'), columns)}\n`
}

/** `desktop [0, 4), laptop [4, 10)`. */
export function stagesText(
  { stages }: Pick<MeasuredRow, 'stages'>,
  names: Names = shortNames(stages)
): string {
  return stages
    .map(({ peerId, layers: [start, end] }) => `${names.get(peerId)} [${start}, ${end})`)
    .join(', ')
}

/** Busy shares of the stages in their order, in percent. */
export function busyText({ stages }: Pick<MeasuredRow, 'stages'>): string {
  return stages.map(({ busy }) => percent(busy)).join(' ')
}

export function percent(share: number): string {
  return (100 * share).toFixed(0)
}

function latencyTable(rows: readonly MeasuredRow[], names: Names, columns: number | undefined): string {
  if (rows.length === 0) return ''
  const head = ['method', 'stages', 'TTFT', 'TPOT', 'predicted', 'ratio', 'busy %']
  const cells = rows.map(row => {
    const { method, ttftMs, tpotMs, predicted, ratio } = row
    return [
      method,
      stagesText(row, names),
      timeText(ttftMs),
      timeText(tpotMs),
      formatMs(predicted.tpotMs),
      ratio.tpot.toFixed(2),
      busyText(row)
    ]
  })
  return tableText(head, cells, columns)
}

function throughputTable(rows: readonly MeasuredRow[], names: Names, columns: number | undefined): string {
  if (rows.length === 0) return ''
  const head = [
    ...['method', 'strategy', 'batch', 'stages', 'tokens/s', 'with prefill', 'TPOT'],
    ...['predicted', 'ratio', 'busy %']
  ]
  const cells = rows.map(row => {
    const { method, strategy, batch, microBatches, largest, tokensPerSecond, predicted, ratio } = row
    return [
      method,
      strategy ?? '',
      `${batch}${largest ? ' (max)' : ''} in ${microBatches}`,
      stagesText(row, names),
      `${tokensPerSecond.median.toFixed(1)} (${percent(spreadOf(tokensPerSecond))})`,
      row.overallTokensPerSecond.median.toFixed(1),
      timeText(row.tpotMs),
      predicted.tokensPerSecond.toFixed(1),
      ratio.tokensPerSecond.toFixed(2),
      busyText(row)
    ]
  })
  return tableText(head, cells, columns)
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

import { plainText } from '../../protocols/text.ts'
import { shortNames } from '../short-names.ts'
import { fitted, tableText } from '../table.ts'
import { formatMs } from '../units.ts'
import { LEAST_COUNTED, spreadOf } from './statistics.ts'
import type { BenchReport, BenchRow, MeasuredRow, Summary } from './types.ts'

type Names = ReadonlyMap<string, string>

/** A rate over less time is moved by every pause of a busy machine. */
const BRIEF_MS = 100

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
    ...countLines(measured),
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

/** What rates rest on, where that is not what they are said to be of, or so little that only their spread says how good they are. */
function countLines(rows: readonly MeasuredRow[]): string[] {
  const rates = rows.filter(({ objective }) => objective === 'throughput')
  const apart = rates.filter(({ counted }) => !counted.together)
  const few = rates.filter(({ counted }) => counted.together && counted.least < LEAST_COUNTED)
  const brief = rates.filter(({ counted }) => counted.ms < BRIEF_MS)
  const lines: string[] = []
  if (apart.length > 0)
    lines.push(
      `tokens/s from the first token of all to the last, since the sequences decoded fewer than ${LEAST_COUNTED} tokens together: ${namesOf(apart)}`
    )
  if (few.length > 0) lines.push(`tokens/s of fewer than ${LEAST_COUNTED} tokens a sequence: ${namesOf(few)}`)
  if (brief.length > 0) {
    const shortest = Math.min(...brief.map(({ counted }) => counted.ms))
    lines.push(
      `tokens/s of less than ${formatMs(BRIEF_MS)} in ${brief.length} of ${rates.length} rows, ${formatMs(shortest)} in the shortest: ` +
        'their spread says how good they are; --new-tokens makes them longer'
    )
  }
  return lines
}

function namesOf(rows: readonly MeasuredRow[]): string {
  return rows
    .map(({ method, strategy, batch }) => [method, strategy, batch].filter(part => part !== null).join(' '))
    .join(', ')
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

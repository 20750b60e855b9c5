import Table from 'cli-table3'
import type { Played } from './play.ts'
import type { RecoveryTimes } from './recovery-times.ts'
import { ms } from './series.ts'

/** One row for each kind of disturbance, times as medians over the recoveries. */
export function report(played: readonly Played[]): string {
  const table = new Table({
    head: [
      'disturbance',
      'count',
      'recovered',
      'before+after',
      'equal',
      'fork',
      'else',
      'detect',
      'plan',
      'load',
      're-prefill',
      'next token',
      'worst'
    ],
    style: { head: [], border: [] }
  })
  const kinds = [...new Set(played.map(kindOf))].sort()
  for (const kind of kinds)
    table.push(
      row(
        kind,
        played.filter(one => kindOf(one) === kind)
      )
    )
  table.push(row('all', played))
  return `${table}\n`
}

/** What was done, with the moment in which it fell. */
function kindOf({ struck }: Played): string {
  if (struck.length === 0) return 'none'
  return `${struck
    .map(({ kind }) => kind)
    .sort()
    .join(' + ')}, ${struck[0]!.phase}`
}

function row(kind: string, played: readonly Played[]): (string | number)[] {
  const times = played.flatMap(({ recoveries }) => recoveries)
  const of = (what: keyof RecoveryTimes) =>
    times.map(time => time[what]).filter(value => typeof value === 'number')
  const verdicts = played.map(({ verdict }) => verdict.kind)
  const worst = Math.max(...of('totalMs'))
  return [
    kind,
    played.length,
    played.filter(({ recoveries }) => recoveries.length > 0).length,
    played.filter(({ counts }) => counts).length,
    verdicts.filter(verdict => verdict === 'equal').length,
    verdicts.filter(verdict => verdict === 'fork').length,
    verdicts.filter(verdict => verdict === 'different').length,
    ms(median(of('detectMs'))),
    ms(median(of('planMs'))),
    ms(median(of('loadMs'))),
    ms(median(of('prefillMs'))),
    ms(median(of('totalMs'))),
    ms(Number.isFinite(worst) ? worst : null)
  ]
}

function median(values: readonly number[]): number | null {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted.length === 0 ? null : sorted[Math.floor(sorted.length / 2)]!
}

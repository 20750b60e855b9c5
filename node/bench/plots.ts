import { barChart, lineChart } from './svg.ts'
import type { BenchReport, BenchRow, MeasuredRow } from './types.ts'

/** The plots of one run by file name; those without a figure are left out. */
export function plotsOf({ model, rows }: BenchReport): Record<string, string> {
  const measured = rows.filter(row => row.outcome === 'measured')
  const of = (objective: BenchRow['objective']) => measured.filter(row => row.objective === objective)
  const plots: Record<string, string> = {}
  const latency = of('latency')
  if (latency.length > 0) {
    plots['latency.svg'] = barChart({
      title: `${model}: time per token, one sequence`,
      unit: 'ms a token (TPOT), median',
      groups: latency.map(({ method }) => method),
      series: [
        { name: 'measured', values: latency.map(({ tpotMs }) => tpotMs.median) },
        { name: 'predicted', values: latency.map(({ predicted }) => predicted.tpotMs) }
      ]
    })
  }
  const throughput = of('throughput')
  const batches = [...new Set(throughput.map(({ batch }) => batch))].sort((a, b) => a - b)
  if (batches.length > 1) {
    plots['throughput-by-batch.svg'] = lineChart({
      title: `${model}: tokens a second by sequences at once`,
      unit: 'tokens/s while all sequences decode, median',
      over: 'sequences at once',
      at: batches,
      series: seriesOf(throughput).map(({ name, rows: own }) => ({
        name,
        values: batches.map(batch => bestOf(own.filter(row => row.batch === batch)))
      }))
    })
  }
  const most = throughput.filter(({ largest, batch }) => largest || batch === batches.at(-1))
  if (most.length > 0) {
    const methods = [...new Set(most.map(({ method }) => method))]
    const strategies = [...new Set(most.map(({ strategy }) => strategy))]
    plots['throughput.svg'] = barChart({
      title: `${model}: tokens a second, largest batch`,
      unit: 'tokens/s while all sequences decode, median',
      groups: methods,
      series: strategies.map(strategy => ({
        name: strategy ?? 'one sequence',
        values: methods.map(method =>
          bestOf(most.filter(row => row.method === method && row.strategy === strategy))
        )
      }))
    })
  }
  return plots
}

function seriesOf(rows: readonly MeasuredRow[]): { name: string; rows: MeasuredRow[] }[] {
  // A batch of one has no strategy: it belongs to both lines, which start there.
  const names = new Set(rows.filter(({ strategy }) => strategy !== null).map(nameOf))
  return [...names].map(name => ({
    name,
    rows: rows.filter(
      row => nameOf(row) === name || (row.strategy === null && name.startsWith(`${row.method},`))
    )
  }))
}

function nameOf({ method, strategy }: MeasuredRow): string {
  return `${method}, ${strategy}`
}

function bestOf(rows: readonly MeasuredRow[]): number | null {
  return rows.length === 0 ? null : Math.max(...rows.map(({ tokensPerSecond }) => tokensPerSecond.median))
}

import type { Objective } from '../../node/api.ts'
import { barChart, lineChart } from '../../node/bench/svg.ts'
import type { BenchRow } from '../../node/bench/types.ts'
import { METHOD_NAMES, type ModelName, type PartResult, rowOf } from './bench-parts.ts'

export interface PlotFile {
  file: string
  title: string
  svg: string
}

const UNITS: Record<Objective, string> = {
  latency: 'ms a token, one sequence',
  throughput: 'tokens/s, largest batch, no bubbles'
}

/** Plots in the form of the paper's Figures 7 to 10, as far as there are parts for them. */
export function figures(parts: readonly PartResult[]): PlotFile[] {
  return [
    ...sweep('latency', 7, parts),
    ...sweep('throughput', 8, parts),
    ...sources(parts),
    ...bubbles(parts)
  ]
}

/** Figures 7 and 8: over the bandwidth between source and cloud. */
function sweep(objective: Objective, number: number, parts: readonly PartResult[]): PlotFile[] {
  return (['small', 'large'] as const).flatMap(model => {
    const own = parts.filter(({ part }) => part.model === model && part.source === 'edge')
    if (own.length < 2) return []
    const title = `Figure ${number}: ${objective} of the ${model} model over the bandwidth to the cloud`
    const series = present(
      METHOD_NAMES.map(({ name, method }) => ({
        name,
        values: own.map(part => figure(rowOf(part, objective, method, strategyOf(objective))))
      }))
    )
    const at = own.map(({ part }) => part.mbps)
    const svg = lineChart({
      title,
      unit: UNITS[objective],
      over: 'Mbps between source and cloud',
      at,
      series
    })
    return [{ file: `figure-${number}-${model}.svg`, title, svg }]
  })
}

/** Figure 9: two sources at 1 Mbps. */
function sources(parts: readonly PartResult[]): PlotFile[] {
  const own = parts.filter(({ part }) => part.model === 'small' && part.mbps === 1)
  if (own.length < 2) return []
  return (['latency', 'throughput'] as const).map(objective => {
    const title = `Figure 9: ${objective} by source, small model, 1 Mbps to the cloud`
    const svg = barChart({
      title,
      unit: UNITS[objective],
      groups: own.map(({ part }) => `source ${part.source}`),
      series: present(
        METHOD_NAMES.map(({ name, method }) => ({
          name,
          values: own.map(part => figure(rowOf(part, objective, method, strategyOf(objective))))
        }))
      )
    })
    return { file: `figure-9-${objective}.svg`, title, svg }
  })
}

/** Figure 10: with and without bubbles at 1 Mbps. */
function bubbles(parts: readonly PartResult[]): PlotFile[] {
  return (['small', 'large'] satisfies ModelName[]).flatMap(model => {
    const own = parts.find(({ part }) => part.model === model && part.source === 'edge' && part.mbps === 1)
    if (own === undefined) return []
    const methods = METHOD_NAMES.filter(({ method }) => figure(rowOf(own, 'throughput', method)) !== null)
    const title = `Figure 10: bubbles, ${model} model, 1 Mbps to the cloud`
    const svg = barChart({
      title,
      unit: 'tokens/s, largest batch',
      groups: methods.map(({ name }) => name),
      series: (['bubble', 'no-bubble'] as const).map(strategy => ({
        name: strategy,
        values: methods.map(({ method }) => figure(rowOf(own, 'throughput', method, strategy)))
      }))
    })
    return [{ file: `figure-10-${model}.svg`, title, svg }]
  })
}

/** Methods that were measured with some source. */
function present<T extends { values: readonly (number | null)[] }>(series: readonly T[]): T[] {
  return series.filter(({ values }) => values.some(value => value !== null))
}

function strategyOf(objective: Objective): 'no-bubble' | undefined {
  return objective === 'throughput' ? 'no-bubble' : undefined
}

function figure(row: BenchRow | undefined): number | null {
  if (row?.outcome !== 'measured') return null
  return row.objective === 'latency' ? row.tpotMs.median : row.tokensPerSecond.median
}

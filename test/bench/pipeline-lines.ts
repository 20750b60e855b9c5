import type { BenchReport, MeasuredRow } from '../../node/bench/types.ts'

/** What test/bench/pipeline.ts measures. */
export interface PipelineFigures {
  processors: number
  /** Share of one that each process is held to; null: all it can get. */
  cpus: number | null
  report: BenchReport
}

/** Both strategies, and the no-bubble rate beside what the slowest stage could do alone. */
export function pipelineLines({ processors, cpus, report: { rows } }: PipelineFigures): string[] {
  const [noBubble, bubble] = ['no-bubble', 'bubble'].map(strategy => {
    const row = rows.find(row => row.strategy === strategy)
    if (row?.outcome !== 'measured') throw new Error(row?.reason ?? `no row of ${strategy}`)
    return row
  }) as [MeasuredRow, MeasuredRow]
  const { name, busy } = bottleneck(noBubble)
  const measured = noBubble.tokensPerSecond.median
  const waiting = bubble.tokensPerSecond.median
  const held = cpus === null ? 'no quotas' : `each process held to ${cpus} of one`
  return [
    `${processors} processors, ${held}; ${noBubble.batch} sequences`,
    ...described(noBubble),
    ...described(bubble),
    `no-bubble through bubble: ${(measured / waiting).toFixed(2)}`,
    `the slowest device, ${name}, computes for ${(100 * busy).toFixed(1)} % of the time: ${(measured / busy).toFixed(1)} tokens/s if it never waited`
  ]
}

function described({ strategy, microBatches, stages, tokensPerSecond, predicted }: MeasuredRow): string[] {
  const { median, min, max } = tokensPerSecond
  const parts = stages.map(({ name, layers, computeMs, waitMs, busy }) => {
    return `${name} [${layers}] ${computeMs.toFixed(2)} ms + ${waitMs.toFixed(2)} waiting, ${(100 * busy).toFixed(0)} % busy`
  })
  const range = `${min.toFixed(1)} to ${max.toFixed(1)}, predicted ${predicted.tokensPerSecond.toFixed(1)}`
  return [
    `${strategy}: ${median.toFixed(1)} tokens/s (${range}) in ${microBatches} micro-batches`,
    ...parts.map(part => `    ${part}`)
  ]
}

/** The device with the most to compute, all its stages together, and for which share of the time it does. */
function bottleneck({ stages }: MeasuredRow): { name: string; busy: number } {
  const devices = new Map<string, number>()
  for (const { name, busy } of stages) devices.set(name, (devices.get(name) ?? 0) + busy)
  const [[name, busy]] = [...devices].sort((a, b) => b[1] - a[1]) as [[string, number]]
  return { name, busy }
}

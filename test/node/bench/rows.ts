import type { BenchReport, MeasuredRow, RefusedRow } from '../../../node/bench/types.ts'

const of = (median: number) => ({ median, min: median * 0.9, max: median * 1.1 })

export function measuredRow(over: Partial<MeasuredRow> = {}): MeasuredRow {
  return {
    objective: 'latency',
    method: 'edgeshard',
    strategy: null,
    batch: 1,
    outcome: 'measured',
    largest: false,
    microBatches: 1,
    stages: [
      { peerId: 'p1', name: 'desk', layers: [0, 4], computeMs: 5, waitMs: 0, busy: 0.25 },
      { peerId: 'p2', name: 'lap\u001b[2Jtop', layers: [4, 10], computeMs: 10, waitMs: 1, busy: 0.5 }
    ],
    linksMs: [2, 2],
    ttftMs: of(40),
    tpotMs: of(20),
    tokensPerSecond: of(50),
    counted: { tokens: 95, least: 95, ms: 1900, together: true },
    overallTokensPerSecond: of(45),
    predicted: { ttftMs: 30, tpotMs: 18, tokensPerSecond: 55.6 },
    ratio: { tpot: 0.9, tokensPerSecond: 1.11 },
    recoveries: 0,
    ...over
  }
}

export const refusedRow: RefusedRow = {
  objective: 'latency',
  method: 'edge-solo',
  strategy: null,
  batch: 1,
  outcome: 'infeasible',
  reason: 'out of memory: desk needs 7 MiB'
}

export function report(rows: BenchReport['rows']): BenchReport {
  return {
    version: '0',
    model: 'tiny',
    workload: { promptTokens: 32, newTokens: 96, repeats: 3, seed: 0 },
    source: 'p1',
    cloud: 'p2',
    devices: [],
    links: [],
    rows
  }
}

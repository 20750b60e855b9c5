import type { GenerateResult } from '../api.ts'
import { predictRate } from './prediction.ts'
import type { Round } from './round.ts'
import { countDecoded, mean, rate, rateOf, summaryOf } from './statistics.ts'
import type { BenchCase, BenchStage, Counted, MeasuredRow } from './types.ts'

export interface RowInput {
  asked: BenchCase
  /** Sequences of each round. */
  batch: number
  rounds: readonly Round[]
  /** Micro-batches of the deployment that they ran on. */
  microBatches: number
  problem: Parameters<typeof predictRate>[0]
}

/** One row of the report from its measured rounds. */
export function rowOf({ asked, batch, rounds, problem, ...placed }: RowInput): MeasuredRow {
  const results = rounds.flatMap(round => round.results)
  const tpotMs = summaryOf(rounds.map(round => mean(round.results.map(result => result.tpotMs))))
  const decoded = rounds.map(({ tokenTimesMs }) => countDecoded(tokenTimesMs))
  const tokensPerSecond = summaryOf(decoded.map(rateOf))
  const { plan, predicted: alone } = results[0]!
  // Fewer sequences than slots spread over the micro-batches, one each before any has two.
  const microBatches = Math.min(batch, placed.microBatches)
  const running = { stages: plan.stages, batch, microBatches, strategy: asked.strategy }
  const predicted = { ttftMs: batch === 1 ? alone.ttftMs : null, ...predictRate(problem, running) }
  if (asked.objective === 'latency') {
    predicted.tpotMs = alone.tpotMs
    predicted.tokensPerSecond = 1000 / alone.tpotMs
  }
  return {
    ...asked,
    outcome: 'measured',
    batch,
    largest: asked.batch === 'max',
    microBatches,
    stages: stagesOf(results, batch),
    linksMs: results[0]!.measured.linksMs.map((_, i) => mean(results.map(r => r.measured.linksMs[i] ?? 0))),
    ttftMs: summaryOf(rounds.map(round => mean(round.results.map(result => result.ttftMs)))),
    tpotMs,
    tokensPerSecond,
    counted: [...decoded].sort((a, b) => rankOf(a) - rankOf(b))[0]!,
    overallTokensPerSecond: summaryOf(rounds.map(overallRate)),
    predicted,
    ratio: {
      tpot: predicted.tpotMs / tpotMs.median,
      tokensPerSecond: predicted.tokensPerSecond / tokensPerSecond.median
    },
    recoveries: results.reduce((sum, { recoveries }) => sum + recoveries, 0)
  }
}

/** Rounds whose sequences did not decode together come first, then those with the fewest tokens. */
function rankOf({ together, least }: Counted): number {
  return together ? least + 1 : least / (least + 1)
}

/** A stage computes one step of each micro-batch in the time of one token of every sequence; each sequence has a share of its own. */
function stagesOf(results: readonly GenerateResult[], batch: number): BenchStage[] {
  const stepMs = mean(results.map(({ tpotMs }) => tpotMs))
  return results[0]!.plan.stages.map(({ peerId, name, layers }, i) => {
    const of = (key: 'computeMs' | 'waitMs') => mean(results.map(r => r.measured.stages[i]?.[key] ?? 0))
    const sharesMs = results.map(({ measured: { stages, sequences } }) => {
      return (stages[i]?.computeMs ?? 0) / Math.max(1, sequences)
    })
    const busy = stepMs === 0 ? 0 : (batch * mean(sharesMs)) / stepMs
    return { peerId, name, layers, computeMs: of('computeMs'), waitMs: of('waitMs'), busy }
  })
}

function overallRate({ tokenTimesMs, startMs }: Round): number {
  return rate(tokenTimesMs, startMs, Math.max(...tokenTimesMs.map(times => times.at(-1)!)))
}

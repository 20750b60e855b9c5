import { type Plan, type PlanOptions, type Problem, plan, type Refusal } from '../plan/index.ts'
import type { PrivacyReport } from './measure.ts'

/** What it costs to keep so many layers on the source, and what the next device could still tell. */
export interface CurveRow {
  /** Decoder layers that stay on the source at least, behind the embedding. */
  layersAtSource: number
  /** Whether norm, head and sampling stay there, too. */
  sealed: boolean
  /**
   * Shares of a prompt's tokens that the device behind layersAtSource could recover: by the nearest embedding, and by a map
   * fitted to other text.
   */
  recoveredNearest: number
  recoveredInverter: number
  /** What the best plan takes a token; null where nothing fits. */
  tpotMs: number | null
  /** Decoder layers that this plan has on the source before it hands on; null where nothing fits. */
  plannedAtSource: number | null
  /** The plan, or why there is none. */
  plan: Plan | Refusal
}

/**
 * Plans at each number of layers that was measured, with the head wherever it is best and with the head on the source.
 *
 * @param problem - of the model that was measured: embedding, decoder layers, head
 */
export function privacyCurve(
  { rows }: Pick<PrivacyReport, 'rows'>,
  problem: Problem,
  options: PlanOptions = {}
): CurveRow[] {
  return rows
    .flatMap(({ decoderLayers, nearest, fitted }) =>
      [false, true].map((sealed): CurveRow => {
        const kept: Problem = {
          ...problem,
          // Sealed keeps one decoder layer, whatever else is asked for.
          privacy: sealed ? 'sealed' : 'embedding',
          keptLayers: 1 + decoderLayers
        }
        const planned = plan(kept, { ...options, explain: false })
        return {
          layersAtSource: decoderLayers,
          sealed,
          recoveredNearest: nearest,
          recoveredInverter: fitted,
          tpotMs: planned.feasible ? planned.predicted.tpotMs : null,
          plannedAtSource: planned.feasible ? decoderLayersFirst(planned, problem) : null,
          plan: planned
        }
      })
    )
    .filter(({ layersAtSource, sealed }) => !sealed || layersAtSource > 0)
}

/** Decoder layers of the first stage, which is the source's. */
function decoderLayersFirst({ stages }: Plan, { layers }: Problem): number {
  return Math.min(stages[0]!.layers[1], layers.length - 1) - 1
}

import { prefillChunks } from './hidden.ts'
import type { StepPart } from './runtime.ts'

/** Parts of a step, by their index in it, that one run computes. */
export interface PlannedRun {
  /** A lane each, in the order of the lanes; the first may have one token of each of several sequences. */
  lanes: number[][]
  /** Rows that the head computes. */
  draws: number
}

/** A part of a step, and whether it has to be exact: it needs a lane of its own then. */
export interface PlannedPart extends StepPart {
  exact: boolean
}

export interface RunLimits {
  /** Lanes of a run. */
  lanes: number
  /** Rows that the head may compute in a run. */
  draws: number
  /** Single tokens may share a lane, in which a token for nobody is computed in the slots between. @default true */
  joins?: boolean
}

/**
 * How the parts of a step share runs: single tokens of several sequences go in one lane where they may, unless they have to be exact,
 * and what has more tokens in a lane of its own.
 */
export function planRuns(
  parts: readonly PlannedPart[],
  { lanes, draws, joins = true }: RunLimits
): PlannedRun[] {
  const together = [...parts.keys()].filter(i => joins && parts[i]!.tokens === 1 && !parts[i]!.exact)
  const apart = [...parts.keys()].filter(i => !together.includes(i))
  const runs: PlannedRun[] = []
  for (const lane of together.length > 0 ? [together, ...apart.map(i => [i])] : apart.map(i => [i])) {
    const laneDraws = lane.reduce((sum, i) => sum + parts[i]!.draws, 0)
    const last = runs.at(-1)
    if (last !== undefined && last.lanes.length < lanes && last.draws + laneDraws <= draws) {
      last.lanes.push(lane)
      last.draws += laneDraws
    } else runs.push({ lanes: [lane], draws: laneDraws })
  }
  return runs
}

/** Half-open ranges of a step's tokens of one sequence that runs of at most `most` compute, one behind the other. */
export function runRanges(tokens: number, most: number): [start: number, end: number][] {
  return tokens <= most ? [[0, tokens]] : prefillChunks(tokens, most)
}

/**
 * The parts of a step in rounds, each of which has at most `most` tokens of a sequence and is computed behind the one before.
 * What is drawn, is drawn behind the same tokens.
 */
export function cutParts<P extends StepPart & { row: number }>(parts: readonly P[], most: number): P[][] {
  const rounds: P[][] = []
  for (const part of parts) {
    runRanges(part.tokens, most).forEach(([start, end], i) => {
      const undrawn = part.tokens - part.draws
      const piece = {
        ...part,
        position: part.position + start,
        tokens: end - start,
        row: part.row + start,
        draws: Math.max(0, end - Math.max(start, undrawn)),
        mask: end === part.tokens ? part.mask : undefined
      }
      rounds[i] = [...(rounds[i] ?? []), piece]
    })
  }
  return rounds
}

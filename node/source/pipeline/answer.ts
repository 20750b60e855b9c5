import type { Pooling } from '../../../models/runtime/pooling.ts'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import type { Guesses } from '../../api.ts'
import type { ComputedRuns } from './computed-runs.ts'
import type { Lead } from './lead.ts'
import type { MeasuredSteps } from './measured.ts'
import type { SourceSessionInit } from './source-session.ts'

/** What an answer needs of the pipeline. */
export interface AnswerRequest
  extends Omit<
    SourceSessionInit,
    'id' | 'slot' | 'fromToken' | 'vocabSize' | 'hasState' | 'onReady' | 'onStalled'
  > {
  sampling: Sampling
  /** The prompt's hidden states are pooled so, and no token is drawn. */
  pooling?: Pooling | undefined
  /** The steps in which the beginning of the prompt was computed where the answer began: here in the same. */
  runs?: ComputedRuns | undefined
  /** What the request is called on every device that works on it. */
  requestId?: string | undefined
}

/** An answer that is being drawn. */
export interface Answer {
  /** Tokens of the prompt, and of what is known behind it, that were in the KV caches of all stages already. */
  readonly cachedTokens: number
  /** How many tokens of the prompt are through, the cached ones with them, until the first token is there. */
  readonly prefilled: AsyncIterable<number>
  /** Whether it is computed to the bit: it was to be, and every stage's kernels keep that. */
  readonly exact: boolean
  readonly measured: MeasuredSteps
  /** What became of its guesses so far; undefined where it makes none. */
  readonly guesses: Guesses | undefined
  /** Its tokens that can be fed, as another session follows them. */
  readonly certain: Lead
  /** The steps that computed what it found in the KV caches. */
  readonly runs: ComputedRuns
  /** Tokens that it has not fed yet, where it follows another session. */
  readonly behindTokens: number
  /** Goes on without the session that it follows, where it does. */
  goAlone(): void
  /** It is read elsewhere, unless that fails: nothing is fed any more, or again. `next` throws `GOES_ON_ELSEWHERE` where it would wait. */
  pause(isPaused: boolean): void
  /** @throws {StageLostError} naming the stage that died or fell silent */
  next(): Promise<SampledToken>
  /**
   * What the prompt's hidden states come to, (hidden), of length 1, where that was asked for.
   *
   * @throws {StageLostError} as `next`
   */
  pooled(): Promise<Float32Array>
  /** Ends it everywhere; its slot is free when that is done. */
  close(): Promise<void>
}

import { logger } from '../../models/log.ts'
import type { HiddenStates, SampledToken, ShardBatch, ShardSession } from '../../models/runtime/runtime.ts'
import type { FrameRow } from '../../protocols/stage/frame.ts'
import { type Chunk, LEAST_PIECE_TOKENS } from './chunk.ts'
import { StageInputError } from './errors.ts'
import { PromptShare } from './prompt-share.ts'
import { copyOf, joinRows, statesOf } from './rows.ts'
import type { Step, StepResult } from './stage.ts'

const log = logger('edgeshard:stage')

/** A session, as far as steps are computed for it. */
export interface ComputedSession {
  shard: ShardSession
  /** Tokens in the shard's KV cache. */
  cached: number
}

/** A step of which every session waits for a result. */
export interface ComputedStep {
  input: Int32Array | HiddenStates
  step: Step
  sessions: readonly ComputedSession[]
}

/** What came of a step. */
export interface Computed {
  result: StepResult
  /** Those of the step that have a result, and their tokens. */
  rows: FrameRow[]
  tokens: number
  /** Those that have none: their numbers are not finite. */
  failed: FrameRow[]
  computeMs: number
}

/** A chunk of one session's prompt. */
export type PromptChunk = Chunk<{
  input: Int32Array | HiddenStates
  step: Step
  sessions: readonly (ComputedSession | undefined)[]
}>

export interface StepRunsInit {
  batch: Pick<ShardBatch, 'step' | 'decode'>
  hiddenSize: number
  /** Tokens of a step that working memory is counted for. */
  frameTokens: number
}

/**
 * How a stage computes its steps: of one session, of a token of each of several, and of these with a piece of a prompt in
 * the same run. Pieces are cut so that running answers hardly wait for them (`PromptShare`).
 */
export class StepRuns {
  readonly #init: StepRunsInit
  readonly #share = new PromptShare()

  constructor(init: StepRunsInit) {
    this.#init = init
  }

  /**
   * A step by itself.
   *
   * @throws {NotFiniteError} when the only session of the step has no result {StageInputError} {RuntimeInputError}
   */
  async alone(live: ComputedStep): Promise<Computed> {
    const { input, step, sessions } = live
    const { rows, tokens, sample } = step
    checkCached(live)
    const [only] = sessions
    if (sessions.length === 1 && only !== undefined) {
      const { position, mask } = rows[0]!
      // Guesses have left more there; a step of several sessions forgets it by itself.
      if (only.cached > position) await only.shard.trim(position)
      const output = await only.shard.forward({ position, input, sample, mask })
      note(live)
      const { computeMs } = output
      const result: StepResult =
        output.kind === 'token'
          ? { kind: 'tokens', tokens: [output.token], ...(output.states && { states: output.states }) }
          : output.kind === 'hidden'
            ? { kind: 'hidden', hidden: ownMemory(output.hidden, rows) }
            : output
      return { result, rows, tokens, failed: [], computeMs }
    }
    const shards = sessions.map(({ shard }) => shard)
    const positions = rows.map(({ position }) => position)
    const masks = rows.map(({ mask }) => mask)
    const output = await this.#init.batch.decode(shards, { positions, input, masks })
    note(live)
    const { computeMs } = output
    return output.kind === 'hidden'
      ? { result: output, rows, tokens, failed: [], computeMs }
      : drawnOf(rows, output.tokens, computeMs)
  }

  /** A step of running answers by itself: the next ones are compared with it. */
  async answers(live: ComputedStep): Promise<Computed> {
    const computed = await this.alone(live)
    this.#share.answered(live.sessions.length, computed.computeMs)
    return computed
  }

  /** The next tokens of a chunk by themselves: all of them, or no more than answers that run may wait for. @returns what the whole chunk comes to, after its last piece */
  async piece(chunk: PromptChunk, answersRun: boolean): Promise<Computed | undefined> {
    const { step, sessions } = chunk.arrived
    const tokens = answersRun ? chunk.next(this.#share.between) : chunk.left
    const rows = step.rows.map(row => ({ ...row, position: row.position + chunk.done }))
    const sample = step.sample && tokens === chunk.left
    const { result, computeMs } = await this.alone({
      input: chunk.input(tokens),
      step: { ...step, rows, tokens, sample },
      sessions: [sessions[0]!]
    })
    if (answersRun) this.#share.computed(tokens, computeMs)
    chunk.add(tokens, computeMs, result.kind === 'hidden' ? result.hidden : undefined)
    return chunk.left === 0 ? wholeOf(chunk, result) : undefined
  }

  /** Tokens of a chunk that a step of so many running answers takes along; 0: none. */
  tokensBeside(chunk: PromptChunk, answers: number): number {
    const { step, sessions } = chunk.arrived
    if (!chunk.isCut || chunk.isApart || sessions[0]!.cached < step.rows[0]!.position + chunk.done) return 0
    // A piece may be one token longer.
    const room = this.#init.frameTokens - answers - 1
    const most = Math.min(this.#share.beside(answers), room)
    return most < LEAST_PIECE_TOKENS ? 0 : chunk.next(most)
  }

  /**
   * A step of running answers and the next tokens of a chunk in one run. Undefined where that fails: nobody has failed by
   * it, and both are to be computed by themselves. `prompt`: what the whole chunk comes to, after its last piece.
   */
  async joined(
    live: ComputedStep,
    chunk: PromptChunk,
    tokens: number
  ): Promise<{ answers: Computed; prompt: Computed | undefined } | undefined> {
    const { rows, tokens: count } = live.step
    const { step, sessions } = chunk.arrived
    const { batch, hiddenSize } = this.#init
    checkCached(live)
    const [row] = step.rows
    const position = row!.position + chunk.done
    const draws = step.sample && tokens === chunk.left ? 1 : 0
    const parts = rows.map(({ position, mask }) => ({ position, tokens: 1, draws: 1, mask }))
    const output = await batch
      .step(
        [...live.sessions, sessions[0]!].map(({ shard }) => shard),
        {
          parts: [...parts, { position, tokens, draws, mask: row!.mask }],
          input: joinRows(live.input, chunk.input(tokens), hiddenSize)
        }
      )
      .catch(log.passOver('a step with a piece of a prompt failed; they are computed one by one'))
    if (output === undefined) {
      chunk.isApart = true
      return undefined
    }
    const { computeMs } = output
    // What the answers would have taken alone; the rest is the prompt's.
    const answersMs = Math.min(computeMs, this.#share.stepMs(count) ?? computeMs)
    this.#share.joined(count, tokens, computeMs)
    note(live)
    sessions[0]!.cached = position + tokens
    if (output.kind === 'hidden') {
      const result = { kind: 'hidden', hidden: statesOf(output.hidden, 0, count) } as const
      chunk.add(tokens, computeMs - answersMs, statesOf(output.hidden, count, count + tokens))
      const answers = { result, rows, tokens: count, failed: [], computeMs: answersMs }
      return { answers, prompt: chunk.left === 0 ? wholeOf(chunk, result) : undefined }
    }
    chunk.add(tokens, computeMs - answersMs)
    const drawn = output.drawn.map(([token]) => token)
    const answers = drawnOf(rows, drawn.slice(0, count), answersMs)
    if (chunk.left > 0) return { answers, prompt: undefined }
    if (draws === 0) return { answers, prompt: wholeOf(chunk, { kind: 'none' }) }
    const last = drawnOf(step.rows, drawn.slice(count), chunk.computeMs)
    return { answers, prompt: { ...wholeOf(chunk, last.result), rows: last.rows, failed: last.failed } }
  }
}

/** Tokens of those for whom one could be drawn. */
function drawnOf(
  rows: FrameRow[],
  tokens: readonly (SampledToken | undefined)[],
  computeMs: number
): Computed {
  const failed = rows.filter((_, i) => tokens[i] === undefined)
  const left = rows.filter(row => !failed.includes(row))
  const drawn = tokens.filter(token => token !== undefined)
  return { result: { kind: 'tokens', tokens: drawn }, rows: left, tokens: left.length, failed, computeMs }
}

/** What a chunk comes to, by what its last piece came to. */
function wholeOf({ arrived, hidden, computeMs }: PromptChunk, last: StepResult): Computed {
  const { rows, tokens } = arrived.step
  const result: StepResult = hidden === undefined ? last : { kind: 'hidden', hidden }
  return { result, rows, tokens, failed: [], computeMs }
}

/** @throws {StageInputError} where tokens before a step are missing: what came before it may have become stale on its way */
function checkCached({ sessions, step: { rows } }: ComputedStep): void {
  if (!sessions.some(({ cached }, i) => cached < rows[i]!.position)) return
  throw new StageInputError('a step starts behind tokens that were never computed')
}

/** The tokens of a step are in the KV caches. */
function note({ sessions, step: { rows, tokens } }: ComputedStep): void {
  for (const [i, session] of sessions.entries()) session.cached = rows[i]!.position + tokens / rows.length
}

/**
 * Hidden states that no later step overwrites: of a session that feeds guesses any number of steps may be computed before
 * this one's result has left.
 */
function ownMemory(hidden: HiddenStates, [row]: FrameRow[]): HiddenStates {
  return row?.epoch === undefined || hidden.tokens > 1 ? hidden : copyOf(hidden)
}

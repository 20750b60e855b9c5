import type { ModelShape } from '../manifest.ts'
import { ContextOverflowError, PositionError, RuntimeInputError } from './errors.ts'
import { hiddenBytes } from './memory.ts'
import type { ForwardInput, OpenSessionOptions, StepPart } from './runtime.ts'
import { samplingProblem } from './sampler.ts'
import type { ShardExecutor } from './shard-executor.ts'

export function tokensOf(input: ForwardInput['input']): number {
  return input instanceof Int32Array ? input.length : input.tokens
}

/** @throws {RuntimeInputError} unless `input` is what the shard's first layer takes, and at least one token. */
export function checkInput(shape: ModelShape, firstLayer: number, input: ForwardInput['input']): void {
  if (input instanceof Int32Array) {
    if (firstLayer !== 0) throw new RuntimeInputError(`layer ${firstLayer} takes hidden states, not tokens`)
    const bad = input.find(id => id < 0 || id >= shape.vocabSize)
    if (bad !== undefined) throw new RuntimeInputError(`token ${bad} is not in [0, ${shape.vocabSize})`)
  } else {
    if (firstLayer === 0) throw new RuntimeInputError('layer 0 takes tokens, not hidden states')
    const bytes = hiddenBytes(shape, input.tokens)
    if (!(input.data instanceof Float32Array) || input.data.byteLength !== bytes) {
      throw new RuntimeInputError(`hidden states of ${input.tokens} tokens must have ${bytes} bytes`)
    }
  }
  if (tokensOf(input) === 0) throw new RuntimeInputError('a step needs at least one token')
}

/** @throws {RuntimeInputError} unless a layer that joins what another model made of as many tokens is given it. */
export function checkPrevious(shape: ModelShape, tokens: number, previous: Float32Array | undefined): void {
  if (previous instanceof Float32Array && previous.byteLength === hiddenBytes(shape, tokens)) return
  throw new RuntimeInputError(`a step of ${tokens} tokens has not the states that its layers join`)
}

/** @throws {RuntimeInputError} unless parts make sense as they are, of so many sequences with so many rows together. */
export function checkParts(
  parts: readonly StepPart[],
  { sequences, rows, draws }: { sequences: number; rows: number; draws: number }
): void {
  const sum = parts.reduce((tokens, part) => tokens + part.tokens, 0)
  if (sequences !== parts.length || sum !== rows) {
    throw new RuntimeInputError(
      `${sequences} sessions, ${parts.length} parts of ${sum} tokens and ${rows} rows differ`
    )
  }
  for (const part of parts) {
    const { position, tokens } = part
    const whole = [position, tokens, part.draws].every(Number.isInteger)
    if (!whole || position < 0 || tokens < 1 || part.draws < 0 || part.draws > tokens) {
      throw new RuntimeInputError(
        `${tokens} tokens at ${position} with ${part.draws} draws are no part of a step`
      )
    }
    if (part.draws > draws) {
      throw new RuntimeInputError(`a sequence draws ${part.draws} tokens in a step, at most ${draws} can be`)
    }
  }
}

/** @throws {PositionError} or {ContextOverflowError} unless `tokens` tokens from `position` on continue the cache. */
export function checkPosition(position: number, tokens: number, length: number, maxTokens: number): void {
  if (position !== length) {
    const message = `a step at position ${position} was sent to a session of ${length} tokens`
    throw new PositionError(message, length, position)
  }
  if (position + tokens > maxTokens) {
    const message = `${position} + ${tokens} tokens do not fit a session of ${maxTokens}`
    throw new ContextOverflowError(message, maxTokens)
  }
}

/** @throws {ContextOverflowError} unless the model has so long a context. */
export function checkMaxTokens({ contextLength }: ModelShape, maxTokens: number): void {
  if (Number.isInteger(maxTokens) && maxTokens >= 1 && maxTokens <= contextLength) return
  const message = `a session of ${maxTokens} tokens is not in 1..${contextLength}, the model's context`
  throw new ContextOverflowError(message, contextLength)
}

/** @throws {RuntimeInputError} unless the sampling makes sense, where the shard samples. */
export function checkSampling(shard: ShardExecutor, sampling: OpenSessionOptions['sampling']): void {
  if (!shard.endsWithHead) return
  if (sampling === undefined) throw new RuntimeInputError('a session on the head needs to know how to sample')
  const { vocabSize } = shard.manifest.shape
  const { logitBias = [], ends = [], reply } = sampling
  const ids = [...logitBias.map(([id]) => id), ...ends, ...(reply?.lastIds ?? [])]
  const foreign = ids.find(id => id >= vocabSize)
  const problem =
    samplingProblem(sampling) ?? (foreign === undefined ? undefined : `token ${foreign} is none`)
  if (problem !== undefined) throw new RuntimeInputError(problem)
}

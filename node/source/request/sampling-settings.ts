import { randomInt } from 'node:crypto'
import type { Penalties, Sampling } from '../../../models/runtime/sampler.ts'
import {
  LEAST_TOP_P,
  MAX_ENDS,
  MAX_LOGIT_BIAS,
  MAX_LOGIT_BIASES,
  MAX_PENALTY_WINDOW,
  MAX_REPETITION,
  MAX_TOP_K,
  MAX_TOP_LOGPROBS,
  MIN_REPETITION
} from '../../../models/runtime/sampling-limits.ts'
import type { GenerateRequest } from '../../api.ts'
import { DEFAULT_TEMPERATURE, DEFAULT_TOP_P, MAX_STOP_TOKEN_IDS } from '../../constants.ts'
import { RequestError } from '../../errors.ts'
import { integer, number } from './in-range.ts'

const MAX_COUNT = Number.MAX_SAFE_INTEGER
/** No context is as long. */
const MAX_MIN_TOKENS = 2 ** 24
/** What OpenAI's two penalties may be. */
const MOST_PENALTY = 2

/**
 * How a request's tokens are drawn; what changes nothing is left out of it.
 *
 * @throws {RequestError} naming the first field that is out of its range
 */
export function samplingOf(request: GenerateRequest): Sampling {
  const topK = integer('topK', request.topK ?? 0, 0, MAX_COUNT)
  const minP = number('minP', request.minP ?? 0, 0, 1)
  const minTokens = integer('minTokens', request.minTokens ?? 0, 0, request.maxTokens ?? MAX_MIN_TOKENS)
  const penalties = penaltiesOf(request)
  const logitBias = biasesOf(request.logitBias ?? {})
  return {
    temperature: number('temperature', request.temperature ?? DEFAULT_TEMPERATURE, 0, 2),
    topP: Math.max(LEAST_TOP_P, number('topP', request.topP ?? DEFAULT_TOP_P, 0, 1)),
    seed: integer('seed', request.seed ?? randomInt(2 ** 32 - 1), 0, MAX_COUNT),
    topLogprobs: integer('topLogprobs', request.topLogprobs ?? 0, 0, MAX_TOP_LOGPROBS),
    ...(topK > 0 && topK < MAX_TOP_K && { topK }),
    ...(minP > 0 && { minP }),
    ...(penalties && { penalties }),
    ...(logitBias.length > 0 && { logitBias }),
    ...(minTokens > 0 && { minTokens })
  }
}

/** @throws {RequestError} */
export function stopTokenIdsOf({ stopTokenIds = [] }: GenerateRequest): readonly number[] {
  if (stopTokenIds.length > MAX_STOP_TOKEN_IDS) {
    throw new RequestError(`stopTokenIds: at most ${MAX_STOP_TOKEN_IDS} of them`, 'stopTokenIds')
  }
  for (const id of stopTokenIds) integer('stopTokenIds', id, 0, MAX_COUNT)
  return stopTokenIds
}

/**
 * The sampling for a model: with the tokens that end its replies, where none may before the least tokens are there.
 *
 * @throws {RequestError} for a token that the model does not have
 */
export function samplingFor(
  sampling: Sampling,
  {
    ends,
    stopTokenIds,
    vocabSize
  }: { ends: ReadonlySet<number>; stopTokenIds: readonly number[]; vocabSize: number }
): Sampling {
  const check = (param: string, ids: readonly number[]) => {
    const foreign = ids.find(id => id >= vocabSize)
    if (foreign === undefined) return
    throw new RequestError(`${param}: the model has ${vocabSize} tokens, none is ${foreign}`, param)
  }
  check('stopTokenIds', stopTokenIds)
  check('logitBias', sampling.logitBias?.map(([id]) => id) ?? [])
  if (sampling.minTokens === undefined) return sampling
  const drawable = [...ends].filter(id => id < vocabSize)
  if (drawable.length <= MAX_ENDS && drawable.length < vocabSize) return { ...sampling, ends: drawable }
  throw new RequestError(
    `minTokens: the reply has ${drawable.length} ends, too many to wait with`,
    'minTokens'
  )
}

function penaltiesOf(request: GenerateRequest): Penalties | undefined {
  const { repetitionPenalty = 1, frequencyPenalty = 0, presencePenalty = 0 } = request
  const window = integer('penaltyWindow', request.penaltyWindow ?? MAX_PENALTY_WINDOW, 0, MAX_PENALTY_WINDOW)
  const repetition = number('repetitionPenalty', repetitionPenalty, MIN_REPETITION, MAX_REPETITION)
  const frequency = number('frequencyPenalty', frequencyPenalty, -MOST_PENALTY, MOST_PENALTY)
  const presence = number('presencePenalty', presencePenalty, -MOST_PENALTY, MOST_PENALTY)
  const isNeutral = repetition === 1 && frequency === 0 && presence === 0
  return isNeutral || window === 0 ? undefined : { repetition, frequency, presence, window }
}

function biasesOf(given: Readonly<Record<string, number>>): [id: number, bias: number][] {
  const biases = Object.entries(given).map(([id, bias]): [number, number] => [
    integer('logitBias', /^\d+$/.test(id) ? Number(id) : Number.NaN, 0, MAX_COUNT),
    number('logitBias', bias, -MAX_LOGIT_BIAS, MAX_LOGIT_BIAS)
  ])
  if (biases.length <= MAX_LOGIT_BIASES) return biases.filter(([, bias]) => bias !== 0)
  throw new RequestError(`logitBias: at most ${MAX_LOGIT_BIASES} tokens`, 'logitBias')
}

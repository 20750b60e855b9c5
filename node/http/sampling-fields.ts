import * as z from 'zod'
import {
  MAX_LOGIT_BIAS,
  MAX_LOGIT_BIASES,
  MAX_PENALTY_WINDOW,
  MAX_REPETITION,
  MIN_REPETITION
} from '../../models/runtime/sampling-limits.ts'
import type { GenerateRequest } from '../api.ts'
import { MAX_STOP_TOKEN_IDS } from '../constants.ts'
import { RequestError } from '../errors.ts'

/** Which tokens may be drawn and how likely they are made: the same in every API, under the names that other servers have. */

/** Of llama.cpp's and Ollama's `repeat_penalty` where no window is named. */
const REPEAT_LAST_N = 64
const MAX_COUNT = 2 ** 24

/** As `samplingOptions` reads them; -1 means no limit elsewhere. */
const repetition = z.number().min(MIN_REPETITION).max(MAX_REPETITION).nullish()
const window = z.int().min(-1).max(MAX_PENALTY_WINDOW).nullish()
const penalty = z.number().min(-2).max(2).nullish()
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const bias = z.number().min(-MAX_LOGIT_BIAS).max(MAX_LOGIT_BIAS)
const leastTokens = z.int().min(0).max(MAX_COUNT).nullish()
const tooMany = `at most ${MAX_LOGIT_BIASES} tokens`

/** OpenAI's form, ids to numbers, or llama.cpp's, pairs of the two. */
const logitBias = z
  .union(
    [
      z.record(z.string().regex(/^\d{1,10}$/, 'give ids of tokens'), bias),
      z
        .array(z.tuple([tokenId, bias]))
        .transform(pairs => Object.fromEntries(pairs) as Record<string, number>)
    ],
    `give ids of tokens with numbers from -${MAX_LOGIT_BIAS} to ${MAX_LOGIT_BIAS}`
  )
  .refine(biases => Object.keys(biases).length <= MAX_LOGIT_BIASES, tooMany)
  .nullish()

export const samplingFields = {
  top_k: z.int().min(-1).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  repetition_penalty: repetition,
  repeat_penalty: repetition,
  repeat_last_n: window,
  penalty_last_n: window,
  frequency_penalty: penalty,
  presence_penalty: penalty,
  logit_bias: logitBias,
  stop_token_ids: z.array(tokenId).max(MAX_STOP_TOKEN_IDS).nullish(),
  min_tokens: leastTokens,
  min_new_tokens: leastTokens,
  ignore_eos: z.boolean().nullish()
}

type SamplingFields = Partial<z.output<z.ZodObject<typeof samplingFields>>>

/**
 * These in the node's words, where they were given.
 *
 * @param usualWindow how many tokens penalties count where the client does not say; undefined: all that can be
 * @throws {RequestError} where two names of one thing say different things
 */
export function samplingOptions(
  given: SamplingFields,
  usualWindow = isAsked(given.repeat_penalty, 1) ? REPEAT_LAST_N : undefined
): Partial<GenerateRequest> {
  const repetitionPenalty = either(given, 'repetition_penalty', 'repeat_penalty')
  const { top_k: topK, frequency_penalty: frequency, presence_penalty: presence } = given
  const { logit_bias: biases, stop_token_ids: ids } = given
  const penalizes = isAsked(repetitionPenalty, 1) || isAsked(frequency, 0) || isAsked(presence, 0)
  const window = either(given, 'repeat_last_n', 'penalty_last_n') ?? (penalizes ? usualWindow : undefined)
  return withoutAbsent({
    topK: topK === -1 ? 0 : topK,
    minP: given.min_p,
    repetitionPenalty,
    frequencyPenalty: frequency,
    presencePenalty: presence,
    penaltyWindow: window === -1 ? undefined : window,
    logitBias: biases && Object.keys(biases).length > 0 ? biases : undefined,
    stopTokenIds: ids && ids.length > 0 ? ids : undefined,
    minTokens: either(given, 'min_tokens', 'min_new_tokens'),
    ignoreEos: given.ignore_eos
  })
}

/** Ollama's options: penalties count what its own do where no window is named. */
export function ollamaSampling(given: SamplingFields): Partial<GenerateRequest> {
  return samplingOptions(given, REPEAT_LAST_N)
}

function isAsked(value: number | null | undefined, neutral: number): boolean {
  return (value ?? neutral) !== neutral
}

/**
 * Names of what of a field is not done: elsewhere a penalty on repetitions counts the prompt's tokens, too, which here do not
 * leave the source.
 */
export function undoneOfSampling(given: SamplingFields, path = ''): string[] {
  return (['repetition_penalty', 'repeat_penalty'] as const)
    .filter(name => isAsked(given[name], 1))
    .map(name => `${path}${name}.prompt`)
}

type Names =
  | 'repetition_penalty'
  | 'repeat_penalty'
  | 'repeat_last_n'
  | 'penalty_last_n'
  | 'min_tokens'
  | 'min_new_tokens'

function either(given: SamplingFields, name: Names, other: Names): number | undefined {
  const [one, two] = [given[name] ?? undefined, given[other] ?? undefined]
  if (one === undefined || two === undefined || one === two) return one ?? two
  throw new RequestError(`${name}: ${other} says something else; give one of them`, name)
}

function withoutAbsent(fields: Record<string, unknown>): Partial<GenerateRequest> {
  return Object.fromEntries(
    Object.entries(fields).filter(([, value]) => value !== undefined && value !== null)
  ) as Partial<GenerateRequest>
}

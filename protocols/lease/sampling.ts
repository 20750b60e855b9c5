import { z } from 'zod'
import {
  MAX_ENDS,
  MAX_LOGIT_BIAS,
  MAX_LOGIT_BIASES,
  MAX_PENALTY,
  MAX_PENALTY_WINDOW,
  MAX_REPETITION,
  MAX_TOP_K,
  MAX_TOP_LOGPROBS,
  MIN_REPETITION
} from '../../models/runtime/sampling-limits.ts'

/** A token's id is of 32 bits on the wire, and positive. */
const token = z
  .int()
  .min(0)
  .max(2 ** 31 - 1)
const count = z
  .int()
  .min(0)
  .max(2 ** 24)
const penalty = z.number().min(-MAX_PENALTY).max(MAX_PENALTY)

/** How the stage that holds the head draws tokens, and what is known of the reply where that matters. */
export const sampling = z.object({
  temperature: z.number().min(0).max(100),
  topP: z.number().gt(0).max(1),
  seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER),
  topLogprobs: z.int().min(0).max(MAX_TOP_LOGPROBS),
  topK: z.int().min(1).max(MAX_TOP_K).optional(),
  minP: z.number().min(0).max(1).optional(),
  penalties: z
    .object({
      repetition: z.number().min(MIN_REPETITION).max(MAX_REPETITION),
      frequency: penalty,
      presence: penalty,
      window: z.int().min(0).max(MAX_PENALTY_WINDOW)
    })
    .optional(),
  logitBias: z
    .array(z.tuple([token, z.number().min(-MAX_LOGIT_BIAS).max(MAX_LOGIT_BIAS)]).readonly())
    .max(MAX_LOGIT_BIASES)
    .readonly()
    .optional(),
  minTokens: count.optional(),
  ends: z.array(token).max(MAX_ENDS).readonly().optional(),
  reply: z
    .object({
      promptTokens: count,
      knownTokens: count,
      lastIds: z.array(token).max(MAX_PENALTY_WINDOW).readonly()
    })
    .refine(({ knownTokens, lastIds }) => lastIds.length <= knownTokens, 'more tokens than are known')
    .optional()
})

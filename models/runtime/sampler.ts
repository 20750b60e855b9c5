import { adjustedLogits } from './adjusted-logits.ts'
import { ReplyHistory } from './reply-history.ts'
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
} from './sampling-limits.ts'
import { maskedLogits, type TokenMask } from './token-mask.ts'

/**
 * How the next token is drawn from the logits. In this order: `logitBias`, `penalties`, `minTokens`, a mask, `temperature`,
 * `topK`, `topP`, `minP` (that of Transformers; each filter takes what the one before it has left).
 */
export interface Sampling {
  /** 0 takes the likeliest token. */
  temperature: number
  /** Smallest set of tokens whose probabilities sum to at least `topP`, in (0, 1], of what `topK` leaves. */
  topP: number
  /** Same seed, position and logits: same token, on whichever stage, also after a recovery. */
  seed: number
  /** How many of the likeliest tokens to report with their log-probabilities, 0 to 20. */
  topLogprobs: number
  /** The likeliest so many tokens, 1 to MAX_TOP_K. @default all */
  topK?: number | undefined
  /** Tokens that are at least so likely, as a share of the likeliest one's probability, 0 to 1. @default 0 */
  minP?: number | undefined
  /** What makes tokens less likely that the reply has already. @default nothing */
  penalties?: Penalties | undefined
  /** What is added to the logits of some tokens, -100 to 100; at most MAX_LOGIT_BIASES. @default nothing */
  logitBias?: readonly (readonly [id: number, bias: number])[] | undefined
  /** Tokens of the reply before which none of `ends` is drawn. @default 0 */
  minTokens?: number | undefined
  /** Tokens that end the reply, at most MAX_ENDS; of use with `minTokens` only. @default none */
  ends?: readonly number[] | undefined
  /** The reply when the session is opened; what `penalties` and `minTokens` need. @default an empty one, at position 0 */
  reply?: ReplySoFar | undefined
}

/**
 * Tokens among the last `window` of the reply become less likely. Those of the prompt do not: a prompt never leaves its
 * source, so the stage that draws does not know them, and an answer must not depend on where that stage is.
 */
export interface Penalties {
  /** Divides the logit of a token that is there, or multiplies a negative one; MIN_REPETITION to MAX_REPETITION, 1: none. */
  repetition: number
  /** Is taken off once for each time that it is there, -MAX_PENALTY to MAX_PENALTY. */
  frequency: number
  /** Is taken off once, -MAX_PENALTY to MAX_PENALTY. */
  presence: number
  /** 0 to MAX_PENALTY_WINDOW. */
  window: number
}

/** A reply of which some tokens are drawn already: it was cut off, and goes on. */
export interface ReplySoFar {
  /** Tokens before it. */
  promptTokens: number
  /** Tokens of it that are known. */
  knownTokens: number
  /** The last ones of these, at most MAX_PENALTY_WINDOW: all that are counted. */
  lastIds: readonly number[]
}

/** A token drawn by the stage that holds the head. */
export interface SampledToken {
  id: number
  /** Natural logarithm of the model's probability of `id`, before temperature. */
  logprob: number
  /** The likeliest tokens, best first, when `topLogprobs` was asked for. */
  top: { id: number; logprob: number }[]
}

/** What is wrong with a sampling specification, or undefined. */
export function samplingProblem(sampling: Sampling): string | undefined {
  const { temperature, topP, seed, topLogprobs, topK = 1, minP = 0, minTokens = 0 } = sampling
  const { logitBias = [], ends = [] } = sampling
  if (!Number.isFinite(temperature) || temperature < 0) return `temperature ${temperature} is not 0 or more`
  if (!(topP > 0 && topP <= 1)) return `topP ${topP} is not in (0, 1]`
  if (!Number.isSafeInteger(seed)) return `seed ${seed} is not an integer`
  if (!isWhole(topLogprobs, 0, MAX_TOP_LOGPROBS)) {
    return `topLogprobs ${topLogprobs} is not in 0..${MAX_TOP_LOGPROBS}`
  }
  if (!isWhole(topK, 1, MAX_TOP_K)) return `topK ${topK} is not in 1..${MAX_TOP_K}`
  if (!(minP >= 0 && minP <= 1)) return `minP ${minP} is not in [0, 1]`
  if (!isWhole(minTokens, 0, Number.MAX_SAFE_INTEGER)) return `minTokens ${minTokens} is not 0 or more`
  if (logitBias.length > MAX_LOGIT_BIASES) return `logitBias has more than ${MAX_LOGIT_BIASES} tokens`
  const wrong = logitBias.find(([id, bias]) => !isToken(id) || !(Math.abs(bias) <= MAX_LOGIT_BIAS))
  if (wrong !== undefined) return `logitBias ${wrong[1]} of token ${wrong[0]} is not in [-100, 100]`
  if (ends.length > MAX_ENDS || !ends.every(isToken)) return `ends are not up to ${MAX_ENDS} tokens`
  return penaltiesProblem(sampling) ?? replyProblem(sampling)
}

function penaltiesProblem({ penalties }: Sampling): string | undefined {
  if (penalties === undefined) return undefined
  const { repetition, frequency, presence, window } = penalties
  if (!(repetition >= MIN_REPETITION && repetition <= MAX_REPETITION)) {
    return `the repetition penalty ${repetition} is not in [${MIN_REPETITION}, ${MAX_REPETITION}]`
  }
  const wrong = [frequency, presence].find(penalty => !(Math.abs(penalty) <= MAX_PENALTY))
  if (wrong !== undefined) return `the penalty ${wrong} is not in [-${MAX_PENALTY}, ${MAX_PENALTY}]`
  if (isWhole(window, 0, MAX_PENALTY_WINDOW)) return undefined
  return `the penalties' window ${window} is not in 0..${MAX_PENALTY_WINDOW}`
}

function replyProblem({ reply }: Sampling): string | undefined {
  if (reply === undefined) return undefined
  const { promptTokens, knownTokens, lastIds } = reply
  const whole = [promptTokens, knownTokens].every(isToken) && lastIds.every(isToken)
  if (whole && lastIds.length <= Math.min(knownTokens, MAX_PENALTY_WINDOW)) return undefined
  return `a reply of ${knownTokens} tokens, the last ${lastIds.length} of them known, behind ${promptTokens} makes no sense`
}

function isWhole(value: number, min: number, max: number): boolean {
  return Number.isInteger(value) && value >= min && value <= max
}

function isToken(value: number): boolean {
  return isWhole(value, 0, Number.MAX_SAFE_INTEGER)
}

/** What counts of a reply for this sampling; undefined where nothing does. */
export function historyFor({ penalties, minTokens = 0, reply }: Sampling): ReplyHistory | undefined {
  if (penalties === undefined && minTokens === 0) return undefined
  const known = reply ?? { promptTokens: 0, knownTokens: 0, lastIds: [] }
  return new ReplyHistory(known, penalties?.window ?? 0)
}

/**
 * Draws a token from `logits` (vocabulary), `logSum` being the logarithm of the sum of their exponentials.
 *
 * @param position of the token that the logits follow: with the seed it fixes the draw.
 * @param reply `historyFor` this sampling, which the token is added to
 * @param mask tokens that may be drawn; absent: all. Log-probabilities stay those of the model.
 */
export function sampleToken(
  logits: Float32Array,
  logSum: number,
  sampling: Sampling,
  position: number,
  { reply, mask }: { reply?: ReplyHistory | undefined; mask?: TokenMask | undefined } = {}
): SampledToken {
  const adjusted = adjustedLogits(logits, sampling, position, reply)
  const allowed = mask === undefined ? adjusted : maskedLogits(adjusted, mask)
  const id = choose(allowed, sampling, uniform(sampling.seed, position))
  reply?.drawn(position, id)
  // Float32 as on the wire: the same whether the last stage is this device's or another's.
  const logprobOf = (id: number) => Math.fround(logits[id]! - logSum)
  const top = likeliest(logits, sampling.topLogprobs).map(i => ({ id: i, logprob: logprobOf(i) }))
  return { id, logprob: logprobOf(id), top }
}

/** A number in [0, 1) from seed and position alone: the splitmix64 generator's output number `position`. */
export function uniform(seed: number, position: number): number {
  let z = BigInt.asUintN(64, BigInt(seed) + BigInt(position + 1) * 0x9e3779b97f4a7c15n)
  z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n)
  z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn)
  return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53
}

/** The first of the largest. */
function argmax(logits: Values): number {
  let best = 0
  let max = logits[0]!
  for (let i = 1; i < logits.length; i++) {
    const logit = logits[i]!
    if (logit > max) {
      max = logit
      best = i
    }
  }
  return best
}

type Values = Float32Array | Float64Array

/** Inverts the cumulative distribution at `u` in [0, 1), over the tokens that the filters leave. */
function choose(logits: Values, { temperature, topK, topP, minP = 0 }: Sampling, u: number): number {
  const best = argmax(logits)
  const max = logits[best]!
  // Where nothing may be drawn at all the first token stands for it.
  if (temperature === 0 || max === Number.NEGATIVE_INFINITY) return best
  let ids = topK !== undefined && topK < logits.length ? likeliest(logits, topK) : undefined
  // The likeliest token counts 1; nothing is computed of those that are out already.
  const weights = new Float64Array(logits.length)
  let sum = 0
  if (ids === undefined) {
    for (let i = 0; i < logits.length; i++) sum += weights[i] = Math.exp((logits[i]! - max) / temperature)
  } else for (const id of ids) sum += weights[id] = Math.exp((logits[id]! - max) / temperature)
  if (topP < 1) ids = nucleus(weights, ids ?? likelyEnough(weights, sum, topP), topP * sum)
  if (minP > 0) ids = ids?.filter(id => weights[id]! >= minP) ?? atLeast(weights, minP)
  if (ids === undefined) return invert(weights, u * sum, i => i, weights.length)
  const kept = ids
  return invert(weights, u * sumOf(weights, kept), i => kept[i]!, kept.length)
}

function sumOf(weights: Float64Array, ids: readonly number[]): number {
  return ids.reduce((sum, id) => sum + weights[id]!, 0)
}

function atLeast(weights: Float64Array, least: number): number[] {
  const ids: number[] = []
  for (let i = 0; i < weights.length; i++) if (weights[i]! >= least) ids.push(i)
  return ids
}

/** Tokens, the likeliest first, as far as a set that reaches `topP` needs them. */
function likelyEnough(weights: Float64Array, sum: number, topP: number): number[] {
  // Tokens below this weight sum to less than 1 - topP, so those above reach topP without them: only they are sorted.
  const ids = atLeast(weights, ((1 - topP) * sum) / weights.length)
  return ids.sort((a, b) => weights[b]! - weights[a]! || a - b)
}

/** The first of `ids`, the likeliest first, whose weights reach `target`. */
function nucleus(weights: Float64Array, ids: readonly number[], target: number): number[] {
  let kept = 0
  let count = 0
  while (count < ids.length && kept < target) kept += weights[ids[count++]!]!
  return ids.slice(0, count)
}

function invert(weights: Float64Array, target: number, idOf: (i: number) => number, count: number): number {
  let sum = 0
  for (let i = 0; i < count; i++) {
    sum += weights[idOf(i)]!
    if (sum > target) return idOf(i)
  }
  // Rounding may leave the target at the sum itself: the last token with any weight.
  for (let i = count - 1; i > 0; i--) if (weights[idOf(i)]! > 0) return idOf(i)
  return idOf(0)
}

/** The `count` likeliest tokens, best first, ties by id. */
function likeliest(values: Values, count: number): number[] {
  const best: number[] = []
  if (count === 0) return best
  const keep = () => {
    best.sort((a, b) => values[b]! - values[a]! || a - b)
    best.length = Math.min(best.length, count)
  }
  let least = Number.NEGATIVE_INFINITY
  for (let i = 0; i < values.length; i++) {
    if (values[i]! <= least) continue
    // Sorted once for as many as are kept: each costs the logarithm of their count.
    if (best.push(i) < 2 * count + SORTED_AT_ONCE) continue
    keep()
    least = values[best.at(-1)!]!
  }
  keep()
  return best
}

const SORTED_AT_ONCE = 64

import { maskedLogits, type TokenMask } from './token-mask.ts'

/** How the next token is drawn from the logits. */
export interface Sampling {
  /** 0 takes the likeliest token. */
  temperature: number
  /** Smallest set of tokens whose probabilities sum to at least `topP`, in (0, 1]. */
  topP: number
  /** Same seed, position and logits: same token, on whichever stage, also after a recovery. */
  seed: number
  /** How many of the likeliest tokens to report with their log-probabilities, 0 to 20. */
  topLogprobs: number
}

/** A token drawn by the stage that holds the head. */
export interface SampledToken {
  id: number
  /** Natural logarithm of the model's probability of `id`, before temperature. */
  logprob: number
  /** The likeliest tokens, best first, when `topLogprobs` was asked for. */
  top: { id: number; logprob: number }[]
}

export const MAX_TOP_LOGPROBS = 20
/** Least nucleus, the likeliest token alone: what clients mean by a `topP` of 0. */
export const LEAST_TOP_P = 1e-9

/** What is wrong with a sampling specification, or undefined. */
export function samplingProblem({ temperature, topP, seed, topLogprobs }: Sampling): string | undefined {
  if (!Number.isFinite(temperature) || temperature < 0) return `temperature ${temperature} is not 0 or more`
  if (!(topP > 0 && topP <= 1)) return `topP ${topP} is not in (0, 1]`
  if (!Number.isSafeInteger(seed)) return `seed ${seed} is not an integer`
  if (!Number.isInteger(topLogprobs) || topLogprobs < 0 || topLogprobs > MAX_TOP_LOGPROBS) {
    return `topLogprobs ${topLogprobs} is not in 0..${MAX_TOP_LOGPROBS}`
  }
  return undefined
}

/**
 * Draws a token from `logits` (vocabulary), `logSum` being the logarithm of the sum of their exponentials.
 *
 * @param position of the token that the logits follow: with the seed it fixes the draw.
 * @param mask tokens that may be drawn; absent: all. Log-probabilities stay those of the model.
 */
export function sampleToken(
  logits: Float32Array,
  logSum: number,
  sampling: Sampling,
  position: number,
  mask?: TokenMask
): SampledToken {
  const { temperature, topP, seed, topLogprobs } = sampling
  const allowed = mask === undefined ? logits : maskedLogits(logits, mask)
  const best = argmax(allowed)
  const id =
    temperature === 0 ? best : draw(allowed, allowed[best]!, temperature, topP, uniform(seed, position))
  // Float32 as on the wire: the same whether the last stage is this device's or another's.
  const logprobOf = (id: number) => Math.fround(logits[id]! - logSum)
  const top = likeliest(logits, topLogprobs).map(i => ({ id: i, logprob: logprobOf(i) }))
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
function argmax(logits: Float32Array): number {
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

/** Inverts the cumulative distribution at `u`: over the whole vocabulary, or over the smallest set that reaches topP. */
function draw(logits: Float32Array, max: number, temperature: number, topP: number, u: number): number {
  const weights = new Float64Array(logits.length)
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += weights[i] = Math.exp((logits[i]! - max) / temperature)
  if (topP === 1) {
    return invert(weights, u * sum, i => i, weights.length)
  }
  // Tokens below this weight sum to less than 1 - topP, so those above reach topP without them: only they are sorted.
  const least = ((1 - topP) * sum) / logits.length
  const ids: number[] = []
  for (let i = 0; i < weights.length; i++) if (weights[i]! >= least) ids.push(i)
  ids.sort((a, b) => weights[b]! - weights[a]! || a - b)
  let kept = 0
  let count = 0
  while (count < ids.length && kept < topP * sum) kept += weights[ids[count++]!]!
  return invert(weights, u * kept, i => ids[i]!, count)
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
function likeliest(logits: Float32Array, count: number): number[] {
  const top: number[] = []
  if (count === 0) return top
  for (let i = 0; i < logits.length; i++) {
    if (top.length === count && logits[i]! <= logits[top.at(-1)!]!) continue
    let at = top.length
    while (at > 0 && logits[top[at - 1]!]! < logits[i]!) at--
    top.splice(at, 0, i)
    if (top.length > count) top.pop()
  }
  return top
}

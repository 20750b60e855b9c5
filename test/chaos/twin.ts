import type { GenerateRequest } from '../../node/api.ts'
import { ask, type Trace } from './client.ts'
import type { Device } from './mesh.ts'

/** A rebuilt KV cache may differ in its last bit; where the two best logits are nearer than this, either may win. */
export const FORK_MARGIN = 0.001

/**
 * Answers that are decoded together: the int8 matrix product of several rows may round an input otherwise than that of
 * one, and log-probabilities of the bundled model then differ by up to this (measured: 0.12).
 */
const ROUNDING = 0.25

export type Verdict =
  | { kind: 'equal' }
  /** Both are right up to a token that the two best logits nearly tie for. */
  | { kind: 'fork'; at: number; margin: number }
  | { kind: 'different'; at: number; why: string }

/** Undisturbed answers, each asked for once: of one device that holds the whole model by itself. */
export class Twins {
  readonly #device: Device
  readonly #answers = new Map<string, Promise<Trace>>()
  #last: Promise<unknown> = Promise.resolve()

  constructor(device: Device) {
    this.#device = device
  }

  of(request: GenerateRequest): Promise<Trace> {
    const key = JSON.stringify(request)
    const known = this.#answers.get(key)
    if (known !== undefined) return known
    // One at a time: answers that are decoded together are rounded together.
    const answer = this.#last.then(() => ask(this.#device.address, request))
    this.#last = answer.catch(() => {})
    this.#answers.set(key, answer)
    return answer
  }
}

/** Holds a whole answer against its undisturbed twin: tokens, text and why it ended. */
export function compare(answer: Trace, twin: Trace): Verdict {
  if (answer.end.kind === 'error') return different(answer, answer.end.message)
  if (twin.end.kind === 'error') throw new Error(`the undisturbed answer failed: ${twin.end.message}`)
  const verdict = comparePrefix(answer, twin)
  if (verdict.kind !== 'equal') return verdict
  const { result } = answer.end
  if (answer.tokens.length !== twin.tokens.length) {
    return different(answer, `it ended after ${answer.tokens.length} tokens, not ${twin.tokens.length}`)
  }
  if (result.finishReason !== twin.end.result.finishReason) {
    return different(answer, `it ended with ${result.finishReason}, not ${twin.end.result.finishReason}`)
  }
  if (JSON.stringify(result.tokens) !== JSON.stringify(answer.tokens.map(({ id }) => id))) {
    return different(answer, 'the tokens of the result are not those that were streamed')
  }
  if (answer.text !== twin.text || result.text !== twin.text) return different(answer, 'its text is another')
  return { kind: 'equal' }
}

/** Holds what came of an answer that was broken off against the beginning of its twin. */
export function comparePrefix(answer: Trace, twin: Trace): Verdict {
  for (const [at, { id }] of answer.tokens.entries()) {
    const expected = twin.tokens[at]
    if (expected?.id === id) continue
    const margin = expected?.margin ?? Number.POSITIVE_INFINITY
    if (margin < FORK_MARGIN) return { kind: 'fork', at, margin }
    const why = `token ${at} is ${id}, not ${expected?.id}, with ${margin} between the two best logits`
    return { kind: 'different', at, why }
  }
  return { kind: 'equal' }
}

/**
 * Holds an answer that was decoded together with others against its twin, which was decoded alone: where they part,
 * everything before must agree but for the rounding of their steps, and so must what was drawn.
 */
export function compareTogether(answer: Trace, twin: Trace): Verdict {
  const verdict = comparePrefix(answer, twin)
  if (verdict.kind !== 'different') return verdict
  const { at } = verdict
  const drift = answer.tokens
    .slice(0, at)
    .map(({ logprob }, i) => Math.abs(logprob - twin.tokens[i]!.logprob))
  const [own, expected] = [answer.tokens[at]!, twin.tokens[at]]
  if (expected === undefined || Math.max(0, ...drift) > ROUNDING) return verdict
  // Both saw the same two best, as far apart but for the rounding.
  const margin = Math.abs((own.margin ?? Number.POSITIVE_INFINITY) - (expected.margin ?? 0))
  const swapped = (own.margin ?? Number.POSITIVE_INFINITY) + (expected.margin ?? 0)
  return Math.min(margin, swapped) <= 2 * ROUNDING
    ? { kind: 'fork', at, margin: expected.margin ?? 0 }
    : verdict
}

function different({ tokens }: Trace, why: string): Verdict {
  return { kind: 'different', at: tokens.length, why }
}

import type { GenerateRequest, GenerateResult } from '../api.ts'
import { RECONSIDER_MS } from '../constants.ts'
import { delay } from '../delay.ts'
import type { BenchApi } from './types.ts'

/** Answers that were asked for at once. */
export interface Round {
  results: GenerateResult[]
  /** When the node had the first request. */
  startMs: number
  /**
   * When the node drew each answer's tokens, by its own clock as `startMs`: a busy reader gets tokens late, and then many at once.
   */
  tokenTimesMs: number[][]
}

/** An answer has fewer tokens than a rate of it would be said of, or the node does not say when it drew them. */
export class UncountedTokensError extends Error {
  override readonly name = 'UncountedTokensError'
  readonly code = 'tokens_uncounted'
}

/** Tokens after which a first answer has shown that everything is loaded. */
const WARM_TOKENS = 3
const SESSION_END_TIMEOUT_MS = 10_000
const POLL_MS = 20

/** @throws what the first answer that fails fails with; the others are ended */
export async function measureRound(
  api: BenchApi,
  requests: readonly GenerateRequest[],
  signal: AbortSignal
): Promise<Round> {
  const failed = new AbortController()
  const either = AbortSignal.any([signal, failed.signal])
  const answers = await Promise.all(
    requests.map(request =>
      readAnswer(api, request, either).catch(error => {
        failed.abort()
        throw error
      })
    )
  )
  return {
    results: answers.map(({ result }) => result),
    startMs: Math.min(...answers.map(({ result, timesMs }) => timesMs[0]! - result.ttftMs)),
    tokenTimesMs: answers.map(({ timesMs }) => timesMs)
  }
}

/** Places the model, then takes a few steps with all sequences: what is done once is done before it counts. */
export async function warmUp(
  api: BenchApi,
  requests: readonly GenerateRequest[],
  signal: AbortSignal
): Promise<void> {
  await beginAnswer(api, requests[0]!, signal)
  if (requests.length > 1) {
    await Promise.all(requests.map(request => beginAnswer(api, request, signal)))
  }
  const deadlineMs = performance.now() + SESSION_END_TIMEOUT_MS
  const busy = async () => (await api.mesh()).deployments.some(({ sessions }) => sessions > 0)
  while ((await busy()) && performance.now() < deadlineMs) await delay(POLL_MS, signal)
}

/** Rounds in a row on one placement after which it is kept: by then the answers have told what it takes. */
const KEPT_ROUNDS = 3

/**
 * Whole rounds that are not counted, until so many in a row ran on one placement; behind each, the time after which the mesh
 * looks for a better one.
 *
 * @param options `rounds`: the most; `placementOf`: what a round ran on, in any words
 * @returns how many it took
 */
export async function settle(
  api: BenchApi,
  requests: readonly GenerateRequest[],
  { rounds, placementOf }: { rounds: number; placementOf: (round: Round) => Promise<string> },
  signal: AbortSignal
): Promise<number> {
  let kept = 0
  let before: string | undefined
  let taken = 0
  for (; taken < rounds && kept < KEPT_ROUNDS; taken++) {
    const placement = await placementOf(await measureRound(api, requests, signal))
    kept = placement === before ? kept + 1 : 1
    before = placement
    await delay(RECONSIDER_MS, signal)
  }
  return taken
}

async function readAnswer(
  api: BenchApi,
  request: GenerateRequest,
  signal: AbortSignal
): Promise<{ result: GenerateResult; timesMs: number[] }> {
  const timesMs: number[] = []
  for await (const event of api.generate(request, signal)) {
    if (event.type === 'text') timesMs.push(...(event.drawnAtMs ?? []))
    if (event.type === 'done') {
      const { result } = event
      if (result.error !== undefined) throw new Error(result.error)
      checkCounted(result.tokens.length, timesMs.length, request)
      return { result, timesMs }
    }
  }
  throw new Error('the node ended an answer without a result')
}

/** @throws {UncountedTokensError} where an answer is shorter than asked for, or its tokens came without their times */
function checkCounted(tokens: number, times: number, { maxTokens = tokens }: GenerateRequest): void {
  if (tokens < maxTokens) {
    throw new UncountedTokensError(
      `an answer ended after ${tokens} of ${maxTokens} tokens, where its context or its memory was full: ask for fewer with --new-tokens`
    )
  }
  if (times !== tokens) {
    throw new UncountedTokensError(
      `the node says of ${times} of ${tokens} tokens when it drew them: update it to the version of this command`
    )
  }
}

/** Reads an answer up to a few tokens and leaves it. */
async function beginAnswer(api: BenchApi, request: GenerateRequest, signal: AbortSignal): Promise<void> {
  const enough = new AbortController()
  let tokens = 0
  try {
    for await (const event of api.generate(request, AbortSignal.any([signal, enough.signal]))) {
      if (event.type === 'text') tokens += event.tokens.length
      if (tokens >= WARM_TOKENS) enough.abort()
    }
  } catch (error) {
    signal.throwIfAborted()
    if (!enough.signal.aborted) throw error
  }
}

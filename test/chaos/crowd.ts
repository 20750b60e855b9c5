import { setTimeout as delay } from 'node:timers/promises'
import type { GenerateRequest } from '../../node/api.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { type Address, ask, post, type Trace } from './client.ts'
import type { ChaosMesh } from './mesh.ts'
import { drawRequest, PROMPTS, pickOf, type Random } from './round.ts'
import { compareTogether, type Twins } from './twin.ts'

/**
 * What a client does: `read` everything, `leave` in the middle of its answer, `vanish` before it begins, `stall`: keep
 * the connection and read nothing, then leave.
 */
export type Manner = 'read' | 'leave' | 'vanish' | 'stall'

export interface CrowdOptions {
  requests: number
  /** How many devices are asked. */
  sources: number
  random: Random
  /** Tokens of an answer at most. */
  maxTokens?: number
}

export interface CrowdResult {
  /** How many clients behaved so. */
  manners: Record<Manner, number>
  equal: number
  forks: number
  /** Requests that were told to come again, and did. */
  retries: number
  tokens: number
  ms: number
  problems: string[]
}

/** All requests come within this time. */
const ARRIVALS_MS = 300
const STALL_MS = 3_000
/** Memory or turns that others have: clients come again, as any client of an API does. */
const RETRY_MS = 250
const END_TIMEOUT_MS = deadlineMs(240_000)

/** Asks several devices at once, with clients of all manners; every answer that is read must equal its twin. */
export async function crowd(
  mesh: ChaosMesh,
  twins: Twins,
  { requests, sources, random, maxTokens }: CrowdOptions
): Promise<CrowdResult> {
  const clients = Array.from({ length: requests }, (_, at) => ({
    address: mesh.devices[at % sources]!.address,
    // Every manner occurs, most of them read.
    manner: at % 3 > 0 ? 'read' : pickOf(random, ['leave', 'leave', 'vanish', 'stall'] as const),
    request: drawRequest(random, maxTokens),
    share: random(),
    arrivesMs: random() * ARRIVALS_MS
  })) satisfies Client[]
  await Promise.all(clients.map(({ request }) => twins.of(request)))
  const result: CrowdResult = {
    manners: { read: 0, leave: 0, vanish: 0, stall: 0 },
    equal: 0,
    forks: 0,
    retries: 0,
    tokens: 0,
    ms: 0,
    problems: []
  }
  const startMs = performance.now()
  const over = AbortSignal.timeout(END_TIMEOUT_MS)
  await Promise.all(
    clients.map(async (client, at) => {
      result.manners[client.manner]++
      await delay(client.arrivesMs)
      const problem = await behave(client, twins, result, over).catch(error => (error as Error).message)
      if (problem !== undefined) result.problems.push(`client ${at}, ${client.manner}: ${problem}`)
    })
  )
  return { ...result, ms: performance.now() - startMs }
}

export function crowdLine(result: CrowdResult, { requests, sources }: CrowdOptions): string {
  const { manners, equal, forks, retries, tokens, ms, problems } = result
  const who = Object.entries(manners).map(([manner, count]) => `${count} ${manner}`)
  const rate = (1000 * tokens) / ms
  return (
    `${requests} requests from ${sources} sources at once (${who.join(', ')}): ${equal} as their twins, ${forks} forks, ` +
    `${problems.length} problems; told to come again ${retries} times; ${tokens} tokens in ${(ms / 1000).toFixed(1)} s, ${rate.toFixed(0)} a second`
  )
}

interface Client {
  address: Address
  manner: Manner
  request: GenerateRequest
  share: number
  arrivesMs: number
}

async function behave(
  { address, manner, request, share }: Client,
  twins: Twins,
  result: CrowdResult,
  over: AbortSignal
): Promise<string | undefined> {
  if (manner === 'vanish') {
    const signal = AbortSignal.timeout(1 + Math.floor(share * 50))
    await post(address, '/v1/chat/completions', chatOf(request, share), signal).then(
      response => response.destroy(),
      () => undefined
    )
    return undefined
  }
  if (manner === 'stall') {
    const response = await post(address, '/v1/chat/completions', chatOf(request, share), over)
    response.on('error', () => undefined)
    response.pause()
    await delay(STALL_MS)
    response.destroy()
    return undefined
  }
  const twin = await twins.of(request)
  const upTo = manner === 'leave' ? share * twin.tokens.length : Number.POSITIVE_INFINITY
  const answer = await untilTaken(address, request, upTo, result, over)
  result.tokens += answer.tokens.length
  if (manner === 'read' && answer.end.kind === 'error') return answer.end.message
  const verdict = compareTogether(answer, twin)
  if (verdict.kind === 'equal') result.equal++
  if (verdict.kind === 'fork') result.forks++
  return verdict.kind === 'different' ? verdict.why : undefined
}

async function untilTaken(
  address: Address,
  request: GenerateRequest,
  upToTokens: number,
  result: CrowdResult,
  signal: AbortSignal
): Promise<Trace> {
  for (;;) {
    const watch = ({ tokens }: Trace) => tokens.length >= upToTokens
    const answer = await ask(address, request, { signal, watch })
    if (answer.end.kind === 'done' || ![429, 503].includes(answer.end.status)) return answer
    result.retries++
    await delay(RETRY_MS, undefined, { signal })
  }
}

/** The same question in the words of OpenAI's API, streamed. */
function chatOf({ maxTokens, temperature }: GenerateRequest, share: number): object {
  const content = PROMPTS[Math.floor(share * PROMPTS.length)]!
  return {
    messages: [{ role: 'user', content }],
    max_tokens: maxTokens,
    temperature,
    stream: true,
    logprobs: true,
    top_logprobs: 20
  }
}

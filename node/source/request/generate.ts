import { logger } from '../../../models/log.ts'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import { createStopStrings } from '../../../models/tokenizer/stop-strings.ts'
import type { Tokenizer } from '../../../models/tokenizer/tokenizer.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { FinishReason, GenerateEvent, GenerateRequest, GenerateResult } from '../../api.ts'
import { EXPECTED_TOKENS } from '../../constants.ts'
import { ContextLengthError, RequestError } from '../../errors.ts'
import type { Catalog, PromptableModel } from '../placement/catalog.ts'
import type { Deployments } from '../placement/deployments.ts'
import type { SpotChecks } from '../verify/spot-checks.ts'
import { answeredFields } from './request-log.ts'
import { settingsOf } from './settings.ts'
import { TokenStream } from './token-stream.ts'

const log = logger('edgeshard:source')

export interface GenerateComponents {
  catalog: Pick<Catalog, 'promptable'>
  deployments: Pick<Deployments, 'acquire' | 'prepare'>
  /** Checks some answers afterwards. */
  checks?: Pick<SpotChecks, 'answered'>
  /** Milliseconds from any fixed moment. */
  now: () => number
}

/**
 * One answer, from prompt to text: encode, place the model on devices, prefill, then one token after the other until
 * the model, a stop string or a limit ends it. Prompt and tokens stay in this process; peers see hidden states.
 *
 * @param options `requestId`: what the request is called on every device that works on it
 * @throws {RequestError} {UnknownModelError} {PlanRefusedError} {StageLostError}
 */
export async function* generate(
  { catalog, deployments, checks, now }: GenerateComponents,
  request: GenerateRequest,
  { signal, requestId }: { signal: AbortSignal; requestId: string }
): AsyncGenerator<GenerateEvent> {
  const startMs = now()
  const settings = settingsOf(request)
  deployments.prepare(signal)
  const model = await catalog.promptable(request.model, { signal })
  const prompt = await encodePrompt(model, request.input, signal)
  const mostTokens = roomFor(settings.maxTokens, prompt.ids.length, model)
  const newTokens = settings.maxTokens === undefined ? Math.min(EXPECTED_TOKENS, mostTokens) : mostTokens

  const { sampling, objective, privacy, placement, scope, exact, keepAliveMs } = settings
  const endIds = [...model.manifest.eosTokenIds, ...model.tokenizer.endOfTurnIds]
  const ends = new Set(settings.ignoreEos ? [] : endIds)
  const needs = { promptTokens: prompt.ids.length, newTokens, objective, privacy, placement }
  const requestLog = log.of(requestId)
  requestLog.debug('prompt encoded', {
    model: model.name,
    promptTokens: prompt.ids.length,
    newTokens,
    mostTokens,
    objective,
    privacy
  })
  const stream = new TokenStream(
    deployments,
    { model, ...needs, mostTokens, requestId, prompt: prompt.ids, ends, sampling, scope, exact, keepAliveMs },
    signal
  )
  try {
    const answer = yield* decode(stream, model, prompt, { stop: settings.stop, mostTokens, ends }, now)
    signal.throwIfAborted()
    await stream.close()
    const { text, tokens, finishReason, error, firstTokenMs, lastTokenMs, count } = answer
    const result: GenerateResult = {
      text,
      tokens,
      promptTokens: prompt.ids.length,
      cachedTokens: stream.cachedTokens,
      finishReason,
      ...(error !== undefined && { error }),
      ttftMs: firstTokenMs - startMs,
      tpotMs: count > 1 ? (lastTokenMs - firstTokenMs) / (count - 1) : 0,
      plan: stream.plan,
      predicted: stream.predicted!,
      measured: stream.measured,
      recoveries: stream.recoveries,
      ...(exact && { exact: stream.exact })
    }
    requestLog.info('answered', () => answeredFields(model.name, result))
    if (error === undefined && stream.recoveries === 0) {
      const { id: modelId, name: modelName, manifest } = model
      const { stages } = stream.plan
      checks?.answered({ modelId, modelName, manifest, prompt: prompt.ids, tokens, sampling, stages })
    }
    yield { type: 'done', result }
  } finally {
    await stream.close()
  }
}

interface Prompt {
  ids: number[]
  /** The answer goes on from the prompt's text, as against a turn of a conversation. */
  continued: boolean
}

interface DrawnAnswer {
  text: string
  tokens: number[]
  finishReason: FinishReason
  /** Why it ended early. */
  error?: string
  firstTokenMs: number
  lastTokenMs: number
  /** Tokens drawn, the end-of-turn token included. */
  count: number
}

/**
 * Prefill, then decode step by step; yields text as soon as its characters are whole and no stop string. What fails
 * behind the first token ends the answer with what there is.
 */
async function* decode(
  stream: TokenStream,
  { tokenizer }: PromptableModel,
  prompt: Prompt,
  { mostTokens, stop, ends }: { mostTokens: number; stop: string[]; ends: ReadonlySet<number> },
  now: () => number
): AsyncGenerator<GenerateEvent, DrawnAnswer> {
  const decoder = tokenizer.decoder({ continuation: prompt.continued })
  const stops = createStopStrings(stop)
  const answer: DrawnAnswer = {
    text: '',
    tokens: [],
    finishReason: 'length',
    firstTokenMs: 0,
    lastTokenMs: 0,
    count: 0
  }
  const withBytes = <T extends { id: number }>(token: T) => ({
    ...token,
    bytes: [...tokenizer.tokenBytes(token.id)]
  })
  let unshown: SampledToken[] = []
  const show = (text: string): GenerateEvent => {
    answer.text += text
    const shown = unshown
    unshown = []
    const tokens = shown.map(({ id }) => id)
    const logprobs = shown.map(token => ({ ...withBytes(token), top: token.top.map(withBytes) }))
    return { type: 'text', text, tokens, logprobs }
  }

  let token = (yield* stream.next())!
  answer.firstTokenMs = now()
  for (;;) {
    answer.lastTokenMs = now()
    answer.count++
    if (ends.has(token.id)) {
      answer.finishReason = 'stop'
      break
    }
    answer.tokens.push(token.id)
    unshown.push(token)
    const { text, stopped } = stops.push(decoder.push(token.id))
    if (text !== '') yield show(text)
    if (stopped) {
      answer.finishReason = 'stop'
      return answer
    }
    if (answer.tokens.length === mostTokens) break
    try {
      const next = yield* stream.next()
      // The mesh has no memory for more of it.
      if (next === undefined) break
      token = next
    } catch (error) {
      answer.finishReason = 'error'
      answer.error = messageOf(error)
      break
    }
  }
  const rest = stops.push(decoder.flush())
  const text = rest.text + (rest.stopped ? '' : stops.flush())
  if (text !== '' || unshown.length > 0) yield show(text)
  return answer
}

async function encodePrompt(
  { tokenizer, name }: { tokenizer: Tokenizer; name: string },
  input: GenerateRequest['input'],
  signal: AbortSignal
): Promise<Prompt> {
  const raw = async (text: string) => ({ ids: await tokenizer.encode(text, { signal }), continued: true })
  if (input.kind === 'raw') return await raw(input.text)
  if (tokenizer.hasChatTemplate) {
    return { ids: await tokenizer.encodeChat(input.messages, { signal }), continued: false }
  }
  const [only, ...others] = input.messages
  if (only?.role === 'user' && others.length === 0) return await raw(only.content)
  throw new RequestError(
    `${name} has no chat template, so it takes a single prompt and no conversation`,
    'messages'
  )
}

/** New tokens that the context has room for behind the prompt, at most `maxTokens`. */
function roomFor(
  maxTokens: number | undefined,
  promptTokens: number,
  { name, manifest }: PromptableModel
): number {
  const { contextLength } = manifest.shape
  if (promptTokens === 0) throw new RequestError('the prompt is empty', 'prompt')
  if (promptTokens >= contextLength) {
    throw new ContextLengthError(
      `the prompt has ${promptTokens} tokens, but ${name} has a context of ${contextLength}: shorten it`,
      'prompt'
    )
  }
  return Math.min(maxTokens ?? contextLength, contextLength - promptTokens)
}

import { randomUUID } from 'node:crypto'
import type { GenerateEvent, GenerateResult, TokenLogprob } from '../../api.ts'
import { VERSION } from '../../version.ts'
import { type AnswerForm, pacedForComments, promptComment, sse } from '../answer.ts'
import { errorAnswer } from '../errors.ts'
import { chatLogprobs, completionLogprobs } from './logprobs.ts'
import type { OpenAiRequest } from './schema.ts'

/** The two forms of answers in OpenAI's API. */
export type AnswerKind = 'chat' | 'completion'

/** What all of an answer's chunks have. */
export interface AnswerHead {
  kind: AnswerKind
  id: string
  model: string
  /** Seconds since 1970. */
  created: number
}

type Json = Record<string, unknown>

export function headOf(kind: AnswerKind, model: string): AnswerHead {
  const id = `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${randomUUID()}`
  return { kind, id, model, created: Math.floor(Date.now() / 1000) }
}

/** Chat completions and completions, whole and as server-sent events. */
export function openAiForm(head: AnswerHead, asked: OpenAiRequest): AnswerForm {
  return {
    contentType: 'text/event-stream',
    heartbeat: ': waiting\n\n',
    pieces: async function* (events) {
      try {
        yield* openingOf(head)
        let usage: Json | undefined
        for await (const event of asked.progress ? events : pacedForComments(events)) {
          if (event.type === 'done') usage = usageChunk(head, [event.result])
          yield* chunksOf(head, event, asked)
        }
        if (asked.includeUsage && usage !== undefined) yield sse(usage)
        yield 'data: [DONE]\n\n'
      } catch (error) {
        yield sse(errorAnswer(error).body)
      }
    },
    whole: async events => {
      const { result, logprobs } = await collected(events)
      const choice = choiceOf(head, result, asked.logprobs ? logprobs : null, 0)
      const edgeshard = detailsOf(result)
      return { result, body: { ...envelope(head), choices: [choice], usage: usageOf([result]), edgeshard } }
    }
  }
}

/** The result of an answer, and the log-probabilities of its text. */
export async function collected(
  events: AsyncGenerator<GenerateEvent>
): Promise<{ result: GenerateResult; logprobs: TokenLogprob[] }> {
  const logprobs: TokenLogprob[] = []
  for await (const event of events) {
    if (event.type === 'text') logprobs.push(...event.logprobs)
    if (event.type === 'done') return { result: event.result, logprobs }
  }
  throw new Error('the node ended the answer without a result')
}

/** What a choice begins with. */
export function* openingOf(head: AnswerHead, index = 0): Generator<string> {
  if (head.kind === 'chat') yield sse(chunk(head, { delta: { role: 'assistant', content: '' } }, index))
}

/** What one event of an answer becomes; `index` is the choice's. */
export function* chunksOf(
  head: AnswerHead,
  event: GenerateEvent,
  { logprobs, includeUsage, progress }: Pick<OpenAiRequest, 'logprobs' | 'includeUsage' | 'progress'>,
  index = 0
): Generator<string> {
  const say = (content: Json, about: TokenLogprob[] | null = null, finish: string | null = null) => {
    const said = chunk(head, content, index, logprobsOf(head.kind, about), finish)
    // OpenAI's clients expect it where they have asked for the one with figures.
    return includeUsage ? { ...said, usage: null } : said
  }
  const isChat = head.kind === 'chat'
  switch (event.type) {
    case 'progress':
      yield `: ${event.phase} ${event.done}/${event.total}\n\n`
      break
    case 'prefill':
      if (progress) {
        const nothing = isChat ? { delta: {} } : { text: '' }
        yield sse({ ...say(nothing), prompt_progress: promptProgress(event) })
      } else if (event.done < event.total) yield promptComment(event)
      break
    case 'text':
      yield sse(
        say(
          isChat ? { delta: { content: event.text } } : { text: event.text },
          logprobs ? event.logprobs : null
        )
      )
      break
    case 'reasoning':
      yield sse(say({ delta: { reasoning_content: event.text } }))
      break
    case 'call': {
      const { id, name } = event
      const begun = { index: event.index, id, type: 'function', function: { name, arguments: '' } }
      yield sse(say({ delta: { tool_calls: [begun] } }))
      break
    }
    case 'arguments': {
      const more = { index: event.index, function: { arguments: event.text } }
      yield sse(say({ delta: { tool_calls: [more] } }))
      break
    }
    case 'done': {
      const { result } = event
      const last = say(isChat ? { delta: {} } : { text: '' }, null, finishOf(result))
      yield sse(result.error === undefined ? last : { ...last, edgeshard: detailsOf(result) })
      break
    }
    default:
  }
}

/** How far a prompt is, as llama.cpp says it; tokens of the cache are among the processed ones. */
function promptProgress({ done, total, cached, ms }: Extract<GenerateEvent, { type: 'prefill' }>): Json {
  return { total, cache: cached, processed: done, time_ms: Math.round(ms) }
}

/** One answer as a choice. */
export function choiceOf(
  { kind }: AnswerHead,
  result: GenerateResult,
  logprobs: TokenLogprob[] | null,
  index: number
): Json {
  const shared = { index, logprobs: logprobsOf(kind, logprobs), finish_reason: finishOf(result) }
  if (kind === 'completion') return { ...shared, text: result.text }
  const { text, reasoning, toolCalls = [] } = result
  const calls = toolCalls.map(({ id, name, arguments: given }) => ({
    id,
    type: 'function',
    function: { name, arguments: given }
  }))
  const message = {
    role: 'assistant',
    content: text === '' && calls.length > 0 ? null : text,
    refusal: null,
    ...(reasoning !== undefined && { reasoning_content: reasoning }),
    ...(calls.length > 0 && { tool_calls: calls })
  }
  return { ...shared, message }
}

/** The chunk behind the last one when a client asked for it: no choices, only figures; see `usageOf`. */
export function usageChunk(head: AnswerHead, results: readonly GenerateResult[], choicesOfEach = 1): Json {
  return {
    ...envelope(head, true),
    choices: [],
    usage: usageOf(results, choicesOfEach),
    ...(results.length === 1 && { edgeshard: detailsOf(results[0]!) })
  }
}

export function envelope({ kind, id, created, model }: AnswerHead, isChunk = false): Json {
  const chat = isChunk ? 'chat.completion.chunk' : 'chat.completion'
  const object = kind === 'chat' ? chat : 'text_completion'
  return { id, object, created, model, system_fingerprint: `edgeshard-${VERSION}` }
}

/** Tokens of all answers; those of a prompt count once, however many choices it has. */
export function usageOf(results: readonly GenerateResult[], choicesOfEach = 1): Json {
  const sum = (some: readonly GenerateResult[], of: (result: GenerateResult) => number) =>
    some.reduce((all, one) => all + of(one), 0)
  const prompts = results.filter((_, index) => index % choicesOfEach === 0)
  const promptTokens = sum(prompts, result => result.promptTokens)
  const tokens = sum(results, result => result.tokens.length)
  return {
    prompt_tokens: promptTokens,
    completion_tokens: tokens,
    total_tokens: promptTokens + tokens,
    prompt_tokens_details: { cached_tokens: sum(prompts, result => result.cachedTokens) }
  }
}

/** What this project adds: clients of OpenAI's API pass over it. */
export function detailsOf(result: GenerateResult): Json {
  const { plan, predicted, measured, guesses, ttftMs, tpotMs, recoveries, moves } = result
  const { stretches, standby, exact, otherClass, error } = result
  const some = {
    ...(guesses !== undefined && { guesses }),
    ...(moves !== undefined && { moves }),
    ...(stretches !== undefined && { stretches }),
    ...(standby !== undefined && { standby }),
    ...(exact !== undefined && { exact }),
    ...(otherClass === true && { otherClass }),
    ...(error !== undefined && { error })
  }
  return { plan, predicted, measured, ttftMs, tpotMs, recoveries, ...some }
}

function chunk(
  head: AnswerHead,
  content: Json,
  index = 0,
  logprobs: Json | null = null,
  finish: string | null = null
): Json {
  return { ...envelope(head, true), choices: [{ index, ...content, logprobs, finish_reason: finish }] }
}

function finishOf({ finishReason, toolCalls = [] }: GenerateResult): string {
  return finishReason === 'stop' && toolCalls.length > 0 ? 'tool_calls' : finishReason
}

function logprobsOf(kind: AnswerKind, logprobs: TokenLogprob[] | null): Json | null {
  if (logprobs === null) return null
  return kind === 'chat' ? chatLogprobs(logprobs) : completionLogprobs(logprobs)
}

import type { Constraint } from '../../../models/grammar/constraint.ts'
import type { AnswerGrammar, Grammars } from '../../../models/grammar/grammars.ts'
import { logger } from '../../../models/log.ts'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import { createStopStrings } from '../../../models/tokenizer/stop-strings.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { FinishReason, GenerateEvent, GenerateRequest, GenerateResult, ToolCall } from '../../api.ts'
import { EXPECTED_TOKENS } from '../../constants.ts'
import { ContextLengthError, RequestError } from '../../errors.ts'
import type { AnswerDraft } from '../draft/create-draft.ts'
import type { Catalog, PromptableModel } from '../placement/catalog.ts'
import type { Deployments } from '../placement/deployments.ts'
import type { AheadNeeds, PlacedAhead } from '../placement/placed-ahead.ts'
import type { ExpectedGuesses } from '../placement/planning.ts'
import type { SpotChecks } from '../verify/spot-checks.ts'
import type { Drafts } from './drafts.ts'
import { estimatedTokens } from './estimated-tokens.ts'
import { encodePrompt, type Prompt } from './prompt.ts'
import { Reply } from './reply.ts'
import { answeredFields } from './request-log.ts'
import { samplingFor } from './sampling-settings.ts'
import { type Settings, settingsOf } from './settings.ts'
import { TokenStream } from './token-stream.ts'

const log = logger('edgeshard:source')

export interface GenerateComponents {
  catalog: Pick<Catalog, 'promptable'>
  deployments: Pick<Deployments, 'acquire' | 'placeAhead' | 'prepare'>
  /** What guesses tokens ahead; absent: nothing does. */
  drafts?: Pick<Drafts, 'mayGuess' | 'open'>
  /** What holds answers to a form. */
  grammars: Pick<Grammars, 'open'>
  /** Whether others stand by for an answer where the request does not say. @default false */
  standby?: boolean
  /** Checks some answers afterwards. */
  checks?: Pick<SpotChecks, 'answered'>
  /** Milliseconds from any fixed moment. */
  now: () => number
}

/**
 * One answer, from prompt to text: encode, place the model on devices, prefill, then one token after the other until
 * the model, a stop string or a limit ends it. Prompt and tokens stay in this process; peers see hidden states.
 *
 * @param options `requestId`: what the request is called on every device that works on it; `isBegun`: other answers of it
 * have had a place
 * @throws {RequestError} {UnknownModelError} {PlanRefusedError} {StageLostError}
 */
export async function* generate(
  components: GenerateComponents,
  request: GenerateRequest,
  options: { signal: AbortSignal; requestId: string; isBegun?: boolean }
): AsyncGenerator<GenerateEvent> {
  const over = new AbortController()
  try {
    yield* answer(components, request, options, AbortSignal.any([options.signal, over.signal]))
  } finally {
    // What was begun for a prompt that came to nothing is of no use.
    over.abort(new Error('the request is over'))
  }
}

async function* answer(
  { catalog, deployments, drafts, grammars, standby: usual = false, checks, now }: GenerateComponents,
  request: GenerateRequest,
  { signal, requestId, isBegun = false }: { signal: AbortSignal; requestId: string; isBegun?: boolean },
  untilOver: AbortSignal
): AsyncGenerator<GenerateEvent> {
  const startMs = now()
  const settings = settingsOf(request)
  const constraint = constraintOf(request)
  const requestLog = log.of(requestId)
  requestLog.debug('request taken')
  deployments.prepare(signal)
  let ahead: PlacedAhead | undefined
  const guesses = { speculate: settings.speculate, named: settings.draft }
  const onKnown = (model: Omit<PromptableModel, 'tokenizer'>) => {
    // What a plan counts on that has guesses is known with the tokens.
    if (drafts?.mayGuess(guesses) !== true)
      ahead = deployments.placeAhead(aheadNeeds(model, request, settings, requestId), untilOver)
  }
  const model = await catalog.promptable(request.model, { signal, onKnown })
  const standby = settings.standby ?? usual
  const prompt = await encodePrompt(model, request.input, signal, constraint !== undefined)
  const mostTokens = roomFor(settings.maxTokens, prompt.ids.length, model)
  const newTokens = settings.maxTokens === undefined ? Math.min(EXPECTED_TOKENS, mostTokens) : mostTokens

  const { stopTokenIds, objective, privacy, placement, scope, exact, priority, keepAliveMs } = settings
  // What Harmony writes behind a message ends none of its turns.
  const endOfTurnIds = prompt.syntax?.calls === 'harmony' ? [] : model.tokenizer.endOfTurnIds
  const endIds = [...model.manifest.eosTokenIds, ...endOfTurnIds]
  const ends = new Set([...stopTokenIds, ...(settings.ignoreEos ? [] : endIds)])
  const { vocabSize } = model.manifest.shape
  const sampling = samplingFor(settings.sampling, { ends, stopTokenIds, vocabSize })
  const needs = { promptTokens: prompt.ids.length, newTokens, objective, privacy, placement }
  requestLog.debug('prompt encoded', {
    model: model.name,
    promptTokens: prompt.ids.length,
    newTokens,
    mostTokens,
    objective,
    privacy
  })
  if (prompt.said !== undefined) yield { type: 'prompt', tokens: prompt.ids.length, ...prompt.said }
  // Nothing is yielded between here and what closes it: a reader that leaves would keep its thread.
  const grammar = await grammarFor(grammars, { ...request, constraint }, model, endIds, signal)
  const maxTokens = prompt.ids.length + mostTokens
  const wanted = { ...guesses, target: model, scope, maxTokens, prompt: prompt.ids, requestId }
  const draft = grammar === undefined ? await drafts?.open(wanted, { signal }) : undefined
  const stream = new TokenStream(
    deployments,
    {
      ...{ model, ...needs, mostTokens, requestId, prompt: prompt.ids, ends, sampling },
      ...{
        scope,
        exact,
        standby,
        priority,
        keepAliveMs,
        draft,
        grammar,
        begun: isBegun,
        ahead,
        startedAtMs: startMs
      },
      guesses: expectedGuesses(draft)
    },
    signal
  )
  /** What later answers to the same client may repeat. */
  let said: number[] = []
  try {
    const { stop } = settings
    const bounds = { stop, mostTokens, minTokens: sampling.minTokens ?? 0, ends }
    const drawn = yield* decode(stream, model, prompt, bounds, now)
    signal.throwIfAborted()
    await stream.close()
    const { text, reasoning, toolCalls, tokens, finishReason, stopString, error } = drawn
    const { firstTokenMs, lastTokenMs, count } = drawn
    const result: GenerateResult = {
      text,
      ...(reasoning !== '' && { reasoning }),
      ...(toolCalls.length > 0 && { toolCalls }),
      tokens,
      promptTokens: prompt.ids.length,
      cachedTokens: stream.cachedTokens,
      finishReason,
      ...(stopString !== undefined && { stopString }),
      ...(error !== undefined && { error }),
      ttftMs: firstTokenMs - startMs,
      tpotMs: count > 1 ? (lastTokenMs - firstTokenMs) / (count - 1) : 0,
      plan: stream.plan,
      predicted: stream.predicted!,
      measured: stream.measured,
      ...(stream.guesses !== undefined && { guesses: stream.guesses }),
      recoveries: stream.recoveries,
      ...(stream.standby !== undefined && { standby: { stages: stream.standby } }),
      ...(stream.moves.length > 0 && { moves: stream.moves }),
      ...(stream.stretches !== undefined && { stretches: stream.stretches }),
      ...(stream.otherClass && { otherClass: true }),
      ...(exact && { exact: stream.exact })
    }
    said = [...prompt.ids, ...tokens]
    requestLog.info('answered', () => answeredFields(model.name, result))
    // A check draws from all tokens, and so others where not all may be drawn.
    const isOfOnePlan = stream.recoveries === 0 && stream.moves.length === 0
    if (error === undefined && isOfOnePlan && grammar === undefined) {
      const { id: modelId, name: modelName, manifest } = model
      const { stages } = stream.plan
      checks?.answered({ modelId, modelName, manifest, prompt: prompt.ids, tokens, sampling, stages })
    }
    yield { type: 'done', result }
  } finally {
    await stream.close()
    grammar?.close()
    await draft?.end(said)
  }
}

/** What a request asks of a placement, as far as that is known before its prompt is read. */
function aheadNeeds(
  model: Omit<PromptableModel, 'tokenizer'>,
  { input }: GenerateRequest,
  { maxTokens = EXPECTED_TOKENS, objective, privacy, placement, exact, keepAliveMs }: Settings,
  requestId: string
): AheadNeeds & { keepAliveMs: number | undefined } {
  const { contextLength } = model.manifest.shape
  const promptTokens = Math.min(estimatedTokens(input), contextLength - 1)
  const newTokens = Math.min(maxTokens, contextLength - promptTokens)
  return { model, promptTokens, newTokens, objective, privacy, placement, exact, keepAliveMs, requestId }
}

/** What a plan counts on, where earlier answers have counted guesses of the same draft. */
function expectedGuesses(draft: AnswerDraft | undefined): ExpectedGuesses | undefined {
  if (draft?.acceptance === undefined) return undefined
  return { acceptance: draft.acceptance, draftBytes: draft.weightBytes }
}

/** What ends an answer, and before which of its tokens nothing does but `mostTokens`. */
interface Bounds {
  mostTokens: number
  minTokens: number
  stop: string[]
  ends: ReadonlySet<number>
}

interface DrawnAnswer {
  text: string
  reasoning: string
  toolCalls: ToolCall[]
  tokens: number[]
  finishReason: FinishReason
  stopString: string | undefined
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
  { mostTokens, minTokens, stop, ends }: Bounds,
  now: () => number
): AsyncGenerator<GenerateEvent, DrawnAnswer> {
  const { reader, shown = [] } = prompt
  const decoder = tokenizer.decoder({ continuation: prompt.continued, shown })
  const reply = new Reply(reader)
  const stops = createStopStrings(stop)
  const answer: DrawnAnswer = {
    text: '',
    reasoning: '',
    toolCalls: [],
    tokens: [],
    finishReason: 'length',
    stopString: undefined,
    firstTokenMs: 0,
    lastTokenMs: 0,
    count: 0
  }
  const withBytes = <T extends { id: number }>(token: T) => ({
    ...token,
    bytes: [...tokenizer.tokenBytes(token.id)]
  })
  const drawn = (token: SampledToken) =>
    reply.drawn({ ...withBytes(token), top: token.top.map(withBytes) }, answer.lastTokenMs)
  const end = function* (): Generator<GenerateEvent, DrawnAnswer> {
    yield* reply.end()
    const { text, reasoning, toolCalls } = reply
    return { ...answer, text, reasoning, toolCalls }
  }

  let token = (yield* stream.next())!
  answer.firstTokenMs = now()
  answer.lastTokenMs = answer.firstTokenMs
  yield stream.prefilled(prompt.ids.length)
  for (;;) {
    answer.count++
    if (ends.has(token.id)) {
      answer.finishReason = 'stop'
      break
    }
    answer.tokens.push(token.id)
    drawn(token)
    const said = decoder.push(token.id)
    const mayEnd = answer.tokens.length > minTokens
    const { text, met } = mayEnd ? stops.push(said) : { text: said, met: undefined }
    if (text !== '') yield* reply.say(text)
    if (met !== undefined || (prompt.oneCall === true && reply.toolCalls.length > 0)) {
      answer.finishReason = 'stop'
      answer.stopString = met
      return yield* end()
    }
    if (answer.tokens.length === mostTokens) break
    try {
      const next = yield* stream.next()
      // The mesh has no memory for more of it.
      if (next === undefined) break
      token = next
      answer.lastTokenMs = now()
    } catch (error) {
      answer.finishReason = 'error'
      answer.error = messageOf(error)
      break
    }
  }
  const rest = stops.push(decoder.flush())
  const text = rest.text + (rest.met !== undefined ? '' : stops.flush())
  if (text !== '') yield* reply.say(text)
  return yield* end()
}

/** What the answer has to look like: as it was asked, or calls of tools that have to be made. */
function constraintOf({ constraint, input }: GenerateRequest): Constraint | undefined {
  if (input.kind !== 'chat') return constraint
  const { choice, tools = [], parallel = true } = input
  // A reply that has to be a call is no answer that could have a form.
  if (constraint !== undefined && tools.length > 0 && choice === undefined) {
    throw new RequestError(
      'tools cannot be called in an answer of a form: leave the tools or the form out',
      'tools'
    )
  }
  if (choice === undefined) return constraint
  if (choice === 'required') {
    if (tools.length > 0) return { kind: 'calls', tools, parallel }
    throw new RequestError('a tool has to be called, but none is defined', 'tool_choice')
  }
  const named = tools.filter(({ name }) => name === choice.name)
  if (named.length > 0) return { kind: 'calls', tools: named, parallel: false }
  throw new RequestError(`${choice.name} has to be called, but no such tool is defined`, 'tool_choice')
}

/** What holds the answer to its form, where it has one. */
async function grammarFor(
  grammars: Pick<Grammars, 'open'>,
  {
    constraint,
    ignoreEos = false,
    minTokens = 0
  }: Pick<GenerateRequest, 'ignoreEos' | 'minTokens'> & { constraint: Constraint | undefined },
  { id, tokenizer, manifest }: PromptableModel,
  endIds: readonly number[],
  signal: AbortSignal
): Promise<AnswerGrammar | undefined> {
  if (constraint === undefined) return undefined
  if (ignoreEos)
    throw new RequestError('an answer of a form ends where the form does: leave ignoreEos out', 'ignoreEos')
  if (minTokens > 0)
    throw new RequestError('an answer of a form ends where the form does: leave minTokens out', 'minTokens')
  const { vocabSize } = manifest.shape
  return await grammars.open(constraint, { id, tokenizer, vocabSize, endIds }, { signal })
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

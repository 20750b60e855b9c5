import { logger } from '../../../models/log.ts'
import type { LoadOptions } from '../../api.ts'
import { DEFAULT_PROMPT_TOKENS, EXPECTED_TOKENS } from '../../constants.ts'
import { BusyError, RequestError } from '../../errors.ts'
import type { Catalog, PromptableModel } from '../placement/catalog.ts'
import type { Deployments } from '../placement/deployments.ts'
import type { PlacedAhead } from '../placement/placed-ahead.ts'
import type { Drafts } from './drafts.ts'
import { encodePrompt } from './prompt.ts'
import { type Settings, settingsOf } from './settings.ts'
import { TokenStream } from './token-stream.ts'

const log = logger('edgeshard:source')

export interface LoadComponents {
  catalog: Pick<Catalog, 'promptable'>
  deployments: Pick<Deployments, 'acquire' | 'isLoaded' | 'keptMs' | 'placeAhead' | 'prepare'>
  /** What guesses tokens ahead for requests; a plan may count on that. */
  drafts: Pick<Drafts, 'expected' | 'mayGuess'>
}

export interface LoadRequest extends LoadOptions {
  /** Name or id; absent: the default model. */
  model: string | undefined
}

/** Any prompt has every stage compute once. */
const PROMPT = { kind: 'raw', text: '1' } as const

/**
 * Loads a model before it is asked. It is placed as a request would place it whose prompt nobody knows yet, and one token is
 * drawn there, which nobody sees: every stage has computed once then, and its leases make room for others as those do on which
 * an answer was drawn. Of one token nothing is learned but how long loading took.
 *
 * @throws {RequestError} {UnknownModelError} {PlanRefusedError} {BusyError} {StageLostError}
 */
export async function load(
  components: LoadComponents,
  request: LoadRequest,
  options: { signal: AbortSignal; requestId: string }
): Promise<void> {
  const over = new AbortController()
  try {
    await loadUntil(components, request, options, AbortSignal.any([options.signal, over.signal]))
  } finally {
    // What was placed ahead and came to nothing is of no use.
    over.abort(new Error('the load is over'))
  }
}

async function loadUntil(
  { catalog, deployments, drafts }: LoadComponents,
  { model: named, ...asked }: LoadRequest,
  { signal, requestId }: { signal: AbortSignal; requestId: string },
  untilOver: AbortSignal
): Promise<void> {
  const settings = settingsOf({ ...asked, input: PROMPT, temperature: 0 })
  const { sampling, exact, keepAliveMs } = settings
  if (deployments.keptMs(keepAliveMs) === 0) {
    throw new RequestError('a model that is to stay loaded for no time is not loaded ahead', 'keepAliveMs')
  }
  deployments.prepare(signal)
  const guessing = { speculate: settings.speculate, named: settings.draft }
  let ahead: PlacedAhead | undefined
  const onKnown = (model: Omit<PromptableModel, 'tokenizer'>) => {
    // What a plan counts on that has guesses is known later.
    if (drafts.mayGuess(guessing)) return
    ahead = deployments.placeAhead(
      { model, ...needsOf(model, settings), exact, keepAliveMs, requestId, yields: true },
      untilOver
    )
  }
  const model = await catalog.promptable(named, { signal, onKnown })
  const needs = needsOf(model, settings)
  const isLoaded = () => deployments.isLoaded({ model, ...needs, keepAliveMs })
  if (isLoaded()) return
  const guesses = await drafts.expected({ ...guessing, target: model }, { signal })
  const { ids: prompt } = await encodePrompt(model, PROMPT, signal)
  // What was aborted meanwhile tells no listener.
  signal.throwIfAborted()
  const stream = new TokenStream(
    deployments,
    {
      ...{ model, ...needs, mostTokens: 1, requestId, prompt, sampling, exact, keepAliveMs, guesses, ahead },
      ends: new Set(),
      // Nobody else's prompt goes on from there.
      scope: requestId,
      // Whoever asks goes before what is to be asked, and never waits for it.
      priority: 'low',
      yields: true
    },
    signal
  )
  try {
    for await (const event of stream.next()) log.of(requestId).trace('loading', { event: event.type })
  } catch (error) {
    // Those that came before it have had it loaded, and use all of it.
    if (!(error instanceof BusyError && isLoaded())) throw error
  } finally {
    await stream.close()
  }
  signal.throwIfAborted()
  log.of(requestId).info('loaded', { model: model.name })
}

/** What a request asks of a placement whose prompt is not known. */
function needsOf(
  { manifest }: Omit<PromptableModel, 'tokenizer'>,
  { maxTokens = EXPECTED_TOKENS, objective, privacy, placement }: Settings
): Pick<Settings, 'objective' | 'privacy' | 'placement'> & { promptTokens: number; newTokens: number } {
  const { contextLength } = manifest.shape
  const promptTokens = Math.min(DEFAULT_PROMPT_TOKENS, contextLength - 1)
  const newTokens = Math.min(maxTokens, contextLength - promptTokens)
  return { promptTokens, newTokens, objective, privacy, placement }
}

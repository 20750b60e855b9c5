import { logger } from '../../../models/log.ts'
import type { EmbedRequest, EmbedResult, GenerateEvent, PeerName } from '../../api.ts'
import { ContextLengthError, RequestError } from '../../errors.ts'
import type { Catalog, PromptableModel } from '../placement/catalog.ts'
import type { Deployments } from '../placement/deployments.ts'
import { encodePrompt } from './prompt.ts'
import { settingsOf } from './settings.ts'
import { TokenStream } from './token-stream.ts'

const log = logger('edgeshard:source')

export interface EmbedComponents {
  catalog: Pick<Catalog, 'promptable'>
  deployments: Pick<Deployments, 'acquire' | 'prepare'>
}

export interface EmbedOptions {
  signal: AbortSignal
  /** What the request is called on every device that works on it. */
  requestId: string
  /** What happens on the way. */
  onEvent: (event: GenerateEvent) => void
}

/** Inputs of one request that are under way at once: every stage has something to do, and others' requests a place. */
const AT_ONCE = 4
/** A model whose card does not say how. */
const DEFAULT_POOLING = 'mean'

/**
 * A vector for each input: its tokens go through all stages like a prompt, and the last stage pools what they come to. The
 * inputs stay in this process; peers see hidden states, and the last one the vectors.
 *
 * @throws {RequestError} {UnknownModelError} {PlanRefusedError} {StageLostError}
 */
export async function embed(
  { catalog, deployments }: EmbedComponents,
  request: EmbedRequest,
  { signal, requestId, onEvent }: EmbedOptions
): Promise<EmbedResult> {
  const { inputs, dimensions, truncate = false, ...asked } = request
  const { objective, privacy, placement, exact, priority, keepAliveMs, sampling } = settingsOf({
    ...asked,
    input: { kind: 'raw', text: '' },
    temperature: 0
  })
  deployments.prepare(signal)
  const model = await catalog.promptable(request.model, { signal })
  checkDimensions(dimensions, model)
  const prompts: number[][] = []
  for (const input of inputs) {
    const { ids } = await encodePrompt(model, input, signal)
    // Token ids are as their client wants them.
    const closing = input.kind === 'raw' ? model.tokenizer.closingId : undefined
    prompts.push(fitted(ids, closing, model, truncate))
  }
  // What is being encoded when its client leaves is encoded to its end, and what has been aborted tells no listener.
  signal.throwIfAborted()
  const { pooling = DEFAULT_POOLING } = model.manifest
  // All are placed for the longest: a deployment that is too small for the next one would be placed again.
  const longest = prompts.reduce((most, { length }) => Math.max(most, length), 0)
  const vectors: Float32Array[] = []
  const left = new AbortController()
  const either = AbortSignal.any([signal, left.signal])

  // All of a request that has a place is computed: the others follow the first one there.
  const placed = Promise.withResolvers<void>()
  either.addEventListener('abort', () => placed.resolve(), { once: true })
  const devices = new Map<string, PeerName>()
  let isBegun = false
  const vectorOf = async (prompt: number[]): Promise<Float32Array> => {
    // None is drawn; plans know no request for less than one.
    const room = { promptTokens: longest, newTokens: 1 }
    const terms = { objective, privacy, placement, exact, priority, keepAliveMs }
    const session = { prompt, ends: new Set<number>(), sampling, pooling, scope: '' } as const
    const asked = { model, ...room, ...terms, ...session, requestId, begun: isBegun }
    const stream = new TokenStream(deployments, asked, either)
    try {
      const steps = stream.pooled()
      for (;;) {
        const step = await steps.next()
        if (step.done) return step.value
        if (step.value.type === 'plan') {
          isBegun = true
          for (const { peerId, name } of step.value.plan.stages) devices.set(peerId, { peerId, name })
          placed.resolve()
        }
        onEvent(step.value)
      }
    } finally {
      await stream.close()
    }
  }
  const waiting = prompts.entries()
  const worker = async (isFirst: boolean): Promise<void> => {
    if (!isFirst) await placed.promise
    either.throwIfAborted()
    for (const [i, prompt] of waiting) vectors[i] = await vectorOf(prompt)
  }
  // The first that fails ends the others, and all of them have let go of what they held when the request is over.
  const workers = Array.from({ length: Math.min(AT_ONCE, prompts.length) }, (_, i) =>
    worker(i === 0).catch(error => left.abort(error))
  )
  await Promise.all(workers)
  signal.throwIfAborted()
  if (left.signal.aborted) throw left.signal.reason
  const promptTokens = prompts.reduce((sum, { length }) => sum + length, 0)
  log.of(requestId).info('embedded', { model: model.name, inputs: prompts.length, promptTokens, pooling })
  const isPoolingKnown = model.manifest.pooling !== undefined
  return { vectors, promptTokens, pooling, isPoolingKnown, devices: [...devices.values()] }
}

/** @throws {RequestError} for a number of values that the model's vectors do not have */
function checkDimensions(dimensions: number | undefined, { name, manifest }: PromptableModel): void {
  const { hiddenSize } = manifest.shape
  if (dimensions === undefined || dimensions === hiddenSize) return
  throw new RequestError(
    `dimensions: ${name} has vectors of ${hiddenSize} values, and nothing says that fewer of them mean anything: leave it out`,
    'dimensions'
  )
}

/** An input with the token that closes it. @throws {RequestError} for one that is empty, {ContextLengthError} for one that is too long and not to be cut */
function fitted(
  ids: readonly number[],
  closing: number | undefined,
  { name, manifest }: PromptableModel,
  truncate: boolean
): number[] {
  const { contextLength } = manifest.shape
  if (ids.length === 0) throw new RequestError('an input is empty', 'input')
  const behind = closing === undefined ? [] : [closing]
  const length = ids.length + behind.length
  if (length < contextLength) return [...ids, ...behind]
  if (truncate) return [...ids.slice(0, contextLength - 1 - behind.length), ...behind]
  throw new ContextLengthError(
    `an input has ${length} tokens, but ${name} has a context of ${contextLength}: shorten it`,
    'input'
  )
}

import type { Sampling } from '../../../models/runtime/sampler.ts'
import { MAX_STOP_CHARS, MAX_STOP_STRINGS } from '../../../models/tokenizer/stop-strings.ts'
import { MAX_FRAME_ROWS } from '../../../protocols/stage/constants.ts'
import type { GenerateRequest, Objective, PlacementOptions, Priority, Privacy, Speculate } from '../../api.ts'
import { endlessIfLong } from '../../duration.ts'
import { RequestError } from '../../errors.ts'
import { integer } from './in-range.ts'
import { samplingOf, stopTokenIdsOf } from './sampling-settings.ts'

/** A request with every number decided and inside its range. */
export interface Settings {
  /** Undefined: until the model ends the answer, or its context is full. */
  maxTokens: number | undefined
  sampling: Sampling
  stop: string[]
  stopTokenIds: readonly number[]
  ignoreEos: boolean
  objective: Objective
  privacy: Privacy
  placement: PlacementOptions
  /** Undefined: as the node was started. */
  speculate: Speculate | undefined
  /** The model that is to draft; undefined: as the node was started. */
  draft: string | undefined
  /** The conversation that the request is a turn of; see `KvSlots`. */
  scope: string
  exact: boolean
  /** Whether others stand by; undefined: as the node was started. */
  standby: boolean | undefined
  priority: Priority
  /** How long the model stays loaded behind the request; undefined: as the node was started. */
  keepAliveMs: number | undefined
}

const MAX_TOKENS = 2 ** 20

/** @throws {RequestError} naming the first field that is out of its range */
export function settingsOf(request: GenerateRequest): Settings {
  const stop = request.stop ?? []
  if (stop.length > MAX_STOP_STRINGS || stop.some(text => text === '' || text.length > MAX_STOP_CHARS)) {
    throw new RequestError(
      `stop: at most ${MAX_STOP_STRINGS} strings of 1 to ${MAX_STOP_CHARS} characters`,
      'stop'
    )
  }
  return {
    maxTokens:
      request.maxTokens === undefined ? undefined : integer('maxTokens', request.maxTokens, 1, MAX_TOKENS),
    sampling: samplingOf(request),
    stop,
    stopTokenIds: stopTokenIdsOf(request),
    ignoreEos: request.ignoreEos ?? false,
    objective: request.objective ?? 'latency',
    privacy: request.privacy ?? 'prompt',
    placement: placementOf(request.placement ?? {}),
    speculate: request.speculate,
    draft: request.draft,
    scope: request.conversation ?? '',
    exact: request.exact ?? false,
    standby: request.standby,
    priority: request.priority ?? 'normal',
    keepAliveMs: keptMs(request.keepAliveMs)
  }
}

function keptMs(ms: number | undefined): number | undefined {
  if (ms === undefined) return undefined
  if (Number.isFinite(ms)) return endlessIfLong(ms)
  throw new RequestError(`keepAliveMs is ${ms}; it must be a number`, 'keepAliveMs')
}

function placementOf(placement: PlacementOptions): PlacementOptions {
  for (const field of ['batch', 'microBatches'] as const) {
    const value = placement[field]
    if (value !== undefined) integer(field, value, 1, MAX_FRAME_ROWS)
  }
  const { method, strategy, ...others } = placement
  // What is the default anyway is the planner's to choose again.
  return {
    ...others,
    ...(method !== undefined && method !== 'edgeshard' && { method }),
    ...(strategy !== undefined && strategy !== 'no-bubble' && { strategy })
  }
}

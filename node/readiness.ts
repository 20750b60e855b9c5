import { logger } from '../models/log.ts'
import { orAborted } from './aborted.ts'
import type { Readiness } from './api.ts'
import { DEFAULT_PROMPT_TOKENS, EXPECTED_TOKENS } from './constants.ts'
import { AmbiguousModelError, UnknownModelError } from './errors.ts'
import type { Catalog } from './source/placement/catalog.ts'
import type { Deployments } from './source/placement/deployments.ts'

const log = logger('edgeshard:source')

/** Whoever asks needs no key, so it is not planned for each of them. */
const KEPT_MS = 1_000
/** Whoever asks waits for no longer, as a rule: managers of services give up after seconds. */
const DEADLINE_MS = 4_000
/** Models that are tried where there is no default one. */
const MAX_TRIED = 8

export interface ModelReadinessComponents {
  catalog: Pick<Catalog, 'resolve' | 'summaries'>
  deployments: Pick<Deployments, 'isPlaceable'>
  /** Milliseconds from any fixed moment. */
  now: () => number
}

type Model = Awaited<ReturnType<Catalog['resolve']>>

/**
 * Whether prompts can be answered: whether the default model can be placed now, or, where the mesh has models and none of
 * them answers by default, any of these. What is found counts for a second.
 */
export class ModelReadiness {
  readonly #components: ModelReadinessComponents
  #found: { atMs: number; state: Readiness } | undefined
  #finding: Promise<Readiness> | undefined

  constructor(components: ModelReadinessComponents) {
    this.#components = components
  }

  async state(): Promise<Readiness> {
    const { now } = this.#components
    if (this.#found !== undefined && now() - this.#found.atMs < KEPT_MS) return this.#found.state
    this.#finding ??= this.#find().finally(() => {
      this.#finding = undefined
    })
    const state = await this.#finding
    this.#found = { atMs: now(), state }
    return state
  }

  async #find(): Promise<Readiness> {
    const signal = AbortSignal.timeout(DEADLINE_MS)
    try {
      return await orAborted(this.#placeable(signal), signal)
    } catch (error) {
      log.passOver('whether prompts can be answered was not found out')(error)
      return notReady('the default model cannot be looked at')
    }
  }

  async #placeable(signal: AbortSignal): Promise<Readiness> {
    const { catalog } = this.#components
    try {
      const model = await catalog.resolve(undefined, { signal })
      const ready = await this.#isPlaceable(model)
      return ready
        ? { ready, reasons: [] }
        : notReady('the default model fits on none of the devices that are connected, nor on all of them')
    } catch (error) {
      if (error instanceof AmbiguousModelError) return notReady('two models are called as the default one')
      if (!(error instanceof UnknownModelError)) throw error
    }
    const named = await catalog.summaries({ signal })
    if (named.length === 0) return notReady('there is no model in the mesh')
    for (const { id } of named.slice(0, MAX_TRIED)) {
      if (await this.#isPlaceable(await catalog.resolve(id, { signal }))) return { ready: true, reasons: [] }
    }
    return notReady('none of the models in the mesh fits on the devices that are connected')
  }

  #isPlaceable(model: Model): Promise<boolean> {
    return this.#components.deployments.isPlaceable({
      model,
      promptTokens: DEFAULT_PROMPT_TOKENS,
      newTokens: EXPECTED_TOKENS,
      objective: 'latency',
      privacy: 'prompt',
      placement: {}
    })
  }
}

function notReady(reason: string): Readiness {
  return { ready: false, reasons: [reason] }
}

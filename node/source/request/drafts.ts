import { logger } from '../../../models/log.ts'
import { hasState } from '../../../models/recurrence.ts'
import { weightBytes } from '../../../models/runtime/memory.ts'
import { orAborted } from '../../aborted.ts'
import type { Speculate } from '../../api.ts'
import { RequestError } from '../../errors.ts'
import type { Acceptances } from '../draft/acceptances.ts'
import type { AnswerPool } from '../draft/answer-pool.ts'
import { CountedDraft } from '../draft/counted-draft.ts'
import { type AnswerDraft, createDraft, type DraftKind, type DraftRequest } from '../draft/create-draft.ts'
import type { DraftModels } from '../draft/draft-models.ts'
import type { ExpectedGuesses } from '../placement/planning.ts'

const log = logger('edgeshard:source')

export interface DraftsComponents {
  pool: AnswerPool
  models: Pick<DraftModels, 'find' | 'guessing' | 'open'>
  acceptances: Pick<Acceptances, 'share' | 'count'>
}

/** What one answer asks for; absent words are the node's. */
export interface AskedDraft extends Omit<DraftRequest, 'kind'> {
  speculate: Speculate | undefined
}

const KINDS = { ngram: 'ngram', draft: 'model', auto: 'both', mtp: 'layer' } as const satisfies Record<
  Exclude<Speculate, 'off'>,
  DraftKind
>

/** What guesses tokens ahead for this source's answers, as each request or the node itself says. */
export class Drafts {
  readonly #components: DraftsComponents
  readonly #usual: Speculate

  /** @param usual of requests that do not say */
  constructor(components: DraftsComponents, usual: Speculate) {
    this.#components = components
    this.#usual = usual
  }

  /**
   * What guesses for one answer; undefined where nothing is to, or where what the node was started with does not fit the target.
   *
   * @throws {RequestError} where the model that is named cannot draft, or the request itself asks for a model, a layer or guesses that
   * there are none of
   */
  async open(
    { speculate, ...request }: AskedDraft,
    { signal }: { signal: AbortSignal }
  ): Promise<AnswerDraft | undefined> {
    const how = this.#how({ speculate, named: request.named })
    if (how === 'off') return undefined
    const isAsked = speculate !== undefined || request.named !== undefined
    if (hasState(request.target.manifest.shape)) {
      if (!isAsked) return undefined
      throw new RequestError(
        `no tokens are guessed ahead for ${request.target.name}: its layers have states, which wrong guesses would spoil`,
        speculate === undefined ? 'draft' : 'speculate'
      )
    }
    const wanted = { ...request, kind: KINDS[how] }
    const draft = await whereItFits(createDraft(this.#components, wanted, { signal }), isAsked)
    return draft && (await CountedDraft.of(draft, request.target.id, this.#components.acceptances))
  }

  /**
   * What a plan may count on, without drafting anything: undefined where nothing would guess, or too few guesses of what would have
   * been counted yet.
   *
   * @throws {RequestError} where the model that is named cannot draft, or its layer is to guess and the target came without one
   */
  async expected(
    asked: Pick<AskedDraft, 'speculate' | 'named' | 'target'>,
    options: { signal: AbortSignal }
  ): Promise<ExpectedGuesses | undefined> {
    const isAsked = asked.speculate !== undefined || asked.named !== undefined
    return await whereItFits(this.#counted(asked, options), isAsked)
  }

  async #counted(
    { target, ...asked }: Pick<AskedDraft, 'speculate' | 'named' | 'target'>,
    { signal }: { signal: AbortSignal }
  ): Promise<ExpectedGuesses | undefined> {
    const how = this.#how(asked)
    if (how === 'off' || hasState(target.manifest.shape)) return undefined
    const { models, acceptances } = this.#components
    const find = () => (how === 'mtp' ? models.guessing(target) : models.find(target, asked.named))
    const model = how === 'ngram' ? undefined : await orAborted(find(), signal)
    if (model === undefined && how === 'draft') return undefined
    const acceptance = await acceptances.share({ modelId: target.id, drafter: model?.id ?? 'ngram' })
    if (acceptance === undefined) return undefined
    return { acceptance, draftBytes: model === undefined ? 0 : weightBytes(model.manifest) }
  }

  /** Whether a request may have its tokens guessed, so that its plan hangs on how many of them are right. */
  mayGuess(asked: Pick<AskedDraft, 'speculate' | 'named'>): boolean {
    return this.#how(asked) !== 'off'
  }

  /** A request that names a model that drafts wants it to. */
  #how({ speculate, named }: Pick<AskedDraft, 'speculate' | 'named'>): Speculate {
    return speculate ?? (named !== undefined && this.#usual !== 'auto' ? 'draft' : this.#usual)
  }
}

/** What the node was started with is for the models that it fits: a request for another one is not refused for it. */
async function whereItFits<T>(found: Promise<T>, isAsked: boolean): Promise<T | undefined> {
  try {
    return await found
  } catch (error) {
    if (isAsked || !(error instanceof RequestError)) throw error
    return log.passOver('nothing is guessed: what the node was started with does not fit the model')(error)
  }
}

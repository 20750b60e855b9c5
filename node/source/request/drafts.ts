import { hasState } from '../../../models/recurrence.ts'
import type { Speculate } from '../../api.ts'
import { RequestError } from '../../errors.ts'
import type { Acceptances } from '../draft/acceptances.ts'
import type { AnswerPool } from '../draft/answer-pool.ts'
import { CountedDraft } from '../draft/counted-draft.ts'
import { type AnswerDraft, createDraft, type DraftKind, type DraftRequest } from '../draft/create-draft.ts'
import type { DraftModels } from '../draft/draft-models.ts'

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
   * What guesses for one answer; undefined where nothing is to.
   *
   * @throws {RequestError} where the model that is named cannot draft, a model is asked for and there is none, or nothing can be guessed
   * for the target and the request asks for it
   */
  async open(
    { speculate, ...request }: AskedDraft,
    { signal }: { signal: AbortSignal }
  ): Promise<AnswerDraft | undefined> {
    // Whoever names a model that drafts wants it to.
    const named = request.named !== undefined && this.#usual === 'off' ? 'draft' : this.#usual
    const how = speculate ?? named
    if (how === 'off') return undefined
    if (hasState(request.target.manifest.shape)) {
      if (speculate === undefined && request.named === undefined) return undefined
      throw new RequestError(
        `no tokens are guessed ahead for ${request.target.name}: its layers have states, which wrong guesses would spoil`,
        speculate === undefined ? 'draft' : 'speculate'
      )
    }
    const draft = await createDraft(this.#components, { ...request, kind: KINDS[how] }, { signal })
    return await CountedDraft.of(draft, request.target.id, this.#components.acceptances)
  }
}

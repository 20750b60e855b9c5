import { weightBytes } from '../../../models/runtime/memory.ts'
import { orAborted } from '../../aborted.ts'
import { RequestError } from '../../errors.ts'
import type { AnswerPool } from './answer-pool.ts'
import type { Draft } from './draft.ts'
import type { DraftModels, OpenDraft, Target } from './draft-models.ts'
import { NGramDraft } from './ngram-draft.ts'

/** What drafts: what was said before, a model, each where it is better, or the layer that the answering model came with. */
export type DraftKind = 'ngram' | 'model' | 'both' | 'layer'

export interface DraftRequest {
  /** `both` does without a model where there is none. */
  kind: DraftKind
  target: Target
  /** The model that is to draft, where the request names one. */
  named?: string | undefined
  /** What the client named as its own, if anything: in what was answered under the same name is looked, too. */
  scope: string
  /** Tokens of prompt and answer at most. */
  maxTokens: number
  /** A model that drafts can read it while the stages do. */
  prompt?: readonly number[]
  requestId?: string
}

/** What drafts for one answer, from its beginning to its end. */
export interface AnswerDraft extends Draft {
  /** What guesses: `both` only where there is a model. */
  readonly kind: DraftKind
  /** The drafter under which these guesses are counted: the id of the model that drafts (of a layer, that of `guessingManifest`), else `ngram`. */
  readonly drafter: string
  /** Bytes of weights that a guess reads; 0 where it is looked up. */
  readonly weightBytes: number
  /**
   * Ends the drafting.
   *
   * @param tokens of prompt and answer, for later answers to the same client; none of an answer that failed
   */
  end(tokens?: readonly number[]): Promise<void>
}

/** The last tokens that must have stood before, so that what followed them is right as often as what a model says, and costs nothing. */
const SURE_TOKENS = 8

/**
 * What drafts for an answer.
 *
 * @throws {RequestError} where the model that is named cannot draft, a model is asked for and there is none, or the target came
 * without a layer that guesses
 */
export async function createDraft(
  { pool, models }: { pool: AnswerPool; models: Pick<DraftModels, 'find' | 'guessing' | 'open'> },
  { kind, target, named, scope, maxTokens, prompt, requestId }: DraftRequest,
  { signal }: { signal: AbortSignal }
): Promise<AnswerDraft> {
  const lookUp = new NGramDraft({ scope, pool })
  const find = () => (kind === 'layer' ? models.guessing(target) : models.find(target, named))
  const model = kind === 'ngram' ? undefined : await orAborted(find(), signal)
  if (model === undefined && kind === 'model') {
    throw new RequestError(
      `no model on this device drafts for ${target.name}: name one, or import one`,
      'draft'
    )
  }
  const options = { maxTokens, ...(prompt && { prompt }), ...(requestId !== undefined && { requestId }) }
  const opened = model && (await models.open(model, target, options))
  const remember = (tokens: readonly number[]) => pool.remember(scope, tokens)
  if (opened === undefined || model === undefined) {
    return new OneAnswer(lookUp, { kind: 'ngram', drafter: 'ngram', weightBytes: 0 }, remember)
  }
  const draft = kind === 'both' ? new BothDrafts(lookUp, opened.draft) : opened.draft
  const drafts = { kind, drafter: model.id, weightBytes: weightBytes(model.manifest) }
  return new OneAnswer(draft, drafts, remember, opened)
}

class OneAnswer implements AnswerDraft {
  readonly kind: DraftKind
  readonly drafter: string
  readonly weightBytes: number
  readonly #draft: Draft
  readonly #remember: (tokens: readonly number[]) => void
  readonly #opened: OpenDraft | undefined

  constructor(
    draft: Draft,
    { kind, drafter, weightBytes }: Pick<AnswerDraft, 'kind' | 'drafter' | 'weightBytes'>,
    remember: (tokens: readonly number[]) => void,
    opened?: OpenDraft
  ) {
    this.kind = kind
    this.drafter = drafter
    this.weightBytes = weightBytes
    this.#draft = draft
    this.#remember = remember
    this.#opened = opened
  }

  get saw(): Draft['saw'] {
    return this.#draft.saw
  }

  propose(tokens: readonly number[], count: number): ReturnType<Draft['propose']> {
    return this.#draft.propose(tokens, count)
  }

  async end(tokens: readonly number[] = []): Promise<void> {
    this.#remember(tokens)
    await this.#opened?.close()
  }
}

/** Looks up what is surely a repetition, has a model draft the rest, and looks up again where that one knows nothing. */
class BothDrafts implements Draft {
  readonly #lookUp: NGramDraft
  readonly #model: Draft

  constructor(lookUp: NGramDraft, model: Draft) {
    this.#lookUp = lookUp
    this.#model = model
  }

  async propose(tokens: readonly number[], count: number): Promise<readonly number[]> {
    const { proposed, length } = this.#lookUp.lookUp(tokens, count)
    if (length >= SURE_TOKENS && proposed.length > 0) return proposed
    const drawn = await this.#model.propose(tokens, count)
    return drawn.length > 0 ? drawn : proposed
  }
}

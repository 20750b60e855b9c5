import type { Acceptances, DraftPair } from './acceptances.ts'
import type { AnswerDraft } from './create-draft.ts'

/** What drafts for an answer, whose guesses are counted: the next answer's first window is made with their share. */
export class CountedDraft implements AnswerDraft {
  readonly acceptance: number | undefined
  readonly #draft: AnswerDraft
  readonly #pair: DraftPair
  readonly #acceptances: Pick<Acceptances, 'count'>
  #guesses = 0
  #held = 0

  private constructor(
    draft: AnswerDraft,
    pair: DraftPair,
    acceptances: Pick<Acceptances, 'count'>,
    acceptance: number | undefined
  ) {
    this.#draft = draft
    this.#pair = pair
    this.#acceptances = acceptances
    this.acceptance = acceptance
  }

  /** @param modelId of the model that it drafts for */
  static async of(
    draft: AnswerDraft,
    modelId: string,
    acceptances: Pick<Acceptances, 'share' | 'count'>
  ): Promise<CountedDraft> {
    const pair = { modelId, drafter: draft.drafter }
    return new CountedDraft(draft, pair, acceptances, await acceptances.share(pair))
  }

  get kind(): AnswerDraft['kind'] {
    return this.#draft.kind
  }

  get drafter(): string {
    return this.#draft.drafter
  }

  get weightBytes(): number {
    return this.#draft.weightBytes
  }

  get saw(): AnswerDraft['saw'] {
    return this.#draft.saw
  }

  propose(tokens: readonly number[], count: number): ReturnType<AnswerDraft['propose']> {
    return this.#draft.propose(tokens, count)
  }

  judged(right: boolean): void {
    this.#guesses++
    if (right) this.#held++
  }

  async end(tokens?: readonly number[]): Promise<void> {
    await this.#acceptances.count(this.#pair, { guesses: this.#guesses, held: this.#held })
    await this.#draft.end(tokens)
  }
}

import type { Draft } from './draft.ts'

/** A draft that is being made, its model being loaded: until it is there nothing is proposed, and nobody waits for it. */
export class LateDraft implements Draft {
  readonly saw: Draft['saw']
  #draft: Draft | undefined

  /**
   * @param making undefined where it cannot be made; it does not reject
   * @param sees it will need what the model makes of the conversation: what comes before it is there is lost
   */
  constructor(making: Promise<Draft | undefined>, { sees = false }: { sees?: boolean } = {}) {
    this.saw = sees ? (position, states) => this.#draft?.saw?.(position, states) : undefined
    void making.then(draft => {
      this.#draft = draft
    })
  }

  propose(tokens: readonly number[], count: number): ReturnType<Draft['propose']> {
    return this.#draft?.propose(tokens, count) ?? []
  }
}

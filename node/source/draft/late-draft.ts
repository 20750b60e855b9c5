import type { Draft } from './draft.ts'

/** A draft that is being made, its model being loaded: until it is there nothing is proposed, and nobody waits for it. */
export class LateDraft implements Draft {
  #draft: Draft | undefined

  /** @param making undefined where it cannot be made; it does not reject */
  constructor(making: Promise<Draft | undefined>) {
    void making.then(draft => {
      this.#draft = draft
    })
  }

  propose(tokens: readonly number[], count: number): ReturnType<Draft['propose']> {
    return this.#draft?.propose(tokens, count) ?? []
  }
}

/**
 * A request of several answers that a node has accepted: all of them are computed, also where the node, or a device that it
 * needs, is being drained meanwhile.
 */
export class AcceptedRequest {
  readonly #onOver: () => void
  #isBegun = false
  #isOver = false

  constructor(onOver: () => void) {
    this.#onOver = onOver
  }

  /** Whether one of its answers has had a place: for want of others, devices that are being drained may be taken for the rest. */
  get isBegun(): boolean {
    return this.#isBegun
  }

  began(): void {
    this.#isBegun = true
  }

  /** Nothing more is asked in it. */
  over(): void {
    if (!this.#isOver) this.#onOver()
    this.#isOver = true
  }
}

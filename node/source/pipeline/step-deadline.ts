/** A step that is with other peers. */
interface SentStep {
  position: number
  /** How long it may take from when all before it is answered. */
  deadlineMs: number
  onLate: () => void
}

/** The deadline of the step of a session that is to be answered next: it runs from when that and all before it have left this node. */
export class StepDeadline {
  readonly #awaitedAt: () => number | undefined
  /** Those of the steps under way that have left this node, in their order. */
  #sent: SentStep[] = []
  /** The timer of the first of them, where all before it is answered. */
  #timer: NodeJS.Timeout | undefined

  /** @param awaitedAt the position of the step that is to be answered next; undefined where none is */
  constructor(awaitedAt: () => number | undefined) {
    this.#awaitedAt = awaitedAt
  }

  /** A step has left this node. */
  sent(step: SentStep): void {
    this.#sent.push(step)
    this.watch()
  }

  /** The step that was to be answered next is answered; call `watch` once it is known which is the next. */
  answered(): void {
    this.#stop()
    if (this.#sent[0]?.position === this.#awaitedAt()) this.#sent.shift()
  }

  /** Nobody waits any more for what is under way. */
  forget(): void {
    this.#stop()
    this.#sent = []
  }

  watch(): void {
    const [first] = this.#sent
    if (first === undefined || this.#timer !== undefined) return
    if (first.position === this.#awaitedAt()) this.#timer = setTimeout(first.onLate, first.deadlineMs)
  }

  #stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}

import { allocateHidden } from '../../models/hidden.ts'
import type { ForwardOutput, HiddenStates, ShardSession } from '../../models/runtime.ts'
import { StageInputError } from './errors.ts'

/** Which tokens a step is about. */
export interface Step {
  /** Tokens of the session before this step's first one. */
  position: number
  tokens: number
  /** Draw a token after the last position. */
  sample: boolean
  /** Compute time of the stages before this one, in ms. */
  computeMs: number
}

export interface StageInit {
  session: ShardSession
  hiddenSize: number
  /** Tokens that the session's KV cache has room for. */
  maxTokens: number
  /** Hands a result on; called in the order of the steps. */
  deliver: (output: ForwardOutput, step: Step) => Promise<void>
}

/**
 * One request's life on one layer range: steps enter in order, run on the shard, and their results leave in order.
 * The same on a serving peer, where frames feed it, and on the source, where the prompt does.
 */
export class Stage {
  readonly #init: StageInit
  /** Position that the next step has to start at. */
  #next = 0
  #delivered: Promise<void> = Promise.resolve()

  constructor(init: StageInit) {
    this.#init = init
  }

  /**
   * Memory for hidden states that were announced.
   *
   * @throws {StageInputError} when they are not what this session expects next
   */
  memoryFor({
    position,
    tokens,
    hiddenSize
  }: {
    position: number
    tokens: number
    hiddenSize: number
  }): HiddenStates {
    if (hiddenSize !== this.#init.hiddenSize) {
      throw new StageInputError(
        `hidden states are ${hiddenSize} wide, the model's are ${this.#init.hiddenSize}`
      )
    }
    this.#check(position, tokens)
    return allocateHidden(tokens, hiddenSize)
  }

  /** Runs one step and hands its result on; resolves when that is done. Steps may be given without waiting. */
  run(input: Int32Array | HiddenStates, step: Step): Promise<void> {
    this.#check(step.position, step.tokens)
    this.#next = step.position + step.tokens
    const { session, deliver } = this.#init
    const output = session.forward({ position: step.position, input, sample: step.sample })
    const before = this.#delivered
    const delivered = (async () => {
      const [result] = await Promise.all([output, before])
      await deliver(result, { ...step, computeMs: step.computeMs + result.computeMs })
    })()
    // A failure is the caller's to see, through the promise that it got; the next step then fails with it.
    this.#delivered = delivered
    delivered.catch(() => {})
    return delivered
  }

  close(): Promise<void> {
    return this.#init.session.close()
  }

  #check(position: number, tokens: number): void {
    if (position !== this.#next) {
      throw new StageInputError(`a step starts at token ${position}, the session is at ${this.#next}`)
    }
    if (position + tokens > this.#init.maxTokens) {
      throw new StageInputError(`${position + tokens} tokens exceed the session's ${this.#init.maxTokens}`)
    }
  }
}

import { prefillChunks } from '../../models/hidden.ts'
import type { SampledToken } from '../../models/runtime.ts'
import type { StageFrame } from '../../protocols/stage/index.ts'
import { STEP_DEADLINE_FACTOR, STEP_DEADLINE_FLOOR_MS } from '../constants.ts'
import { StageLostError } from '../errors.ts'
import type { Stage } from '../serve/stage.ts'
import type { PlannedStage, Predicted } from '../types.ts'

export interface PipelineInit {
  sessionId: string
  /** The source's own first stage: it embeds the prompt and computes the first layers. */
  first: Stage
  /** The stages on other peers, in order. */
  remote: PlannedStage[]
  predicted: Predicted
  signal: AbortSignal
  /** Peer ids that have not been heard of for a while: whom to blame when a deadline passes. */
  suspects: () => Set<string>
  /** Frees the session everywhere. */
  onClose: () => Promise<void>
}

/**
 * One request's way through its stages, seen from the source: chunks of the prompt, later one token at a time, go in
 * at the first stage, and drawn tokens come back from the last one.
 */
export class Pipeline {
  readonly sessionId: string
  readonly #init: PipelineInit
  #position = 0
  #waiting: PromiseWithResolvers<SampledToken> | undefined
  #failure: Error | undefined

  constructor(init: PipelineInit) {
    this.sessionId = init.sessionId
    this.#init = init
  }

  /**
   * Sends the prompt through all stages, in chunks that follow each other, and returns the first token. Where tokens
   * of the reply are `known` from another pipeline, it sends them behind, one by one as they were computed there but
   * without waiting between them, and returns the token after the last: the KV cache is then the same to the bit.
   *
   * @throws {StageLostError} naming the stage that died or fell silent
   */
  prefill(prompt: readonly number[], known: readonly number[] = []): Promise<SampledToken> {
    const { ttftMs, tpotMs } = this.#init.predicted
    return this.#step(ttftMs + known.length * tpotMs, async () => {
      for (const [start, end] of prefillChunks(prompt.length)) {
        await this.#run(
          Int32Array.from(prompt.slice(start, end)),
          end === prompt.length && known.length === 0
        )
      }
      for (const [at, token] of known.entries())
        await this.#run(Int32Array.of(token), at === known.length - 1)
    })
  }

  /** Sends one token through all stages and returns the next one. */
  decode(token: number): Promise<SampledToken> {
    return this.#step(this.#init.predicted.tpotMs, () => this.#run(Int32Array.of(token), true))
  }

  /** A token was drawn by the last stage. */
  accept(token: SampledToken): void {
    this.#waiting?.resolve(token)
  }

  /** A frame for this session from a peer: a token, or the news that a stage cannot go on. */
  receive(peerId: string, frame: StageFrame): void {
    const stage = this.#init.remote.find(stage => stage.peerId === peerId)
    if (stage === undefined) return
    if (frame.type === 'token' && stage === this.#init.remote.at(-1)) this.accept(frame.token)
    if (frame.type === 'error') this.fail(lost(stage, frame.message))
  }

  /** The connection to a peer broke. */
  peerLost(peerId: string, reason: string): void {
    const stage = this.#init.remote.find(stage => stage.peerId === peerId)
    if (stage !== undefined) this.fail(lost(stage, reason))
  }

  fail(error: Error): void {
    this.#failure ??= error
    this.#waiting?.reject(this.#failure)
  }

  close(): Promise<void> {
    this.fail(new Error('the session is closed'))
    return this.#init.onClose()
  }

  async #run(input: Int32Array, sample: boolean): Promise<void> {
    const position = this.#position
    this.#position += input.length
    await this.#init.first.run(input, { position, tokens: input.length, sample, computeMs: 0 })
  }

  async #step(predictedMs: number, send: () => Promise<void>): Promise<SampledToken> {
    const { signal } = this.#init
    signal.throwIfAborted()
    if (this.#failure !== undefined) throw this.#failure
    const waiting = Promise.withResolvers<SampledToken>()
    this.#waiting = waiting
    const deadlineMs = Math.max(STEP_DEADLINE_FLOOR_MS, STEP_DEADLINE_FACTOR * predictedMs)
    const timer = setTimeout(() => this.fail(this.#silence(deadlineMs)), deadlineMs)
    const onAbort = () => this.fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      const [token] = await Promise.all([waiting.promise, send()])
      return token
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      this.#waiting = undefined
    }
  }

  /** Nobody answered in time: blames the first stage whose peer is silent altogether, else names all of them. */
  #silence(deadlineMs: number): Error {
    const { remote, suspects } = this.#init
    const silent = suspects()
    const stage = remote.find(({ peerId }) => silent.has(peerId))
    const seconds = Math.round(deadlineMs / 1000)
    if (stage !== undefined) return lost(stage, `no sign of life, no token within ${seconds} s`)
    if (remote.length === 0)
      return new Error(`this node computed no token within ${seconds} s: it is overloaded`)
    return lost(remote.at(-1)!, `no token within ${seconds} s from ${remote.map(describe).join(', ')}`)
  }
}

function lost(stage: PlannedStage, reason: string): StageLostError {
  return new StageLostError(`stage lost: ${describe(stage)}: ${reason}`, stage.peerId)
}

function describe({ name, peerId, layers }: PlannedStage): string {
  return `${name} (${peerId}) with layers [${layers[0]}, ${layers[1]})`
}

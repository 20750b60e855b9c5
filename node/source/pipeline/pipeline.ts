import { randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { NotFiniteError } from '../../../models/runtime/errors.ts'
import { prefillChunks } from '../../../models/runtime/hidden.ts'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import { LimitExceededError, PeerLostError } from '../../../protocols/errors.ts'
import type { FrameRow, StageTiming } from '../../../protocols/stage/frame.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { PlannedStage, Predicted, Strategy } from '../../api.ts'
import { STEP_DEADLINE_FACTOR, STEP_DEADLINE_FLOOR_MS } from '../../constants.ts'
import { StageLostError } from '../../errors.ts'
import type { SessionOwner } from '../../stage/sessions.ts'
import type { Stage } from '../../stage/stage.ts'
import { KvSlots } from './kv-slots.ts'
import { MeasuredSteps } from './measured.ts'
import { PrefillPace } from './prefill-pace.ts'
import { Slowness, type SlowStage } from './slowness.ts'
import { type Progress, SourceSession, type SourceSessionInit } from './source-session.ts'

/** A stage that cannot compute so many sessions one after the other, and draws no token between, is broken itself. */
const MAX_ROW_FAILURES = 3

/** A session as it is opened on every stage. */
export interface SlotSession {
  sessionId: string
  slot: number
  /** The slot's first tokens, whose KV cache the stages from `intactFrom` on have kept; those before have to compute it. */
  keepTokens: number
  intactFrom: number
  sampling: Sampling
  requestId?: string | undefined
}

export interface PipelineInit {
  /** The source's own first stage: it embeds prompts and computes the first layers. */
  first: Stage
  /** The stages on other peers, in order. */
  remote: PlannedStage[]
  /** Sessions that the stages' KV caches have room for, in how many micro-batches, and how these follow each other. */
  slots: number
  microBatches: number
  strategy: Strategy
  predicted: Predicted
  /** Peer ids that have not been heard of for a while: whom to blame when a deadline passes. */
  suspects: () => Set<string>
  /** Ends a session on the peers; resolves to the ids of those that do not confirm it in time. */
  unconfirmed: (sessionId: string) => Promise<Set<string>>
  /** Tokens that the model has. */
  vocabSize: number
  /** The last session has ended. */
  onQuiet: () => void
  /** A stage holds up every step since some time ago. */
  onSlow: (slow: SlowStage) => void
  /** Opens a session on every stage. */
  open: (session: SlotSession, signal: AbortSignal) => Promise<void>
  /** Frees a session everywhere. */
  close: (sessionId: string) => Promise<void>
}

/** What an answer needs of the pipeline. */
export interface ReplyRequest extends Omit<SourceSessionInit, 'id' | 'slot' | 'onReady' | 'onStalled'> {
  sampling: Sampling
  /** What the request is called on every device that works on it. */
  requestId?: string | undefined
  /** For this prompt; its deadlines are made of it. */
  predicted: Predicted
}

/** A reply that is being drawn. */
export interface Reply {
  /** Tokens of the prompt that were in the KV caches of all stages already. */
  readonly cachedTokens: number
  readonly measured: MeasuredSteps
  /** @throws {StageLostError} naming the stage that died or fell silent */
  next(): Promise<SampledToken>
  /** Ends it everywhere; its slot is free when that is done. */
  close(): Promise<void>
}

/**
 * A deployment's stages, seen from the source: chunks of prompts, later one token of each session of a micro-batch, go
 * in at the first stage, and drawn tokens come back from the last one. Sessions join and leave between steps.
 *
 * `no-bubble`: each micro-batch starts its next step as soon as its tokens are back. `bubble`: all wait until the last
 * one is (both from EdgeShard, section V).
 */
export class Pipeline implements SessionOwner {
  readonly #init: PipelineInit
  readonly #slots: KvSlots
  readonly #microBatchSlots: number
  readonly #sessions = new Map<string, { session: SourceSession; measured: MeasuredSteps }>()
  readonly #closing = new Map<SourceSession, Promise<void>>()
  /** Stages that said of sessions that they cannot be computed, and how often since the last token. */
  readonly #rowFailures = new Map<string, number>()
  #slowness = new Slowness()
  #pace: PrefillPace
  readonly #events = new EventEmitter<{ change: [] }>()
  #failed = new AbortController()

  constructor(init: PipelineInit) {
    this.#init = init
    this.#microBatchSlots = Math.ceil(init.slots / init.microBatches)
    this.#slots = new KvSlots(init.slots, this.#microBatchSlots)
    this.#pace = paceOf(init.predicted)
    this.#events.setMaxListeners(0)
  }

  /** Slots that are taken. */
  get active(): number {
    return this.#init.slots - this.#slots.free
  }

  /** What the stages that there are now should take. */
  get predicted(): Predicted {
    return this.#init.predicted
  }

  /** Of every reply that is being drawn. */
  get progress(): Progress[] {
    return [...this.#sessions.values()].map(({ session }) => session.progress)
  }

  /** Why nothing can start here, unless it is repaired. */
  get failure(): Error | undefined {
    return this.#failed.signal.reason
  }

  /** Resolves when a slot is given back or the pipeline has failed. */
  async changed(signal: AbortSignal): Promise<void> {
    await once(this.#events, 'change', { signal }).catch(() => signal.throwIfAborted())
  }

  /**
   * Takes a slot and opens a session on every stage, unless one of them is silent or is lost meanwhile.
   *
   * @throws {StageLostError} naming the peer that cannot; {Error} while all slots are taken, see `active`
   */
  async open(request: ReplyRequest, signal: AbortSignal): Promise<Reply> {
    const silent = this.#suspect()
    if (silent !== undefined) this.fail(lost(silent, 'it has fallen silent'))
    if (this.failure !== undefined) throw this.failure
    const taken = this.#slots.take(request)
    if (taken === undefined) throw new Error('every slot of the deployment is taken')
    const { slot, keepTokens, intactFrom } = taken
    const id = randomBytes(16).toString('hex')
    const onReady = () => this.#pump()
    const session = new SourceSession({ ...request, id, slot, onReady, onStalled: () => void close() })
    const measured = new MeasuredSteps()
    this.#sessions.set(id, { session, measured })
    const onAbort = () => session.fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const close = () => {
      signal.removeEventListener('abort', onAbort)
      return this.#close(session)
    }
    try {
      signal.throwIfAborted()
      const { sampling, requestId } = request
      const either = AbortSignal.any([signal, this.#failed.signal])
      await this.#init.open({ sessionId: id, slot, keepTokens, intactFrom, sampling, requestId }, either)
    } catch (error) {
      await close()
      throw error
    }
    const fromToken = intactFrom === 0 ? keepTokens : 0
    void this.#prefill(session, request, { keepTokens, fromToken })
    return { cachedTokens: fromToken, measured, next: () => session.read(), close }
  }

  /** A frame for some sessions from a peer: tokens, or the news that a stage cannot go on. */
  receive(peerId: string, frame: StageFrame): void {
    const stage = this.#init.remote.find(stage => stage.peerId === peerId)
    if (stage === undefined) return
    if (frame.type === 'token' && stage === this.#init.remote.at(-1)) {
      const foreign = frame.drawn.find(({ id }) => id >= this.#init.vocabSize)
      if (foreign === undefined) this.accept(frame.rows, frame.drawn, frame.timings)
      else this.fail(lost(stage, `it drew token ${foreign.id}, which the model does not have`))
    }
    if (frame.type === 'error') this.#refused(stage, frame)
  }

  #refused(stage: PlannedStage, { code, message, rows }: StageFrame & { type: 'error' }): void {
    const { remote } = this.#init
    const at = remote.indexOf(stage)
    if (code === 'not-finite' || (code === 'input' && at === 0)) {
      const times = (this.#rowFailures.get(stage.peerId) ?? 0) + 1
      this.#rowFailures.set(stage.peerId, times)
      // Once it is the session's own; again and again, without a token between, it is the device.
      if (times >= MAX_ROW_FAILURES) {
        this.fail(lost(stage, message))
        return
      }
    }
    if (code === 'not-finite') {
      this.rowsFailed(rows, new NotFiniteError(`${describe(stage)}: ${message}`))
    } else if (code === 'input' && at === 0) {
      // What it got is of this device's own making.
      this.rowsFailed(rows, new Error(`${describe(stage)} cannot use what this node sent: ${message}`))
    } else {
      // A stage that cannot reach the next one is not the one that is gone, nor one that was sent rubbish.
      const to = code === 'next' ? at + 1 : code === 'input' ? at - 1 : at
      this.fail(lost(remote[to] ?? stage, message))
    }
  }

  /** Tokens were drawn by the last stage, wherever it is. */
  accept(rows: readonly FrameRow[], drawn: readonly SampledToken[], timings: readonly StageTiming[]): void {
    const receivedAtMs = performance.timeOrigin + performance.now()
    const early = rows.find(({ sessionId, position }) => {
      const awaited = this.#sessions.get(sessionId)?.session.awaitedPosition
      return awaited !== undefined && awaited !== position
    })
    if (early !== undefined) {
      this.fail(this.#blame(`a token came back from a step at ${early.position}, which was not to draw one`))
      return
    }
    this.#rowFailures.clear()
    // Chunks of prompts lie in the way of the others' steps.
    const prefilling = [...this.#sessions.values()].some(({ session }) => session.prefilling)
    const slow = prefilling ? undefined : this.#slowness.add(timings, receivedAtMs, rows.length)
    if (slow !== undefined) this.#init.onSlow(slow)
    rows.forEach(({ sessionId }, i) => {
      const found = this.#sessions.get(sessionId)
      // A token that nobody awaits: its session was closed meanwhile, or the last stage sends what it was not asked for.
      if (!found?.session.stepping) return
      const { session, measured } = found
      if (!session.prefilling) measured.add(timings, receivedAtMs, rows.length)
      session.accept(drawn[i]!)
    })
    this.#pump()
  }

  /** Some sessions cannot go on, wherever they are computed; those that share their steps do. */
  rowsFailed(rows: readonly FrameRow[], error: Error): void {
    for (const { sessionId } of rows) this.#sessions.get(sessionId)?.session.fail(error)
    this.#pump()
  }

  /** The connection to a peer broke. */
  peerLost(peerId: string, reason: string): void {
    const stage = this.#init.remote.find(stage => stage.peerId === peerId)
    if (stage !== undefined) this.fail(lost(stage, reason))
  }

  /** Ends every reply; nothing starts here unless it is repaired. */
  fail(error: Error): void {
    if (this.failure !== undefined) return
    this.#failed.abort(error)
    for (const { session } of this.#sessions.values()) session.fail(error)
    this.#pace.settle(false)
    this.#events.emit('change')
  }

  /** Goes on with another peer as stage `at` of `stages`: KV caches are gone there, and of use behind it only. */
  resume(
    remote: PlannedStage[],
    { at, stages, predicted }: { at: number; stages: number; predicted: Predicted }
  ): void {
    this.#init.remote = remote
    this.#init.predicted = predicted
    this.#slots.lost(at, stages)
    this.#failed = new AbortController()
    this.#slowness = new Slowness()
    this.#pace = paceOf(predicted)
    this.#rowFailures.clear()
    this.#events.emit('change')
  }

  /** Ends every session everywhere; resolves when all slots are free. */
  async closeAll(): Promise<void> {
    for (const { session } of this.#sessions.values()) void this.#close(session)
    // Some were being closed already.
    await Promise.all(this.#closing.values())
  }

  #close(session: SourceSession): Promise<void> {
    const known = this.#closing.get(session)
    // One that is closed has no place in the table any more.
    if (known !== undefined || !this.#sessions.has(session.id)) return known ?? Promise.resolve()
    const closing = this.#closed(session).finally(() => this.#closing.delete(session))
    this.#closing.set(session, closing)
    return closing
  }

  async #closed(session: SourceSession): Promise<void> {
    session.fail(new Error('the reply was closed'))
    this.#sessions.delete(session.id)
    this.#pump()
    await this.#init.close(session.id)
    this.#slots.giveBack(session.slot, session.conversation())
    if (this.active === 0) this.#init.onQuiet()
    this.#events.emit('change')
  }

  /**
   * Sends a prompt through all stages, in chunks that follow each other. Tokens of the reply that are `known` go behind,
   * one by one as they were computed before but without waiting between them: the KV cache is then the same to the bit.
   */
  async #prefill(
    session: SourceSession,
    { prompt, known, predicted }: ReplyRequest,
    { keepTokens, fromToken }: { keepTokens: number; fromToken: number }
  ): Promise<void> {
    const { ttftMs, tpotMs } = predicted
    // No chunk has tokens on both sides of what is kept.
    const parts = [prompt.slice(fromToken, keepTokens), prompt.slice(Math.max(fromToken, keepTokens))]
    const chunks = parts.flatMap(part =>
      prefillChunks(part.length).map(([start, end]) => part.slice(start, end))
    )
    const knownFrom = Math.max(0, fromToken - prompt.length)
    let position = fromToken
    const steps = [...chunks, ...known.slice(knownFrom).map(token => [token])].map(tokens => {
      const step = { position, tokens }
      position += tokens.length
      return step
    })
    const last = steps.at(-1)!
    // Prefills share the stages with each other and with everybody's steps.
    this.#await(session, last.position, (ttftMs + known.length * tpotMs) * this.active)
    for (const step of steps) {
      await this.#pace.enter(step.tokens.length, () => session.stepping && this.#running)
      if (!session.stepping) return
      const rows = [{ sessionId: session.id, position: step.position }]
      if (step === last) this.#pace.follow(session)
      await this.#run(Int32Array.from(step.tokens), rows, step === last)
      if (step !== last) this.#pace.entered()
    }
  }

  /** True while steps of a reply that has begun are made. */
  get #running(): boolean {
    return [...this.#sessions.values()].some(({ session }) => {
      return session.ready || (session.stepping && !session.prefilling)
    })
  }

  /** Starts the steps that can start: one of each micro-batch that has none on its way. */
  #pump(): void {
    if (this.failure !== undefined) return
    this.#pace.settle(this.#running)
    const microBatches = new Map<number, SourceSession[]>()
    const stepping = new Set<number>()
    for (const { session } of this.#sessions.values()) {
      const index = Math.floor(session.slot / this.#microBatchSlots)
      // A session that is prefilled is in no micro-batch yet.
      if (session.stepping && !session.prefilling) stepping.add(index)
      else if (session.ready) microBatches.set(index, [...(microBatches.get(index) ?? []), session])
    }
    if (this.#init.strategy === 'bubble' && stepping.size > 0) return
    for (const [index, sessions] of microBatches) if (!stepping.has(index)) this.#step(sessions)
  }

  #step(sessions: SourceSession[]): void {
    // In the order of their slots, as their KV caches lie in memory.
    const steps = sessions
      .sort((a, b) => a.slot - b.slot)
      .map(session => ({ sessionId: session.id, ...session.takeStep() }))
    const rows = steps.map(({ sessionId, position }) => ({ sessionId, position }))
    rows.forEach(({ position }, i) => {
      this.#await(sessions[i]!, position, this.#init.predicted.tpotMs * this.active)
    })
    this.#pace.follow(sessions[0]!)
    void this.#run(
      Int32Array.from(steps, ({ token }) => token),
      rows,
      true
    )
  }

  async #run(input: Int32Array, rows: FrameRow[], sample: boolean): Promise<void> {
    const failed = this.#failed
    try {
      await this.#init.first.run(input, { rows, tokens: input.length, sample, timings: [] })
    } catch (error) {
      // A step from before a repair.
      if (failed !== this.#failed) return
      const [next] = this.#init.remote
      const sending = error instanceof PeerLostError || error instanceof LimitExceededError
      this.fail(sending && next !== undefined ? lost(next, messageOf(error)) : (error as Error))
    }
  }

  #await(session: SourceSession, position: number, predictedMs: number): void {
    const deadlineMs = Math.max(STEP_DEADLINE_FLOOR_MS, STEP_DEADLINE_FACTOR * predictedMs)
    session.expectToken(position, deadlineMs, () => void this.#late(session.id, deadlineMs))
  }

  /** The last peer in line, for a token that nobody asked for: it drew it, or passed on the step that a tail here did. */
  #blame(reason: string): Error {
    const stage = this.#init.remote.at(-1)
    return stage === undefined ? new Error(reason) : lost(stage, reason)
  }

  /** The first stage whose peer has not been heard of for a while. */
  #suspect(): PlannedStage | undefined {
    const suspects = this.#init.suspects()
    return this.#init.remote.find(({ peerId }) => suspects.has(peerId))
  }

  /**
   * Nobody answered in time: blames the first stage whose peer is silent altogether, else the first one that does not
   * even end the session (its worker hangs, though its network does not), else names all of them.
   */
  async #late(sessionId: string, deadlineMs: number): Promise<void> {
    const { remote } = this.#init
    const prefilling = this.#sessions.get(sessionId)?.session.prefilling ?? false
    const late = `${prefilling ? 'the prompt was not through' : 'no token'} within ${Math.round(deadlineMs / 1000)} s`
    const last = remote.at(-1)
    if (last === undefined) {
      this.fail(new Error(`${late}: this node is overloaded`))
      return
    }
    const suspect = this.#suspect()
    if (suspect !== undefined) {
      this.fail(lost(suspect, `no sign of life, ${late}`))
      return
    }
    const failed = this.#failed
    const hanging = await this.#init.unconfirmed(sessionId)
    // Another verdict was faster, and perhaps a repair.
    if (failed !== this.#failed || failed.signal.aborted) return
    const stage = remote.find(({ peerId }) => hanging.has(peerId))
    const error =
      stage === undefined
        ? lost(last, `${late} from ${remote.map(describe).join(', ')}`)
        : lost(stage, `${late}, and it does not end the session`)
    this.fail(error)
  }
}

/** The last hop is the token's return, which no prompt is in the way of. */
function paceOf({ linksMs }: Predicted): PrefillPace {
  return new PrefillPace(linksMs.slice(0, -1))
}

function lost(stage: PlannedStage, reason: string): StageLostError {
  return new StageLostError(`stage lost: ${describe(stage)}: ${reason}`, stage.peerId)
}

function describe({ name, peerId, layers }: PlannedStage): string {
  return `${name} (${peerId}) with layers [${layers[0]}, ${layers[1]})`
}

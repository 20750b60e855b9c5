import { randomBytes } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { logger } from '../../../models/log.ts'
import { RuntimeStoppedError } from '../../../models/runtime/errors.ts'
import { allocateHidden, PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import { isUnitVector } from '../../../models/runtime/pooling.ts'
import type { HiddenStates, SampledToken } from '../../../models/runtime/runtime.ts'
import { LimitExceededError, PeerLostError, RemoteError } from '../../../protocols/errors.ts'
import { type LeaseCode, RefusedError } from '../../../protocols/lease/index.ts'
import type { FrameHeader, FrameRow, StageTiming } from '../../../protocols/stage/frame.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { Predicted } from '../../api.ts'
import { OWN_STEP_DEADLINE_MS } from '../../constants.ts'
import { OwnStageHangsError, OwnStageLostError, StageLostError } from '../../errors.ts'
import type { Peers } from '../../mesh/peers.ts'
import { dropFrame, type SessionOwner, type Sessions } from '../../stage/sessions.ts'
import type { Answer, AnswerRequest } from './answer.ts'
import { Blame } from './blame.ts'
import { contradictionIn } from './contradiction.ts'
import type { MayCut } from './dropped-tokens.ts'
import { deadlineFor } from './expected-times.ts'
import { type Conversation, KvSlots, type SlotRequest } from './kv-slots.ts'
import { MicroBatches, type MicroBatchesInit } from './micro-batches.ts'
import type { PipelineStages } from './pipeline-stages.ts'
import { PrefillPace } from './prefill-pace.ts'
import { prefillSteps } from './prefill-steps.ts'
import { PromptProgress } from './prompt-progress.ts'
import { samplingFrom } from './reply-so-far.ts'
import { Slowness, type SlowStage } from './slowness.ts'
import { type AnswerTokens, type FedStep, MAX_LED_TOGETHER, SourceSession } from './source-session.ts'

const log = logger('edgeshard:source')

export interface PipelineComponents {
  stages: PipelineStages
  /** The table that frames for its sessions come in by. */
  sessions: Pick<Sessions, 'addOwner' | 'removeOwner' | 'dropBefore'>
  peers: Pick<Peers, 'peerId' | 'suspects' | 'send'>
}

export interface PipelineInit extends MicroBatchesInit {
  predicted: Predicted
  /** Tokens that the model has. */
  vocabSize: number
  /** Values of a token's hidden states. */
  hiddenSize: number
  /**
   * Some of its layers have states, which cannot be cut back: nothing is guessed, nothing is copied from slot to slot, and what is lost on
   * one stage is computed anew on all. @default false
   */
  hasState?: boolean
  /** Says where the stages' KV caches may be cut. @default anywhere */
  mayCut?: MayCut | undefined
  /** A stage holds up every step since some time ago. */
  onSlow: (slow: SlowStage) => void
}

/**
 * A deployment's stages, seen from the source: chunks of prompts, later one token of each session of a micro-batch, go
 * in at the first stage, and drawn tokens come back from the last one. Sessions join and leave between steps.
 *
 * `no-bubble`: each micro-batch starts its next step as soon as its tokens are back. `bubble`: all wait until the last
 * one is (both from EdgeShard, section V).
 *
 * Of an answer that runs alone guesses at its next tokens follow the last one (`SpeculationWindow`), each as a step of its
 * own, the very one that it would be if it were certain: so the tokens are the same with guesses and without.
 */
export class Pipeline implements SessionOwner {
  readonly #stages: PipelineStages
  readonly #table: PipelineComponents['sessions']
  readonly #peers: PipelineComponents['peers']
  readonly #init: Omit<PipelineInit, 'predicted'>
  readonly #slots: KvSlots
  readonly #microBatches: MicroBatches<SourceSession>
  readonly #sessions = new Map<string, SourceSession>()
  readonly #closing = new Map<SourceSession, Promise<void>>()
  readonly #events = new EventEmitter<{ change: [] }>()
  /** Whether all stages can copy from slot to slot, as far as is known. */
  #copies = true
  #predicted: Predicted
  #blame: Blame
  #pace: PrefillPace
  #slowness = new Slowness()
  #failed = new AbortController()

  constructor({ stages, sessions, peers }: PipelineComponents, { predicted, ...init }: PipelineInit) {
    this.#stages = stages
    this.#table = sessions
    this.#peers = peers
    this.#init = init
    this.#microBatches = new MicroBatches(init)
    this.#slots = new KvSlots(init.slots, this.#microBatches.slotsEach, init.mayCut)
    this.#predicted = predicted
    this.#blame = new Blame(stages.remote, peers)
    this.#pace = paceOf(predicted)
    this.#events.setMaxListeners(0)
  }

  /** Slots that are taken. */
  get active(): number {
    return this.#init.slots - this.#slots.free
  }

  /** What the stages that there are now should take. */
  get predicted(): Predicted {
    return this.#predicted
  }

  /** Tokens that a request would find in the KV caches of all stages. */
  cachedTokens(request: SlotRequest): number {
    return this.#slots.held(request)
  }

  /** How many tokens the KV caches of all stages have of each conversation that others may come back to. */
  heldBeside(request?: SlotRequest): number[] {
    return this.#slots.heldBeside(request)
  }

  /** How long each answer is that is being drawn. */
  get answers(): AnswerTokens[] {
    return this.#all.map(({ answerTokens }) => answerTokens)
  }

  /** The peer that ended the pipeline, and those that are silent: what they have to say is not waited for. */
  get unreachable(): ReadonlySet<string> {
    const unreachable = this.#peers.suspects()
    const { failure } = this
    if (failure instanceof StageLostError && !(failure instanceof OwnStageLostError)) {
      unreachable.add(failure.peerId)
    }
    return unreachable
  }

  /** Why nothing can start here, unless it is repaired. */
  get failure(): Error | undefined {
    return this.#failed.signal.reason
  }

  /** Calls back whenever that may have come of which `changed` speaks. @returns what ends that */
  watch(onChange: () => void): () => void {
    this.#events.on('change', onChange)
    return () => void this.#events.off('change', onChange)
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
  async open(request: AnswerRequest, signal: AbortSignal): Promise<Answer> {
    const silent = this.#blame.silent('it has fallen silent, or its version does not fit any more')
    if (silent !== undefined) this.fail(silent)
    if (this.failure !== undefined) throw this.failure
    const { vocabSize, hasState = false } = this.#init
    const taken = this.#slots.take(
      request,
      this.#copies && !hasState ? this.#runningIn(request.scope) : undefined
    )
    if (taken === undefined) throw new Error('every slot of the deployment is taken')
    const { slot, keepTokens, intactFrom, rounded = false, copyFrom, restore, store } = taken
    const id = randomBytes(16).toString('hex')
    const onReady = () => this.#pump()
    // With no other device there is no time between a step and the next that a guess could fill.
    // What may follow a guess would have to be known before the guess is.
    const guesses = this.#stages.remote.length > 0 && request.grammar === undefined && !hasState
    const draft = guesses ? request.draft : undefined
    const onStalled = () => void close()
    const fromToken = intactFrom === 0 ? keepTokens : 0
    const own = { id, slot, fromToken, vocabSize, hasState, onReady, onStalled }
    const session = new SourceSession({ ...request, draft, ...own })
    const runs = this.#slots.runsOf(slot)
    this.#microBatches.joins(this.#all)
    this.#sessions.set(id, session)
    this.#table.addOwner(id, this)
    const onAbort = () => session.fail(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const close = () => {
      signal.removeEventListener('abort', onAbort)
      return this.#close(session)
    }
    let exact = false
    try {
      signal.throwIfAborted()
      const { pooling, exact: asked = false, requestId } = request
      const sampling = samplingFrom(request.sampling, request)
      const either = AbortSignal.any([signal, this.#failed.signal])
      const options = { signal: either }
      const opened = await this.#stages.open(
        {
          ...{
            sessionId: id,
            slot,
            keepTokens,
            intactFrom,
            copyFrom,
            restore,
            ...(store && { store: { key: store.key, tokens: store.conversation.cachedTokens } }),
            sampling,
            pooling,
            exact: asked,
            requestId
          },
          ...(draft?.saw !== undefined && { states: true }),
          ...(request.lead && { catchUpTokens: request.prompt.length + request.known.length })
        },
        options
      )
      exact = opened.exact && !rounded
      if (store !== undefined) this.#slots.stored(store, opened.stored)
    } catch (error) {
      if (store !== undefined) this.#slots.stored(store, false)
      await close()
      if (restore !== undefined && isRefused(error, 'not-kept')) this.#slots.forget(restore)
      // A peer of a version that does not copy.
      else if (copyFrom !== undefined && isRefused(error, 'not-understood')) this.#copies = false
      else throw error
      return await this.open(request, signal)
    }
    session.opened(exact)
    void this.#prefill(session, request, { keepTokens, fromToken })
    const { measured, prefilled } = session
    return {
      cachedTokens: fromToken,
      prefilled,
      exact,
      measured,
      get guesses() {
        return session.guesses
      },
      certain: session.certain,
      runs,
      get behindTokens() {
        return session.behindTokens
      },
      goAlone: () => session.goAlone(),
      pause: isPaused => session.pause(isPaused),
      next: () => session.read(),
      pooled: () => session.readPooled(),
      close
    }
  }

  /** What the sessions of a scope have in the KV caches by now, by their slots. */
  #runningIn(scope: string): Map<number, Conversation> {
    const sessions = this.#all.filter(session => session.scope === scope)
    return new Map(
      sessions.flatMap(session => {
        const conversation = session.conversation()
        return conversation === undefined ? [] : [[session.slot, conversation]]
      })
    )
  }

  /** A frame for some sessions from a peer: tokens, or the news that a stage cannot go on. */
  receive(peerId: string, frame: StageFrame): void {
    const { remote } = this.#stages
    if (!remote.some(stage => stage.peerId === peerId)) return
    if (frame.type === 'token' && peerId === remote.at(-1)!.peerId) {
      const foreign = frame.drawn.find(({ id }) => id >= this.#init.vocabSize)
      if (foreign === undefined) this.accept(frame.rows, frame.drawn, frame.timings)
      else this.peerLost(peerId, `it drew token ${foreign.id}, which the model does not have`)
    }
    // What is not asked for was given no memory.
    if (frame.type === 'hidden' && peerId === remote.at(-1)!.peerId)
      this.acceptStates(frame.rows[0]!, frame.hidden)
    if (frame.type === 'pooled' && peerId === remote.at(-1)!.peerId) {
      const { hiddenSize, pooled } = frame
      if (hiddenSize === this.#init.hiddenSize && isUnitVector(pooled))
        this.acceptPooled(frame.rows[0]!, pooled)
      else
        this.peerLost(peerId, `what it pooled is no vector of ${this.#init.hiddenSize} values and length 1`)
    }
    if (frame.type === 'error') {
      const { of, error } = this.#blame.refused(peerId, frame)
      if (of === 'stage') this.fail(error)
      else this.#spoil(frame.rows, error)
    }
  }

  /** Tokens were drawn by the last stage, wherever it is. */
  accept(rows: readonly FrameRow[], drawn: readonly SampledToken[], timings: readonly StageTiming[]): void {
    const receivedAtMs = performance.timeOrigin + performance.now()
    const early = rows.find(
      ({ sessionId, position, epoch = 0 }) =>
        this.#sessions.get(sessionId)?.mayDraw(position, epoch) === false ||
        this.#sessions.get(sessionId)?.pools === true
    )
    if (early !== undefined) {
      const what = `a token came back from a step at ${early.position}, which was not to draw one`
      this.fail(this.#blame.unasked(what))
      return
    }
    this.#blame.drawn()
    // Chunks of prompts lie in the way of the others' steps.
    const prefilling = this.#all.some(session => session.prefilling)
    // Tokens that nobody waits for tell nothing: whoever sends them may write what it likes.
    const awaited = rows.filter(row => this.#awaits(row))
    const own = awaited.map(row => this.#stages.first.timingOf(row)).find(Boolean)
    const doubt = own && contradictionIn(timings, own, receivedAtMs)
    const told = awaited.length > 0 && !prefilling && doubt === undefined
    const slow = told ? this.#slowness.add(timings, receivedAtMs, rows) : undefined
    if (slow !== undefined) this.#init.onSlow(slow)
    const underWay = this.#microBatches.underWay(this.#all)
    rows.forEach((row, i) => {
      const { sessionId, position } = row
      const session = this.#sessions.get(sessionId)
      if (session === undefined || !this.#awaits(row) || session.passed(position)) return
      if (!session.prefilling && own !== undefined) {
        if (doubt === undefined) {
          session.measured.add(timings, receivedAtMs, rows.length, position, underWay)
          session.timed(timings, receivedAtMs, position)
        } else session.measured.doubt(receivedAtMs - own.arrivedAtMs, rows.length, doubt)
      }
      if (session.accept(drawn[i]!)) this.#drop(session)
    })
    this.#pump()
  }

  /** Memory for what the last stage says that the model made of a session's tokens; null: nobody wants it, or it is none. */
  memoryFor(peerId: string, { rows, tokens, hiddenSize }: FrameHeader): HiddenStates | null {
    const [row] = rows
    const session = row && this.#sessions.get(row.sessionId)
    const isLast = peerId === this.#stages.remote.at(-1)?.peerId
    const fits = rows.length === 1 && hiddenSize === this.#init.hiddenSize && tokens <= PREFILL_CHUNK_TOKENS
    return isLast && fits && session?.sees === true ? allocateHidden(tokens, hiddenSize) : null
  }

  /** What the model made of a session's tokens was said by the last stage, before what is drawn behind them. */
  acceptStates({ sessionId, position, epoch = 0 }: FrameRow, states: Float32Array): void {
    const session = this.#sessions.get(sessionId)
    // Tokens of a step that is not stale are certain: what is drawn before one of them comes first.
    if (session !== undefined && !session.isStale(epoch)) session.saw(position, states)
  }

  /** What a session's hidden states come to so far was said by the last stage, wherever it is. */
  acceptPooled({ sessionId, position }: FrameRow, pooled: Float32Array): void {
    const session = this.#sessions.get(sessionId)
    if (session === undefined || session.isStale(0)) return
    if (!session.pools || !session.mayDraw(position, 0)) {
      this.fail(this.#blame.unasked(`a vector came back from a step at ${position}, which was not to pool`))
      return
    }
    this.#blame.drawn()
    if (!session.passed(position)) session.acceptPooled(pooled)
    this.#pump()
  }

  /**
   * Whether a token may be awaited: not where its session was closed meanwhile, it follows a wrong guess, or the last stage
   * sends what it was not asked for.
   */
  #awaits({ sessionId, epoch = 0 }: FrameRow): boolean {
    return this.#sessions.get(sessionId)?.isStale(epoch) === false
  }

  /** Some sessions cannot go on, wherever they are computed; those that share their steps do. */
  rowsFailed(rows: readonly FrameRow[], error: Error): void {
    this.#spoil(rows, this.#blame.tail(error))
  }

  #spoil(rows: readonly FrameRow[], error: Error): void {
    for (const { sessionId } of rows) this.#sessions.get(sessionId)?.spoil(error)
    this.#pump()
  }

  /** The connection to a peer broke. */
  peerLost(peerId: string, reason: string): void {
    const loss = this.#blame.peer(peerId, reason)
    if (loss !== undefined) this.fail(loss)
  }

  /** Ends every answer; nothing starts here unless it is repaired. */
  fail(cause: Error): void {
    if (this.failure !== undefined) return
    const error = cause instanceof RuntimeStoppedError ? this.#ownLoss(cause) : cause
    this.#failed.abort(error)
    for (const session of this.#sessions.values()) session.fail(error)
    this.#pace.settle(false)
    this.#events.emit('change')
  }

  /** Goes on with another peer as stage `at`: KV caches are gone there, and of use behind it only. */
  resume({ at, stages, predicted }: { at: number; stages: number; predicted: Predicted }): void {
    this.#predicted = predicted
    this.#slots.lost(at, stages)
    this.#failed = new AbortController()
    this.#slowness = new Slowness()
    this.#pace = paceOf(predicted)
    this.#blame = new Blame(this.#stages.remote, this.#peers)
    this.#events.emit('change')
  }

  /** Ends every session everywhere; resolves when all slots are free. */
  async closeAll(): Promise<void> {
    for (const session of this.#sessions.values()) void this.#close(session)
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
    session.fail(new Error('the answer was closed'))
    this.#sessions.delete(session.id)
    this.#pump()
    this.#table.removeOwner(session.id)
    await this.#stages.close(session.id, this.unreachable)
    this.#slots.giveBack(session.slot, session.conversation())
    this.#events.emit('change')
  }

  /** Sends a prompt through all stages, and behind it what is known of the answer. */
  async #prefill(
    session: SourceSession,
    { prompt, known, exact, grammar, runs }: AnswerRequest,
    from: { keepTokens: number; fromToken: number }
  ): Promise<void> {
    const steps = prefillSteps({ prompt, known, exact, runs, hasState: this.#init.hasState }, from)
    const last = steps.at(-1)!
    const progress = this.#stages.remote.length === 0 ? undefined : this.#progressOf(session, from)
    session.expectToken(last.position, progress)
    for (const step of steps) {
      const { position, tokens } = step
      while (progress?.crowded(step)) await progress.moved()
      await this.#pace.enter(tokens.length, () => session.stepping && this.#running)
      if (!session.stepping) return
      if (step === last) this.#pace.follow(() => session.awaits(position))
      const { expected } = session
      const end = position + tokens.length
      const expectedMs =
        position < prompt.length || tokens.length > 1
          ? expected.promptMs(position, end)
          : expected.stepMs(position)
      const draws = progress?.enter(step, expectedMs, step === last) ?? step === last
      const mask = step === last && grammar !== undefined ? await session.firstMask() : undefined
      if (!session.stepping) return
      const row = { sessionId: session.id, position, ...(mask && { mask }) }
      const sent = await this.#run(Int32Array.from(tokens), [row], draws)
      if (sent && draws) progress?.sent(position)
      // Where there is no other device, what has been computed is through.
      if (sent && progress === undefined) session.through(end)
      if (step !== last) this.#pace.entered()
    }
  }

  #progressOf(session: SourceSession, from: { keepTokens: number; fromToken: number }): PromptProgress {
    return new PromptProgress({
      ...from,
      catchesUp: session.led,
      othersMs: () => this.#roundMs(session),
      onLate: ({ start, end, deadlineMs }) => {
        const part = `tokens ${start} to ${end} of the prompt were not through`
        void this.#late(session.id, `${part} within ${Math.round(deadlineMs / 1000)} s`)
      }
    })
  }

  /** Starts the steps that can start: one of each micro-batch that has none on its way. */
  #pump(): void {
    if (this.failure !== undefined) return
    this.#pace.settle(this.#running)
    const all = this.#all
    for (const sessions of this.#microBatches.start(all)) this.#step(sessions)
    this.#lead(all.filter(({ led }) => led))
    this.#speculate()
  }

  get #all(): SourceSession[] {
    return [...this.#sessions.values()]
  }

  get #running(): boolean {
    return this.#microBatches.isRunning(this.#all)
  }

  /** Feeds sessions that follow others, whose tokens are known: one alone as many as are useful, several together. */
  #lead(sessions: SourceSession[]): void {
    const [alone] = sessions
    if (alone !== undefined && sessions.length === 1) {
      if (alone.ready) this.#step([alone])
      this.#guess(alone)
      return
    }
    sessions.sort((a, b) => a.slot - b.slot)
    while (sessions.every(({ underWay }) => underWay < MAX_LED_TOGETHER)) {
      const fed = sessions.flatMap(session => {
        const step = session.ready ? session.takeStep() : session.takeGuess()
        return step === undefined ? [] : [{ session, step }]
      })
      if (fed.length === 0) return
      this.#feed(
        fed.map(({ session }) => session),
        fed.map(({ step }) => step)
      )
    }
  }

  /** Feeds guesses of the one answer that runs alone: others keep the stages busy by themselves. */
  #speculate(): void {
    const running = this.#all.filter(({ busy, ready }) => busy || ready)
    const [session] = running
    if (session !== undefined && running.length === 1) this.#guess(session)
  }

  #guess(session: SourceSession): void {
    for (let guess = session.takeGuess(); guess !== undefined; guess = session.takeGuess()) {
      this.#feed([session], [guess])
    }
  }

  /** What is under way of a session follows a wrong guess: no stage need compute it, and what it left is forgotten. */
  #drop({ id, epoch, cachedTokens }: SourceSession): void {
    const { first, remote } = this.#stages
    first.dropBefore(id, epoch)
    this.#table.dropBefore(id, epoch)
    const frame = dropFrame({ sessionId: id, position: cachedTokens, epoch })
    for (const { peerId } of remote) {
      const unsaid = log.passOver('a stage was not told of a wrong guess; the next step tells it', { peerId })
      void this.#peers.send(peerId, frame).catch(unsaid)
    }
  }

  #step(sessions: SourceSession[]): void {
    // In the order of their slots, as their KV caches lie in memory.
    sessions.sort((a, b) => a.slot - b.slot)
    this.#feed(
      sessions,
      sessions.map(session => session.takeStep())
    )
  }

  /** Sends a token of each of some sessions through the stages. */
  #feed(sessions: SourceSession[], steps: FedStep[]): void {
    const [first, { position }] = [sessions[0]!, steps[0]!]
    this.#pace.follow(() => first.awaits(position))
    const rows = steps.map((step, i) => rowOf(sessions[i]!.id, step))
    const input = Int32Array.from(steps, ({ token }) => token)
    void this.#run(input, rows, true).then(sent => {
      // Without other peers there is nobody to lose.
      if (sent && this.#stages.remote.length > 0)
        sessions.forEach((session, i) => {
          this.#awaitStep(session, steps[i]!)
        })
    })
  }

  /** What all open sessions but one add to a step of that one, in ms: they share the stages. */
  #roundMs(but: SourceSession): number {
    const others = this.#all.filter(session => session !== but)
    return others.reduce((sum, { roundMs }) => sum + roundMs, 0)
  }

  /** A step of running answers is with the other peers. */
  #awaitStep(session: SourceSession, step: FedStep): void {
    const deadlineMs = deadlineFor(session.expected.stepMs(step.position) + this.#roundMs(session))
    session.awaitUntil(step, deadlineMs, () => {
      void this.#late(session.id, `no token within ${Math.round(deadlineMs / 1000)} s`)
    })
  }

  /** Computes a step here and hands it on. @returns false where it failed, or was of a pipeline before a repair */
  async #run(input: Int32Array, rows: FrameRow[], sample: boolean): Promise<boolean> {
    const failed = this.#failed
    const hangs = () => {
      if (failed === this.#failed) this.fail(new OwnStageHangsError(input.length, OWN_STEP_DEADLINE_MS))
    }
    const watch = setTimeout(hangs, OWN_STEP_DEADLINE_MS)
    try {
      await this.#stages.first.run(input, { rows, tokens: input.length, sample, timings: [] })
      return failed === this.#failed
    } catch (error) {
      // A step from before a repair.
      if (failed !== this.#failed) return false
      const sending = error instanceof PeerLostError || error instanceof LimitExceededError
      const loss = sending ? this.#blame.unsent(messageOf(error)) : undefined
      this.fail(loss ?? (error as Error))
      return false
    } finally {
      clearTimeout(watch)
    }
  }

  #ownLoss(cause: Error): OwnStageLostError {
    const { peerId } = this.#peers
    return new OwnStageLostError(`a stage of this node is lost: ${cause.message}`, peerId, { cause })
  }

  /** Other peers did not do their part in time. */
  async #late(sessionId: string, reason: string): Promise<void> {
    const failed = this.#failed
    const error = await this.#blame.late(reason, () => this.#stages.unconfirmed(sessionId, this.unreachable))
    // Another verdict was faster, and perhaps a repair.
    if (failed === this.#failed) this.fail(error)
  }
}

function rowOf(sessionId: string, { position, epoch, mask }: FedStep): FrameRow {
  return { sessionId, position, ...(epoch > 0 && { epoch }), ...(mask && { mask }) }
}

/** Whether a stage of a peer, or of this device, said no with such a code. */
function isRefused(error: unknown, code: LeaseCode): boolean {
  const said = error instanceof StageLostError ? error.cause : error
  return (said instanceof RemoteError || said instanceof RefusedError) && said.code === code
}

/** The last hop is the token's return, which no prompt is in the way of. */
function paceOf({ linksMs }: Predicted): PrefillPace {
  return new PrefillPace(linksMs.slice(0, -1))
}

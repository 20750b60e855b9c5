import { logger } from '../../models/log.ts'
import { NotFiniteError } from '../../models/runtime/errors.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { Pooling } from '../../models/runtime/pooling.ts'
import type { HiddenStates, SampledToken, ShardBatch, ShardSession } from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import type { FrameRow, StageTiming } from '../../protocols/stage/frame.ts'
import { StageInputError } from './errors.ts'
import { copyOf, damagedRows, pickRows } from './rows.ts'
import { StepOrder } from './step-order.ts'
import { StepTimings } from './step-timings.ts'
import type { StepKind, Turns } from './turns.ts'

const log = logger('edgeshard:stage')

/** Which tokens of which sessions a step is about: any number of one session's, or one token of each of several. */
export interface Step {
  rows: FrameRow[]
  tokens: number
  /** Draw a token after the last position. */
  sample: boolean
  /** The stages that the step has passed before this one. */
  timings: StageTiming[]
}

/** Hidden states for the next stage, a token of each session, what was pooled of the only one, or nothing where the head was not asked for one. */
export type StepResult =
  | { kind: 'hidden'; hidden: HiddenStates }
  | { kind: 'tokens'; tokens: SampledToken[] }
  | { kind: 'pooled'; pooled: Float32Array }
  | { kind: 'none' }

export interface StageInit {
  /** The KV caches of the stage's sessions. */
  batch: ShardBatch
  /** The queue of the shard, which other leases may share. */
  turns: Turns
  /** The lease that this stage computes for, in the shard's queue. */
  tenant: string
  hiddenSize: number
  /** Tokens that a session's KV cache has room for. */
  maxTokens: number
  /** Tokens of one session that a step may have: working memory is counted for no more. */
  frameTokens: number
  /** Hands a result on; called in the order in which steps were computed. */
  deliver: (result: StepResult, step: Step) => Promise<void>
  /** The sessions of these rows cannot go on, and are closed here; those that shared the step with them do. */
  onRowsFailed: (rows: FrameRow[], error: NotFiniteError) => void
}

interface Session {
  shard: ShardSession
  /** Which step may come in next, and which of those that wait are stale. */
  order: StepOrder
  /** Tokens in the shard's KV cache. */
  cached: number
  /** Steps of these kinds that are not computed yet. */
  waiting: Record<Exclude<StepKind, 'decode'>, number>
  /** Its first tokens, which are computed when nothing else waits. */
  catchUpTokens: number
  /** Its first tokens, of which nothing is handed on: the stages behind have them. */
  withholdTokens: number
  /** The request that it belongs to, as its source calls it. */
  requestId: string | undefined
  /** What its last steps took here, of those whose results were handed on. */
  timings: StepTimings
}

/**
 * One peer's part of a plan: the sessions on one layer range under one lease. Steps of a session enter in order and
 * leave in order. The same on a serving peer, where frames feed it, and on the source, where the prompt does.
 */
export class Stage {
  readonly #init: StageInit
  readonly #sessions = new Map<string, Session>()
  readonly #opening = new Map<string, Promise<ShardSession>>()
  #delivered: Promise<void> = Promise.resolve()

  constructor(init: StageInit) {
    this.#init = init
  }

  /** Ids of the sessions that are open. */
  get sessions(): string[] {
    return [...this.#sessions.keys()]
  }

  /** True when no session is open or being opened. */
  get idle(): boolean {
    return this.#sessions.size + this.#opening.size === 0
  }

  /** True for a session that is open or being opened. */
  has(sessionId: string): boolean {
    return this.#sessions.has(sessionId) || this.#opening.has(sessionId)
  }

  /**
   * @returns whether the session is computed to the bit, where it was to be `exact`
   * @throws {StageInputError} for a session that is open already, {NoFreeSlotError} {RuntimeInputError}
   */
  async open(
    sessionId: string,
    options: {
      slot: number
      keepTokens: number
      copyFrom?: number | undefined
      withholdTokens: number
      catchUpTokens?: number | undefined
      sampling?: Sampling | undefined
      pooling?: Pooling | undefined
      exact?: boolean | undefined
      requestId?: string | undefined
    }
  ): Promise<boolean> {
    if (this.has(sessionId)) throw new StageInputError(`session ${sessionId} is open already`)
    const {
      slot,
      keepTokens,
      copyFrom,
      withholdTokens,
      catchUpTokens = 0,
      sampling,
      pooling,
      exact = false,
      requestId
    } = options
    const results = { ...(sampling && { sampling }), ...(pooling && { pooling }) }
    const opening = this.#init.batch.open({ slot, keepTokens, copyFrom, exact, ...results })
    this.#opening.set(sessionId, opening)
    try {
      const shard = await opening
      if (!this.#opening.has(sessionId)) {
        await shard.close()
        throw new StageInputError(`session ${sessionId} was closed while it was opened`)
      }
      this.#sessions.set(sessionId, {
        shard,
        order: new StepOrder(keepTokens),
        cached: keepTokens,
        waiting: { prefill: 0, 'catch-up': 0 },
        catchUpTokens,
        withholdTokens,
        requestId,
        timings: new StepTimings()
      })
      return shard.exact
    } finally {
      this.#opening.delete(sessionId)
    }
  }

  /** What the last step of a session at that position took here, of those whose result was handed on a short while ago. */
  timingOf({ sessionId, position }: FrameRow): StageTiming | undefined {
    return this.#sessions.get(sessionId)?.timings.at(position)
  }

  /** Steps of earlier epochs of a session that still wait are not computed, and those that come are passed over. */
  dropBefore(sessionId: string, epoch: number): void {
    this.#sessions.get(sessionId)?.order.dropBefore(epoch)
  }

  /**
   * Memory for hidden states that were announced.
   *
   * @throws {StageInputError} when they are not what these sessions expect next
   */
  memoryFor(step: { rows: FrameRow[]; tokens: number; hiddenSize: number }): HiddenStates {
    const { hiddenSize } = this.#init
    if (step.hiddenSize !== hiddenSize) {
      throw new StageInputError(`hidden states are ${step.hiddenSize} wide, the model's are ${hiddenSize}`)
    }
    this.#check(step)
    return allocateHidden(step.tokens, hiddenSize)
  }

  /**
   * Runs one step and hands its result on; resolves when that is done. Steps may be given without waiting. Sessions that
   * are closed meanwhile drop out of it, and so do those whose numbers are not finite, or whose step has become stale.
   *
   * @throws {StageInputError} at once, when the step is not what its sessions expect next
   */
  run(input: Int32Array | HiddenStates, step: Step): Promise<void> {
    const arrivedAtMs = now()
    const sessions = this.#check(step)
    this.#dropDamaged(input, step.rows)
    const each = step.tokens / step.rows.length
    for (const [i, session] of sessions.entries()) session?.order.enter(step.rows[i]!, each)
    const { turns, tenant, deliver } = this.#init
    const kind = kindOf(step, sessions)
    if (kind !== 'decode') for (const session of sessions) if (session) session.waiting[kind]++
    const computed = turns.run(kind, tenant, async () => {
      if (kind !== 'decode') for (const session of sessions) if (session) session.waiting[kind]--
      const live = this.#live(input, step, sessions)
      if (live.sessions.length === 0) return { delivered: this.#delivered }
      const computed = await this.#compute(live).catch((error: unknown) => {
        // Closed while it ran: its result is not waited for.
        if (this.#live(live.input, live.step, live.sessions).sessions.length === 0) return undefined
        if (!(error instanceof NotFiniteError)) throw error
        this.#failRows(live.step.rows, error)
        return undefined
      })
      if (computed === undefined || isWithheld(live)) return { delivered: this.#delivered }
      const { result, rows, tokens, computeMs } = computed
      // Chained here, so that results are handed on in the order of the turns.
      const delivered = this.#delivered.then(() => {
        // Closed while it waited for its turn on the way.
        if (this.#live(live.input, live.step, live.sessions).sessions.length === 0) return
        const timing = { arrivedAtMs, sentAtMs: now(), computeMs }
        for (const [i, session] of live.sessions.entries()) {
          session.timings.set(live.step.rows[i]!.position, timing)
        }
        const timings = [...step.timings, timing]
        return deliver(result, { ...live.step, rows, tokens, timings })
      })
      // A failure is the caller's to see; later steps do not depend on it.
      this.#delivered = delivered.catch(() => {})
      return { delivered }
    })
    return computed.then(({ delivered }) => delivered)
  }

  /** Results go to another peer from now on: they wait for nothing that is still on its way to the one before. */
  relinked(): void {
    this.#delivered = Promise.resolve()
  }

  /** Resolves when its slot is free. */
  async closeSession(sessionId: string): Promise<void> {
    const opening = this.#opening.get(sessionId)
    const session = this.#sessions.get(sessionId)
    this.#opening.delete(sessionId)
    this.#sessions.delete(sessionId)
    // Where opening it failed, whoever opened it has heard.
    await opening?.then(shard => shard.close()).catch(() => {})
    await session?.shard.close()
  }

  /** Frees the KV caches and ends every session still open. */
  async close(): Promise<void> {
    this.#opening.clear()
    this.#sessions.clear()
    await this.#init.batch.close()
  }

  /** @throws {NotFiniteError} when no session of the step has a result */
  async #compute({ input, step, sessions }: LiveStep): Promise<Computed> {
    const { rows, tokens, sample } = step
    // What came before it may have become stale on its way.
    if (sessions.some(({ cached }, i) => cached < rows[i]!.position)) {
      throw new StageInputError('a step starts behind tokens that were never computed')
    }
    const [alone] = sessions
    if (sessions.length === 1 && alone !== undefined) {
      const { position, mask } = rows[0]!
      // Guesses have left more there; a step of several sessions forgets it by itself.
      if (alone.cached > position) await alone.shard.trim(position)
      const output = await alone.shard.forward({ position, input, sample, mask })
      note(sessions, rows, tokens)
      const { computeMs } = output
      const result: StepResult =
        output.kind === 'token'
          ? { kind: 'tokens', tokens: [output.token] }
          : output.kind === 'hidden'
            ? { kind: 'hidden', hidden: ownMemory(output.hidden, rows) }
            : output
      return { result, rows, tokens, computeMs }
    }
    const shards = sessions.map(({ shard }) => shard)
    const positions = rows.map(({ position }) => position)
    const masks = rows.map(({ mask }) => mask)
    const output = await this.#init.batch.decode(shards, { positions, input, masks })
    note(sessions, rows, tokens)
    if (output.kind === 'hidden') return { result: output, rows, tokens, computeMs: output.computeMs }
    const failed = rows.filter((_, i) => output.tokens[i] === undefined)
    const notFinite = new NotFiniteError('the logits are not finite')
    if (failed.length === rows.length) throw notFinite
    if (failed.length > 0) this.#failRows(failed, notFinite)
    const drawn = output.tokens.filter(token => token !== undefined)
    const left = rows.filter(row => !failed.includes(row))
    const result = { kind: 'tokens', tokens: drawn } as const
    return { result, rows: left, tokens: left.length, computeMs: output.computeMs }
  }

  /** Hidden states that are no numbers are their session's end. Where every session's are, the sender is damaged. */
  #dropDamaged(input: Int32Array | HiddenStates, rows: FrameRow[]): void {
    const damaged = damagedRows(input, rows.length)
    if (damaged.length === 0) return
    const text = 'the hidden states that came in are not finite'
    if (damaged.length > 1 && damaged.length === rows.length) throw new StageInputError(text)
    this.#failRows(
      damaged.map(i => rows[i]!),
      new NotFiniteError(text)
    )
  }

  #failRows(rows: FrameRow[], error: NotFiniteError): void {
    const open = rows.filter(({ sessionId }) => this.#sessions.has(sessionId))
    // At once: later steps of theirs that wait already must find them closed.
    for (const { sessionId } of open) {
      const sessionLog = log.of(this.#sessions.get(sessionId)?.requestId)
      const unclosed = sessionLog.passOver('closing a session failed; its lease frees it', { sessionId })
      void this.closeSession(sessionId).catch(unclosed)
    }
    if (open.length > 0) this.#init.onRowsFailed(open, error)
  }

  /** The part of a step whose sessions are open still, and wait for it. */
  #live(input: Int32Array | HiddenStates, step: Step, sessions: (Session | undefined)[]): LiveStep {
    const { rows } = step
    const open = rows.flatMap(({ sessionId }, i) => {
      const session = sessions[i]
      const open = session !== undefined && this.#sessions.get(sessionId) === session
      return open && !session.order.isStale(rows[i]!) ? [{ i, session }] : []
    })
    const live = open.map(({ session }) => session)
    if (live.length === rows.length) return { input, step, sessions: live }
    const at = open.map(({ i }) => i)
    const kept = { ...step, rows: at.map(i => rows[i]!), tokens: at.length }
    return { input: pickRows(input, at, this.#init.hiddenSize), step: kept, sessions: live }
  }

  /** The sessions of a step, undefined where they are closed or it is stale: such frames may still be on their way. */
  #check({ rows, tokens }: { rows: FrameRow[]; tokens: number }): (Session | undefined)[] {
    const { maxTokens, frameTokens } = this.#init
    const each = tokens / rows.length
    if (each > frameTokens) {
      throw new StageInputError(`a step has ${each} tokens of a session, the lease is for ${frameTokens}`)
    }
    const sessions = rows.map(row => {
      const { sessionId, position } = row
      const session = this.#sessions.get(sessionId)
      if (session === undefined || session.order.isStale(row)) return undefined
      session.order.check(row)
      if (position + each > maxTokens) {
        throw new StageInputError(`${position + each} tokens exceed the session's ${maxTokens}`)
      }
      return session
    })
    if (new Set(rows.map(({ sessionId }) => sessionId)).size < rows.length) {
      throw new StageInputError('a session occurs twice in a step')
    }
    return sessions
  }
}

interface Computed {
  result: StepResult
  /** Those of the step that have a result, and their tokens. */
  rows: FrameRow[]
  tokens: number
  computeMs: number
}

interface LiveStep {
  input: Int32Array | HiddenStates
  step: Step
  sessions: Session[]
}

/** The tokens of a step are in the KV caches. */
function note(sessions: Session[], rows: FrameRow[], tokens: number): void {
  for (const [i, session] of sessions.entries()) session.cached = rows[i]!.position + tokens / rows.length
}

/**
 * Hidden states that no later step overwrites: of a session that feeds guesses any number of steps may be computed before
 * this one's result has left.
 */
function ownMemory(hidden: HiddenStates, [row]: FrameRow[]): HiddenStates {
  return row?.epoch === undefined || hidden.tokens > 1 ? hidden : copyOf(hidden)
}

/** True for a step of tokens that the stages behind have already; only a session that is built up again makes such steps. */
function isWithheld({ step: { rows, tokens }, sessions }: LiveStep): boolean {
  return rows.length === 1 && rows[0]!.position + tokens <= sessions[0]!.withholdTokens
}

/** A step of a session must not overtake those before it which still wait. */
function kindOf({ tokens, rows, sample }: Step, sessions: (Session | undefined)[]): StepKind {
  const follows = (kind: Exclude<StepKind, 'decode'>) =>
    sessions.some(session => session !== undefined && session.waiting[kind] > 0)
  const catchUpTokens = rows.length === 1 ? (sessions[0]?.catchUpTokens ?? 0) : 0
  if (follows('catch-up') || rows[0]!.position + tokens <= catchUpTokens) return 'catch-up'
  const decodes = tokens === rows.length && sample && !follows('prefill')
  return decodes ? 'decode' : 'prefill'
}

function now(): number {
  return performance.timeOrigin + performance.now()
}

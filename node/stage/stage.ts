import { setImmediate as nextLoopTurn } from 'node:timers/promises'
import { logger } from '../../models/log.ts'
import { NotFiniteError } from '../../models/runtime/errors.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { Pooling } from '../../models/runtime/pooling.ts'
import type {
  HiddenStates,
  OpenSlotOptions,
  SampledToken,
  ShardBatch,
  ShardSession
} from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import type { SavedTokens } from '../../models/runtime/saved-tokens.ts'
import type { FrameRow, StageTiming } from '../../protocols/stage/frame.ts'
import { Chunk } from './chunk.ts'
import { StageInputError } from './errors.ts'
import { type LeasePrefixes, notKept, type StoredPrefix } from './prefix-cache.ts'
import { damagedRows, pickRows } from './rows.ts'
import { StepOrder } from './step-order.ts'
import { type Computed, type ComputedSession, StepRuns } from './step-runs.ts'
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

/**
 * Hidden states for the next stage, a token of each session, what was pooled of the only one, or nothing where the head was not asked for one.
 * `states`: of each token after the last norm, (tokens, hidden), where the only session was opened for them.
 */
export type StepResult =
  | { kind: 'hidden'; hidden: HiddenStates }
  | { kind: 'tokens'; tokens: SampledToken[]; states?: Float32Array }
  | { kind: 'pooled'; pooled: Float32Array }
  | { kind: 'none'; states?: Float32Array }

export interface StageInit {
  /** The KV caches of the stage's sessions. */
  batch: ShardBatch
  /** The queue of the shard, which other leases may share. */
  turns: Turns
  /** The lease that this stage computes for, in the shard's queue. */
  tenant: string
  hiddenSize: number
  /** Some layers have states: which of them are kept follows from a prompt's chunks, so none is computed in pieces. @default false */
  hasState?: boolean
  /** Tokens that a session's KV cache has room for. */
  maxTokens: number
  /** Tokens of one session that a step may have: working memory is counted for no more. */
  frameTokens: number
  /** The memory for conversations that make room in their slots. @default none */
  prefixes?: LeasePrefixes | undefined
  /** Hands a result on; called in the order in which steps were computed. */
  deliver: (result: StepResult, step: Step) => Promise<void>
  /** The sessions of these rows cannot go on, and are closed here; those that shared the step with them do. */
  onRowsFailed: (rows: FrameRow[], error: NotFiniteError) => void
}

/** A session as it was opened. */
export interface OpenedSession {
  /** Whether it is computed to the bit, where it was to be. */
  exact: boolean
  /** Whether what had its slot is stored, where it was to be; undefined: nothing is stored here. */
  stored?: boolean | undefined
}

interface OpenedSlot extends Pick<OpenedSession, 'stored'> {
  shard: ShardSession
}

/** Steps that wait for their turn as chunks: of a prompt, or of what catches up with a running answer. */
type ChunkKind = Exclude<StepKind, 'decode'>

interface Session extends ComputedSession {
  slot: number
  /** Which step may come in next, and which of those that wait are stale. */
  order: StepOrder
  /** Chunks of these kinds that are not computed yet. */
  waiting: Record<ChunkKind, number>
  /** Its first tokens, which are computed when nothing else waits. */
  catchUpTokens: number
  /** Its last step was one of a running answer. */
  answering: boolean
  /** Its hidden states are pooled: it shares no run. */
  pools: boolean
  /** What the model makes of its tokens is handed on: its prompt is not cut in pieces. */
  givesStates: boolean
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
 *
 * A prompt that joins hardly holds up the answers that run: their steps take pieces of its chunks along, in the same run,
 * and between them only pieces are computed (`StepRuns`). What catches up with a running answer goes into no run of
 * others, which it would lengthen: it has turns that nobody else wants.
 */
export class Stage {
  readonly #init: StageInit
  readonly #sessions = new Map<string, Session>()
  readonly #opening = new Map<string, Promise<OpenedSlot>>()
  /** Tokens that the last session of each slot has left there. */
  readonly #left = new Map<number, number>()
  /** Whether KV caches can be taken out of their slots, as far as is known: those on a GPU cannot. */
  #letsOut: boolean | undefined
  /** Chunks in the order in which they came, until they are computed to their end. */
  readonly #chunks: Record<ChunkKind, Set<Chunk<Arrived>>> = { prefill: new Set(), 'catch-up': new Set() }
  readonly #runs: StepRuns
  /** Steps of running answers that wait for their turn. */
  #stepsWaiting = 0
  #delivered: Promise<void> = Promise.resolve()

  constructor(init: StageInit) {
    this.#init = init
    this.#runs = new StepRuns(init)
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
   * @throws {StageInputError} for a session that is open already, {NoFreeSlotError} {RuntimeInputError}, {RefusedError} where what
   * is to be restored is not kept any more
   */
  async open(
    sessionId: string,
    options: {
      slot: number
      keepTokens: number
      copyFrom?: number | undefined
      /** The number under which the first `keepTokens` tokens are stored. */
      restore?: number | undefined
      /** What is stored of the slot before it is taken. */
      store?: StoredPrefix | undefined
      withholdTokens: number
      catchUpTokens?: number | undefined
      sampling?: Sampling | undefined
      pooling?: Pooling | undefined
      exact?: boolean | undefined
      /** What the model makes of its tokens, behind the last norm, is handed on with what is drawn. */
      states?: boolean | undefined
      requestId?: string | undefined
    }
  ): Promise<OpenedSession> {
    if (this.has(sessionId)) throw new StageInputError(`session ${sessionId} is open already`)
    const {
      slot,
      keepTokens,
      copyFrom,
      restore,
      store,
      withholdTokens,
      catchUpTokens = 0,
      sampling,
      pooling,
      exact = false,
      states = false,
      requestId
    } = options
    const results = { ...(sampling && { sampling }), ...(pooling && { pooling }) }
    const opening = this.#openSlot(
      { slot, keepTokens, copyFrom, exact, states, ...results },
      { restore, store }
    )
    this.#opening.set(sessionId, opening)
    try {
      const { shard, stored } = await opening
      if (!this.#opening.has(sessionId)) {
        await shard.close()
        throw new StageInputError(`session ${sessionId} was closed while it was opened`)
      }
      this.#sessions.set(sessionId, {
        slot,
        shard,
        order: new StepOrder(keepTokens),
        cached: keepTokens,
        waiting: { prefill: 0, 'catch-up': 0 },
        catchUpTokens,
        answering: false,
        pools: pooling !== undefined,
        givesStates: states,
        withholdTokens,
        requestId,
        timings: new StepTimings()
      })
      return { exact: shard.exact, stored }
    } finally {
      this.#opening.delete(sessionId)
    }
  }

  /** Opens a slot, from what is stored, and with what it has stored before. */
  async #openSlot(
    options: OpenSlotOptions,
    { restore, store }: { restore: number | undefined; store: StoredPrefix | undefined }
  ): Promise<OpenedSlot> {
    const { batch, prefixes } = this.#init
    // Before room is made for another one.
    const restored = restore === undefined ? undefined : await storedIn(prefixes, restore)
    const { slot = 0 } = options
    // What is not there, or cannot be taken out, makes nothing else go.
    const isThere = store !== undefined && store.tokens <= (this.#left.get(slot) ?? 0)
    this.#left.delete(slot)
    const saves = isThere && this.#letsOut !== false && prefixes?.makeRoom(store) === true
    try {
      const saveTokens = saves ? store.tokens : undefined
      const shard = await batch.open({ ...options, restore: restored, saveTokens })
      if (saves) this.#letsOut ??= shard.saved !== undefined
      const stored = saves && prefixes?.put(store.key, shard.saved) === true
      if (store === undefined || prefixes === undefined || this.#letsOut === false)
        return { shard, stored: undefined }
      return { shard, stored }
    } catch (error) {
      if (saves) prefixes?.put(store.key, undefined)
      throw error
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
    const arrived = { input, step, sessions, arrivedAtMs }
    const kind = kindOf(step, sessions)
    return kind === 'decode' ? this.#answer(arrived) : this.#queue(kind, arrived)
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
    if (session !== undefined) this.#left.set(session.slot, session.cached)
    // Where opening it failed, whoever opened it has heard.
    await opening?.then(({ shard }) => shard.close()).catch(() => {})
    await session?.shard.close()
  }

  /** Frees the KV caches and ends every session still open. */
  async close(): Promise<void> {
    this.#opening.clear()
    this.#sessions.clear()
    this.#init.prefixes?.close()
    await this.#init.batch.close()
  }

  /** A step of running answers; a piece of a prompt that waits goes into the same run. */
  #answer(arrived: Arrived): Promise<void> {
    const { turns, tenant } = this.#init
    for (const session of arrived.sessions) if (session) session.answering = true
    this.#stepsWaiting++
    const computed = turns.run('decode', tenant, async () => {
      this.#stepsWaiting--
      const live = this.#live(arrived)
      if (live.sessions.length === 0) return { delivered: this.#delivered }
      const chunk = this.#firstChunk('prefill')
      const tokens = chunk && this.#runs.tokensBeside(chunk, live.sessions.length)
      if (chunk !== undefined && tokens !== undefined && tokens > 0) {
        chunk.gaveWay = false
        const joined = await this.#runs.joined(live, chunk, tokens)
        if (joined !== undefined) {
          const delivered = this.#handOn(live, joined.answers)
          if (joined.prompt !== undefined) this.#end('prefill', chunk, joined.prompt)
          return { delivered }
        }
      }
      const computed = await this.#ifFinite(live, () => this.#runs.answers(live))
      return { delivered: this.#handOn(live, computed) }
    })
    return computed.then(({ delivered }) => delivered)
  }

  /** A chunk of a prompt, or of what catches up. */
  #queue(kind: ChunkKind, arrived: Arrived): Promise<void> {
    const { step, sessions } = arrived
    for (const session of sessions) {
      if (session === undefined) continue
      session.waiting[kind]++
      session.answering = false
    }
    // What catches up shares its lease with others that do, and hurries; those who wait for tokens have turns before it.
    const { hiddenSize, hasState = false } = this.#init
    const isOfOne = step.rows.length === 1 && step.tokens > 1 && sessions[0]?.pools === false
    const isCut = kind === 'prefill' && isOfOne && !hasState && sessions[0]?.givesStates === false
    const chunk = new Chunk(arrived, { hiddenSize, isCut })
    this.#chunks[kind].add(chunk)
    this.#takeTurn(kind)
    return chunk.delivered
  }

  /** A turn for whatever chunk is the first one then. */
  #takeTurn(kind: ChunkKind): void {
    const { turns, tenant } = this.#init
    void turns.run(kind, tenant, () => this.#computeChunk(kind))
  }

  /** Computes the first chunk, or a piece of it while answers run; who waits for it hears what fails. */
  async #computeChunk(kind: ChunkKind): Promise<void> {
    const chunk = this.#firstChunk(kind)
    if (chunk === undefined) return
    try {
      const shares = chunk.isCut && this.#answers
      // What was handed on last may bring the answers' next step, which takes a piece along.
      if (shares) await nextLoopTurn()
      chunk.gaveWay = shares && this.#stepsWaiting > 0 && !chunk.gaveWay
      if (!chunk.gaveWay) await this.#computeAlone(kind, chunk)
    } catch (error) {
      this.#leave(kind, chunk)
      chunk.fail(error)
    }
    if (this.#chunks[kind].has(chunk)) this.#takeTurn(kind)
  }

  /** The first chunk that somebody waits for still. */
  #firstChunk(kind: ChunkKind): Chunk<Arrived> | undefined {
    for (const chunk of this.#chunks[kind]) {
      if (this.#live(chunk.arrived).sessions.length > 0) return chunk
      this.#end(kind, chunk, undefined)
    }
    return undefined
  }

  /** Whether answers run here, which a chunk holds up. */
  get #answers(): boolean {
    return [...this.#sessions.values()].some(({ answering }) => answering)
  }

  async #computeAlone(kind: ChunkKind, chunk: Chunk<Arrived>): Promise<void> {
    const live = this.#live(chunk.arrived)
    const computed = await this.#ifFinite(live, () =>
      chunk.isCut ? this.#runs.piece(chunk, this.#answers) : this.#runs.alone(live)
    )
    const isOver = !chunk.isCut || chunk.left === 0 || this.#live(live).sessions.length === 0
    if (isOver) this.#end(kind, chunk, computed)
  }

  /** A chunk is computed to its end; undefined: there is nothing to hand on. */
  #end(kind: ChunkKind, chunk: Chunk<Arrived>, computed: Computed | undefined): void {
    this.#leave(kind, chunk)
    chunk.end(this.#handOn(this.#live(chunk.arrived), computed))
  }

  #leave(kind: ChunkKind, chunk: Chunk<Arrived>): void {
    this.#chunks[kind].delete(chunk)
    for (const session of chunk.arrived.sessions) if (session) session.waiting[kind]--
  }

  /** Hands results on in the order of the turns. @returns when that is done */
  #handOn(live: LiveStep, computed: Computed | undefined): Promise<void> {
    if (computed === undefined) return this.#delivered
    const { result, rows, tokens, failed, computeMs } = computed
    if (failed.length > 0) this.#failRows(failed, new NotFiniteError('the logits are not finite'))
    if (rows.length === 0 || live.sessions.length === 0 || isWithheld(live)) return this.#delivered
    const { arrivedAtMs } = live
    const delivered = this.#delivered.then(() => {
      // Closed while it waited for its turn on the way.
      if (this.#live(live).sessions.length === 0) return
      const timing = { arrivedAtMs, sentAtMs: now(), computeMs }
      for (const [i, session] of live.sessions.entries()) {
        session.timings.set(live.step.rows[i]!.position, timing)
      }
      const timings = [...live.step.timings, timing]
      return this.#init.deliver(result, { ...live.step, rows, tokens, timings })
    })
    // A failure is the caller's to see; later steps do not depend on it.
    this.#delivered = delivered.catch(() => {})
    return delivered
  }

  /** What comes of a step; undefined where its session ended meanwhile, or its numbers are not finite. */
  async #ifFinite<T>(live: LiveStep, compute: () => Promise<T>): Promise<T | undefined> {
    try {
      return await compute()
    } catch (error) {
      // Closed while it ran: its result is not waited for.
      if (this.#live(live).sessions.length === 0) return undefined
      if (!(error instanceof NotFiniteError)) throw error
      this.#failRows(live.step.rows, error)
      return undefined
    }
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
  #live(arrived: Arrived): LiveStep {
    const { input, step, sessions } = arrived
    const { rows } = step
    const open = rows.flatMap(({ sessionId }, i) => {
      const session = sessions[i]
      const open = session !== undefined && this.#sessions.get(sessionId) === session
      return open && !session.order.isStale(rows[i]!) ? [{ i, session }] : []
    })
    const live = open.map(({ session }) => session)
    if (live.length === rows.length) return { ...arrived, sessions: live }
    const at = open.map(({ i }) => i)
    const kept = { ...step, rows: at.map(i => rows[i]!), tokens: at.length }
    return {
      ...arrived,
      input: pickRows(input, at, this.#init.hiddenSize),
      step: kept,
      sessions: live
    }
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

/** A step as it came in. */
interface Arrived {
  input: Int32Array | HiddenStates
  step: Step
  /** The sessions of its rows; undefined where they are closed, or it is stale. */
  sessions: (Session | undefined)[]
  arrivedAtMs: number
}

interface LiveStep extends Arrived {
  sessions: Session[]
}

/** True for a step of tokens that the stages behind have already; only a session that is built up again makes such steps. */
function isWithheld({ step: { rows, tokens }, sessions }: LiveStep): boolean {
  return rows.length === 1 && rows[0]!.position + tokens <= sessions[0]!.withholdTokens
}

/** @throws {RefusedError} where it is not kept any more */
async function storedIn(prefixes: LeasePrefixes | undefined, key: number): Promise<SavedTokens> {
  if (prefixes === undefined) throw notKept(key)
  return await prefixes.get(key)
}

/** A step of a session must not overtake those before it which still wait. */
function kindOf({ tokens, rows, sample }: Step, sessions: (Session | undefined)[]): StepKind {
  const follows = (kind: ChunkKind) =>
    sessions.some(session => session !== undefined && session.waiting[kind] > 0)
  if (follows('catch-up')) return 'catch-up'
  if (follows('prefill')) return 'prefill'
  const catchUpTokens = rows.length === 1 ? (sessions[0]?.catchUpTokens ?? 0) : 0
  if (rows[0]!.position + tokens <= catchUpTokens) return 'catch-up'
  return tokens === rows.length && sample ? 'decode' : 'prefill'
}

function now(): number {
  return performance.timeOrigin + performance.now()
}

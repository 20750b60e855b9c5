import { logger } from '../../models/log.ts'
import { NotFiniteError } from '../../models/runtime/errors.ts'
import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { HiddenStates, SampledToken } from '../../models/runtime/runtime.ts'
import { LimitExceededError, PeerLostError } from '../../protocols/errors.ts'
import type { FrameHeader, FrameRow, StageTiming } from '../../protocols/stage/frame.ts'
import type { StageCode, StageFrame, StageHandlers } from '../../protocols/stage/index.ts'
import { messageOf } from '../../protocols/text.ts'
import type { Peers } from '../mesh/peers.ts'
import { StageInputError } from './errors.ts'
import type { Stage, Step } from './stage.ts'

const log = logger('edgeshard:stage')

/** A frame that carries hidden states. */
export type HiddenFrame = StageFrame & { type: 'hidden' }

/** A session on a stage of this node that frames from a peer feed. */
export interface ServedSession {
  stage: Stage
  /** The only peer whose frames count; another stage of this device where that hands them over. */
  previous: string
  /** Its frames come from another stage of this device. @default false */
  isFedHere?: boolean | undefined
  /** Where the session began, and where errors go. */
  source: string
  /** The request that it belongs to, as its source calls it. */
  requestId?: string | undefined
}

/** Two stages of a session that begins here that cannot reach each other: what one sends is handed on to the other. */
export interface Relay {
  from: string
  to: string
}

/** The source's end of a session: gets tokens and news of its stages. */
export interface SessionOwner {
  receive(peerId: string, frame: StageFrame): void
  /** The last stage, where it is on this device, has drawn tokens. */
  accept(rows: readonly FrameRow[], drawn: readonly SampledToken[], timings: readonly StageTiming[]): void
  /** Memory for what the last stage says that the model made of a session's tokens; null: nobody wants it. */
  memoryFor(peerId: string, header: FrameHeader): HiddenStates | null
  /** The last stage, where it is on this device, says what the model made of a session's tokens from the row's position on. */
  acceptStates(row: FrameRow, states: Float32Array): void
  /** The last stage, where it is on this device, says what a session's hidden states come to. */
  acceptPooled(row: FrameRow, pooled: Float32Array): void
  /** The stage on this device cannot go on. */
  fail(error: Error): void
  /** The stage on this device cannot go on with these sessions. */
  rowsFailed(rows: readonly FrameRow[], error: Error): void
  peerLost(peerId: string, reason: string): void
}

/**
 * Which sessions a frame is about: the table between the wire and the stages. A node is a stage of some sessions and
 * the source of others, and of its own sessions it may also hold the tail.
 */
export class Sessions implements StageHandlers {
  /** By session; two of one source where several processors of this device each have a stage of it. */
  readonly #served = new Map<string, readonly ServedSession[]>()
  readonly #owners = new Map<string, SessionOwner>()
  readonly #relays = new Map<string, Relay[]>()
  readonly #peers: Pick<Peers, 'send' | 'events'>
  #dropped = 0

  constructor(peers: Pick<Peers, 'send' | 'events'>) {
    this.#peers = peers
    peers.events.on('lost', (peerId, reason) => this.onLost(peerId, reason))
    peers.events.on('silent', peerId => this.onLost(peerId, 'it has fallen silent'))
  }

  /** Sessions that have a stage here for a peer, or begin here. */
  get open(): number {
    return new Set([...this.#served.keys(), ...this.#owners.keys()]).size
  }

  /** Frames that came for sessions which are closed, or were never this peer's; one of several counts for each of them. */
  get droppedFrames(): number {
    return this.#dropped
  }

  /**
   * True where no stage of a session may be opened here: the same peer feeds another stage of it, or a session of this id is another
   * source's or this node's own. All stages of a session on a device end together, and by the word of one source.
   */
  isTaken(sessionId: string, { previous, source }: Pick<ServedSession, 'previous' | 'source'>): boolean {
    const isSame = (served: ServedSession) => served.previous === previous || served.source !== source
    return this.#owners.has(sessionId) || this.#servedOf(sessionId).some(isSame)
  }

  serve(sessionId: string, served: ServedSession): void {
    this.#served.set(sessionId, [...this.#servedOf(sessionId), served])
  }

  addOwner(sessionId: string, owner: SessionOwner): void {
    this.#owners.set(sessionId, owner)
  }

  removeOwner(sessionId: string): void {
    this.#owners.delete(sessionId)
  }

  /** From now on frames of a session that `from` sends go on to `to` as they are. */
  relay(sessionId: string, relay: Relay): void {
    this.#relays.set(sessionId, [...(this.#relays.get(sessionId) ?? []), relay])
  }

  endRelays(sessionId: string): void {
    this.#relays.delete(sessionId)
  }

  async close(sessionId: string): Promise<void> {
    const served = this.#servedOf(sessionId)
    this.#served.delete(sessionId)
    for (const { requestId, source } of served)
      log.of(requestId).debug('session closed', { sessionId, source })
    await Promise.all(served.map(({ stage }) => stage.closeSession(sessionId)))
  }

  /**
   * Hands hidden states to the next stage of their sessions where that is on this device, too: what the wire does between two
   * devices. Their memory may be used again when this returns.
   *
   * @param from the stage that sends, as the next one's `previous` names it
   */
  handOver(from: string, frame: HiddenFrame): void {
    const hidden = this.allocate(from, frame)
    if (hidden === null) return
    hidden.set(frame.hidden)
    // Who waits for them hears of what fails.
    void this.onFrame(from, { ...frame, hidden })
  }

  allocate(peerId: string, header: FrameHeader): Float32Array<SharedArrayBuffer> | null {
    const served = this.#servedTo(peerId, header)
    if (served === undefined && this.#relayTo(peerId, header) !== undefined)
      return allocateHidden(header.tokens, header.hiddenSize).data
    if (served === undefined) {
      const told = this.#ownerOf(header.rows)?.memoryFor(peerId, header)
      if (told) return told.data
      this.#dropped += header.rows.length
      return null
    }
    try {
      return served.stage.memoryFor(header).data
    } catch (error) {
      this.#fail(header, served, error)
      return null
    }
  }

  onFrame(peerId: string, frame: StageFrame): void | Promise<void> {
    if (frame.type === 'hidden') {
      const served = this.#servedTo(peerId, frame)
      const to = served === undefined ? this.#relayTo(peerId, frame) : undefined
      if (to !== undefined) return this.#handOn(to, frame)
      const owner = served === undefined ? this.#ownerOf(frame.rows) : undefined
      if (owner !== undefined) return owner.receive(peerId, frame)
      this.#countDropped(frame, this.#served)
      // It was closed between the frame's first byte and its last.
      if (served === undefined) return
      const { rows, tokens, sample, timings, hidden: data } = frame
      try {
        return served.stage
          .run({ tokens, data }, { rows, tokens, sample, timings })
          .catch(error => this.#fail(frame, served, error))
      } catch (error) {
        return this.#fail(frame, served, error)
      }
    }
    if (frame.type === 'drop') {
      this.#countDropped(frame, this.#served)
      for (const { sessionId, epoch = 0 } of frame.rows) {
        if (this.#servedOf(sessionId)[0]?.source === peerId) this.dropBefore(sessionId, epoch)
      }
      return
    }
    this.#countDropped(frame, this.#owners)
    this.#ownerOf(frame.rows)?.receive(peerId, frame)
  }

  /** What stages here have of earlier epochs of a session is stale, by the word of its source. */
  dropBefore(sessionId: string, epoch: number): void {
    for (const { stage } of this.#servedOf(sessionId)) stage.dropBefore(sessionId, epoch)
  }

  /** A stage of this node, which is the source, has drawn tokens for these sessions. */
  accept(rows: readonly FrameRow[], drawn: readonly SampledToken[], timings: readonly StageTiming[]): void {
    this.#ownerOf(rows)?.accept(rows, drawn, timings)
  }

  /** A stage of this node, which is the source, says what the model made of a session's tokens, before what is drawn behind them. */
  acceptStates([row]: readonly FrameRow[], states: Float32Array): void {
    if (row !== undefined) this.#ownerOf([row])?.acceptStates(row, states)
  }

  /** A stage of this node, which is the source, says what a session's hidden states come to. */
  acceptPooled([row]: readonly FrameRow[], pooled: Float32Array): void {
    if (row !== undefined) this.#ownerOf([row])?.acceptPooled(row, pooled)
  }

  /** A stage of this node cannot go on with the sessions of rows: they end, and their source is told. */
  rowsFailed(rows: readonly FrameRow[], error: Error): void {
    const owner = this.#ownerOf(rows)
    if (owner !== undefined) {
      owner.rowsFailed(rows, error)
      return
    }
    const served = rows.flatMap(({ sessionId }) => this.#servedOf(sessionId))[0]
    if (served !== undefined) this.#fail({ rows }, served, error)
  }

  onLost(peerId: string, reason: string): void {
    for (const owner of new Set(this.#owners.values())) owner.peerLost(peerId, reason)
  }

  #servedOf(sessionId: string): readonly ServedSession[] {
    return this.#served.get(sessionId) ?? []
  }

  /** The source's end of the sessions that share a step: one for all of them; some may be closed already. */
  #ownerOf(rows: readonly FrameRow[]): SessionOwner | undefined {
    for (const { sessionId } of rows) {
      const owner = this.#owners.get(sessionId)
      if (owner !== undefined) return owner
    }
    return undefined
  }

  /** Where a frame of these sessions from this peer goes, if it is not for a stage here; some may be closed already. */
  #relayTo(peerId: string, { rows }: Pick<FrameHeader, 'rows'>): string | undefined {
    const open = rows.flatMap(({ sessionId }) => this.#relays.get(sessionId) ?? [])
    return open.find(({ from }) => from === peerId)?.to
  }

  async #handOn(to: string, frame: StageFrame): Promise<void> {
    try {
      await this.#peers.send(to, frame)
    } catch (error) {
      this.#ownerOf(frame.rows)?.peerLost(to, messageOf(error))
    }
  }

  #countDropped({ rows }: StageFrame, open: ReadonlyMap<string, unknown>): void {
    this.#dropped += rows.filter(({ sessionId }) => !open.has(sessionId)).length
  }

  /** The stage that a frame's sessions are on, if they are this peer's to feed; some may be closed already. */
  #servedTo(peerId: string, { rows }: Pick<FrameHeader, 'rows'>): ServedSession | undefined {
    const open = rows.map(({ sessionId }) => this.#servedOf(sessionId)).filter(each => each.length > 0)
    const fed = open.map(each => each.find(({ previous }) => previous === peerId))
    const [first] = fed
    return fed.every(each => each?.stage === first?.stage) ? first : undefined
  }

  /** Ends sessions that cannot go on here and tells their source why. */
  #fail({ rows }: { rows: readonly FrameRow[] }, served: ServedSession, error: unknown): void {
    const isOn = ({ stage }: ServedSession) => stage === served.stage
    const open = rows.filter(({ sessionId }) => this.#servedOf(sessionId).some(isOn))
    if (open.length === 0) return
    const message = messageOf(error)
    for (const { sessionId } of open) {
      const sessionLog = log.of(this.#servedOf(sessionId)[0]?.requestId)
      sessionLog.warn('a session cannot go on here', { sessionId, code: codeOf(error), error: message })
      const closed = sessionLog.passOver('closing a session failed; its lease frees it', { sessionId })
      void this.close(sessionId).catch(closed)
    }
    const owner = this.#owners.get(open[0]!.sessionId)
    // What this device has sent itself is nobody else's fault.
    const code = served.isFedHere && codeOf(error) === 'input' ? 'stage' : codeOf(error)
    if (owner !== undefined) {
      if (code === 'input') owner.peerLost(served.previous, message)
      else owner.fail(error instanceof Error ? error : new Error(message))
      return
    }
    const frame = { rows: open, tokens: 0, hiddenSize: 0, sample: false, timings: [] }
    const unsaid = log
      .of(served.requestId)
      .passOver('the source was not told; it knows from its lost connection')
    this.#peers.send(served.source, { ...frame, type: 'error', code, message }).catch(unsaid)
  }
}

function codeOf(error: unknown): StageCode {
  if (error instanceof PeerLostError || error instanceof LimitExceededError) return 'next'
  if (error instanceof StageInputError) return 'input'
  return error instanceof NotFiniteError ? 'not-finite' : 'stage'
}

/** The frame that carries hidden states to the next stage. */
export function hiddenFrame({ rows, tokens, sample, timings }: Step, { data }: HiddenStates): HiddenFrame {
  return {
    type: 'hidden',
    rows,
    tokens,
    sample,
    timings,
    hiddenSize: data.length / tokens,
    hidden: data
  }
}

/** The frame that tells the source what the model made of a session's tokens, (tokens, hidden). */
export function statesFrame({ rows, tokens, timings }: Step, states: Float32Array): StageFrame {
  const { sessionId, position, epoch } = rows[0]!
  const row = { sessionId, position, ...(epoch !== undefined && { epoch }) }
  const hidden = allocateHidden(tokens, states.length / tokens)
  hidden.data.set(states)
  return hiddenFrame({ rows: [row], tokens, sample: false, timings }, hidden)
}

/** The frame that tells a stage which epoch of a session counts from now on. */
export function dropFrame(row: FrameRow): StageFrame {
  return { type: 'drop', rows: [row], tokens: 0, sample: false, timings: [], hiddenSize: 0 }
}

/** The frame that carries drawn tokens to the source. */
export function tokenFrame({ rows, tokens, timings }: Step, drawn: SampledToken[]): StageFrame {
  return { type: 'token', rows, tokens, sample: true, timings, hiddenSize: 0, drawn }
}

/** The frame that carries to the source what a session's hidden states come to. */
export function pooledFrame({ rows, tokens, timings }: Step, pooled: Float32Array): StageFrame {
  return { type: 'pooled', rows, tokens, sample: true, timings, hiddenSize: pooled.length, pooled }
}

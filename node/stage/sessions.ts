import { NotFiniteError } from '../../models/runtime/errors.ts'
import type { HiddenStates, SampledToken } from '../../models/runtime/runtime.ts'
import { LimitExceededError, PeerLostError } from '../../protocols/errors.ts'
import type { FrameHeader, FrameRow } from '../../protocols/stage/frame.ts'
import type { StageCode, StageFrame, StageHandlers, StageLinks } from '../../protocols/stage/index.ts'
import { messageOf } from '../../protocols/text.ts'
import { StageInputError } from './errors.ts'
import type { Stage, Step } from './stage.ts'

/** A session on a stage of this node that frames from a peer feed. */
export interface ServedSession {
  stage: Stage
  /** The only peer whose frames count. */
  previous: string
  /** Where the session began, and where errors go. */
  source: string
  /** The request that it belongs to, as its source calls it. */
  requestId?: string | undefined
}

/** The source's end of a session: gets tokens and news of its stages. */
export interface SessionOwner {
  receive(peerId: string, frame: StageFrame): void
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
  readonly #served = new Map<string, ServedSession>()
  readonly #owners = new Map<string, SessionOwner>()
  #links: StageLinks | undefined
  #dropped = 0

  /** The links over which errors go back; set once they exist. */
  attach(links: StageLinks): void {
    this.#links = links
  }

  /** Sessions that have a stage here for a peer, or begin here. */
  get open(): number {
    return new Set([...this.#served.keys(), ...this.#owners.keys()]).size
  }

  /** Frames that came for sessions which are closed, or were never this peer's; one of several counts for each of them. */
  get droppedFrames(): number {
    return this.#dropped
  }

  /** True when a session of this id has a stage here. */
  has(sessionId: string): boolean {
    return this.#served.has(sessionId)
  }

  serve(sessionId: string, served: ServedSession): void {
    this.#served.set(sessionId, served)
  }

  addOwner(sessionId: string, owner: SessionOwner): void {
    this.#owners.set(sessionId, owner)
  }

  removeOwner(sessionId: string): void {
    this.#owners.delete(sessionId)
  }

  async close(sessionId: string): Promise<void> {
    const served = this.#served.get(sessionId)
    this.#served.delete(sessionId)
    await served?.stage.closeSession(sessionId)
  }

  allocate(peerId: string, header: FrameHeader): Float32Array<SharedArrayBuffer> | null {
    const served = this.#servedTo(peerId, header)
    if (served === undefined) {
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
    const owner = frame.rows.map(({ sessionId }) => this.#owners.get(sessionId)).find(Boolean)
    this.#countDropped(frame, this.#owners)
    owner?.receive(peerId, frame)
  }

  /** Ends the sessions of rows that a stage of this node cannot go on with; their source is told. */
  rowsFailed(rows: readonly FrameRow[], error: Error): void {
    const served = rows.flatMap(({ sessionId }) => this.#served.get(sessionId) ?? [])[0]
    if (served !== undefined) this.#fail({ rows }, served, error)
  }

  onLost(peerId: string, reason: string): void {
    for (const owner of new Set(this.#owners.values())) owner.peerLost(peerId, reason)
  }

  #countDropped({ rows }: StageFrame, open: ReadonlyMap<string, unknown>): void {
    this.#dropped += rows.filter(({ sessionId }) => !open.has(sessionId)).length
  }

  /** The stage that a frame's sessions are on, if they are this peer's to feed; some may be closed already. */
  #servedTo(peerId: string, { rows }: Pick<FrameHeader, 'rows'>): ServedSession | undefined {
    const open = rows.flatMap(({ sessionId }) => this.#served.get(sessionId) ?? [])
    const [first] = open
    const same = open.every(({ stage, previous }) => stage === first!.stage && previous === peerId)
    return same ? first : undefined
  }

  /** Ends sessions that cannot go on here and tells their source why. */
  #fail({ rows }: { rows: readonly FrameRow[] }, served: ServedSession, error: unknown): void {
    const open = rows.filter(({ sessionId }) => this.#served.get(sessionId)?.stage === served.stage)
    if (open.length === 0) return
    for (const { sessionId } of open) void this.close(sessionId).catch(() => {})
    const message = messageOf(error)
    const owner = this.#owners.get(open[0]!.sessionId)
    const code = codeOf(error)
    if (owner !== undefined) {
      if (code === 'input') owner.peerLost(served.previous, message)
      else owner.fail(error instanceof Error ? error : new Error(message))
      return
    }
    const frame = { rows: open, tokens: 0, hiddenSize: 0, sample: false, timings: [] }
    // A source that cannot be told has lost its connection to this node, and knows from that.
    this.#links?.send(served.source, { ...frame, type: 'error', code, message }).catch(() => {})
  }
}

function codeOf(error: unknown): StageCode {
  if (error instanceof PeerLostError || error instanceof LimitExceededError) return 'next'
  if (error instanceof StageInputError) return 'input'
  return error instanceof NotFiniteError ? 'not-finite' : 'stage'
}

/** The frame that carries hidden states to the next stage. */
export function hiddenFrame({ rows, tokens, sample, timings }: Step, { data }: HiddenStates): StageFrame {
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

/** The frame that carries drawn tokens to the source. */
export function tokenFrame({ rows, tokens, timings }: Step, drawn: SampledToken[]): StageFrame {
  return { type: 'token', rows, tokens, sample: true, timings, hiddenSize: 0, drawn }
}

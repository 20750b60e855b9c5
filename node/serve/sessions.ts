import type { SampledToken } from '../../models/runtime.ts'
import type { FrameHeader } from '../../protocols/frame.ts'
import type { StageFrame, StageHandlers, StageLinks } from '../../protocols/stage/index.ts'
import { messageOf } from '../../protocols/text.ts'
import type { Stage, Step } from './stage.ts'

/** A stage on this node that frames from a peer feed. */
export interface ServedStage {
  stage: Stage
  /** The only peer whose frames count. */
  previous: string
  /** Where the session began, and where errors go. */
  source: string
}

/** The source's end of a session: gets tokens and news of its stages. */
export interface SessionOwner {
  receive(peerId: string, frame: StageFrame): void
  peerLost(peerId: string, reason: string): void
}

/**
 * Which session a frame is about: the table between the wire and the stages. A node is a stage of some sessions and
 * the source of others, and of its own sessions it may also hold the tail.
 */
export class Sessions implements StageHandlers {
  readonly #stages = new Map<string, ServedStage>()
  readonly #owners = new Map<string, SessionOwner>()
  #links: StageLinks | undefined

  /** The links over which errors go back; set once they exist. */
  attach(links: StageLinks): void {
    this.#links = links
  }

  /** True when a session of this id has a stage here. */
  has(sessionId: string): boolean {
    return this.#stages.has(sessionId)
  }

  addStage(sessionId: string, served: ServedStage): void {
    this.#stages.set(sessionId, served)
  }

  addOwner(sessionId: string, owner: SessionOwner): void {
    this.#owners.set(sessionId, owner)
  }

  removeOwner(sessionId: string): void {
    this.#owners.delete(sessionId)
  }

  async closeStage(sessionId: string): Promise<void> {
    const served = this.#stages.get(sessionId)
    this.#stages.delete(sessionId)
    await served?.stage.close()
  }

  allocate(peerId: string, header: FrameHeader): Float32Array<SharedArrayBuffer> | null {
    const served = this.#stages.get(header.sessionId)
    if (served === undefined || served.previous !== peerId) return null
    try {
      return served.stage.memoryFor(header).data
    } catch (error) {
      this.#fail(header.sessionId, served, error)
      return null
    }
  }

  onFrame(peerId: string, frame: StageFrame): void | Promise<void> {
    const served = this.#stages.get(frame.sessionId)
    if (frame.type === 'hidden') {
      if (served === undefined || served.previous !== peerId) return
      const { position, tokens, sample, computeMs } = frame
      const data = frame.hidden
      return served.stage
        .run({ tokens, data }, { position, tokens, sample, computeMs })
        .catch(error => this.#fail(frame.sessionId, served, error))
    }
    if (frame.type === 'error' && served?.previous === peerId) {
      this.#fail(frame.sessionId, served, new Error(frame.message))
    }
    if (frame.type === 'cancel' && (served?.previous === peerId || served?.source === peerId)) {
      return this.closeStage(frame.sessionId)
    }
    this.#owners.get(frame.sessionId)?.receive(peerId, frame)
  }

  onLost(peerId: string, reason: string): void {
    for (const owner of this.#owners.values()) owner.peerLost(peerId, reason)
  }

  /** Ends a session that cannot go on here and tells its source why. */
  #fail(sessionId: string, served: ServedStage, error: unknown): void {
    if (this.#stages.get(sessionId) !== served) return
    void this.closeStage(sessionId).catch(() => {})
    const message = messageOf(error)
    const frame = { sessionId, position: 0, tokens: 0, hiddenSize: 0, sample: false, computeMs: 0 }
    // A source that cannot be told has lost its connection to this node, and knows from that.
    this.#links?.send(served.source, { ...frame, type: 'error', code: 'stage', message }).catch(() => {})
  }
}

/** The frame that carries hidden states to the next stage. */
export function hiddenFrame(
  sessionId: string,
  { position, tokens, sample, computeMs }: Step,
  hidden: Float32Array<SharedArrayBuffer>
): StageFrame {
  return {
    type: 'hidden',
    sessionId,
    position,
    tokens,
    sample,
    computeMs,
    hiddenSize: hidden.length / tokens,
    hidden
  }
}

/** The frame that carries a drawn token to the source. */
export function tokenFrame(
  sessionId: string,
  { position, tokens, computeMs }: Step,
  token: SampledToken
): StageFrame {
  return { type: 'token', sessionId, position, tokens, sample: true, computeMs, hiddenSize: 0, token }
}

import { NotFiniteError } from '../../../models/runtime/errors.ts'
import { DeadlineError } from '../../../protocols/errors.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'
import type { PlannedStage } from '../../api.ts'
import { StageLostError } from '../../errors.ts'
import type { Peers } from '../../mesh/peers.ts'

/** A stage that cannot compute so many sessions one after the other, and draws no token between, is broken itself. */
const MAX_ROW_FAILURES = 3

/** What cannot go on: some sessions alone, or all of them, as a stage is lost. */
export interface Verdict {
  of: 'sessions' | 'stage'
  error: Error
}

/** Says of what goes wrong in a pipeline which of its stages on other peers is to blame, if one is. */
export class Blame {
  readonly #remote: readonly PlannedStage[]
  readonly #peers: Pick<Peers, 'suspects'>
  /** Stages that said of sessions that they cannot be computed, and how often since the last token. */
  readonly #rowFailures = new Map<string, number>()

  /** @param remote the stages on other peers, in order */
  constructor(remote: readonly PlannedStage[], peers: Pick<Peers, 'suspects'>) {
    this.#remote = remote
    this.#peers = peers
  }

  /** The first stage whose peer has not been heard of for a while, as a loss. */
  silent(reason: string): StageLostError | undefined {
    const suspects = this.#peers.suspects()
    const stage = this.#remote.find(({ peerId }) => suspects.has(peerId))
    return stage && lost(stage, reason)
  }

  /** The peer's stage as a loss, where it has one. */
  peer(peerId: string, reason: string): StageLostError | undefined {
    const stage = this.#remote.find(stage => stage.peerId === peerId)
    return stage && lost(stage, reason)
  }

  /** A step could not be sent to the first peer in line. */
  unsent(reason: string): StageLostError | undefined {
    const [next] = this.#remote
    return next && lost(next, reason)
  }

  /** The last peer in line, for a token that was not asked for: it drew it, or passed on the step that a tail here did. */
  unasked(reason: string): Error {
    const stage = this.#remote.at(-1)
    return stage === undefined ? new Error(reason) : lost(stage, reason)
  }

  /** A token was drawn: what failed before was the sessions' own. */
  drawn(): void {
    this.#rowFailures.clear()
  }

  /** The last stage, on this device itself, cannot go on with some sessions: what it computes with came from the one before it. */
  tail(error: Error): Error {
    const before = this.#remote.at(-1)
    if (before === undefined || !(error instanceof NotFiniteError)) return error
    return new NotFiniteError(`the stage of this device behind ${describe(before)}: ${error.message}`)
  }

  /** A stage said that it cannot go on with some sessions. */
  refused(peerId: string, { code, message }: StageFrame & { type: 'error' }): Verdict {
    // A device may have several stages: the last one hands on to another device, and the first one gets what another one sent.
    const isOf = (stage: PlannedStage) => stage.peerId === peerId
    const at = code === 'next' ? this.#remote.findLastIndex(isOf) : this.#remote.findIndex(isOf)
    const stage = this.#remote[at]!
    // What the first one got is of this device's own making.
    const ownInput = code === 'input' && at === 0
    if (code === 'not-finite' || ownInput) {
      const times = (this.#rowFailures.get(peerId) ?? 0) + 1
      this.#rowFailures.set(peerId, times)
      // Once it is the session's own; again and again, without a token between, it is the device.
      if (times >= MAX_ROW_FAILURES) return { of: 'stage', error: lost(stage, message) }
      const error = ownInput
        ? new Error(`${describe(stage)} cannot use what this node sent: ${message}`)
        : new NotFiniteError(`${describe(stage)}: ${message}`)
      return { of: 'sessions', error }
    }
    if (code === 'next') return { of: 'stage', error: this.#unreached(at, message) }
    // One that was sent rubbish is not the one that is broken.
    const to = code === 'input' ? at - 1 : at
    return { of: 'stage', error: lost(this.#remote[to] ?? stage, message) }
  }

  /** A stage cannot reach the next one: where that one is not gone, it is the link between the two. */
  #unreached(at: number, reason: string): StageLostError {
    const stage = this.#remote[at]!
    const next = this.#remote[at + 1]
    if (next === undefined || stage.via !== undefined) return lost(stage, reason)
    if (this.#peers.suspects().has(next.peerId)) return lost(next, reason)
    const message = `stage lost: ${describe(stage)} and ${describe(next)} cannot reach each other: ${reason}`
    return new StageLostError(message, next.peerId, { apart: [stage.peerId, next.peerId] })
  }

  /**
   * Other peers did not do their part in time: the first stage whose peer is silent altogether, else the first one that does not even end
   * the session (its worker hangs, though its network does not), else all of them. Where it can be no other one, the loss has a
   * {DeadlineError} as its cause.
   *
   * @param unconfirmed ends the session on the peers; resolves to the ids of those that do not confirm it
   */
  async late(reason: string, unconfirmed: () => Promise<ReadonlySet<string>>): Promise<Error> {
    const silent = this.silent(`no sign of life, ${reason}`)
    if (silent !== undefined) return silent
    const hanging = await unconfirmed()
    const [stage, ...others] = this.#remote.filter(({ peerId }) => hanging.has(peerId))
    if (stage !== undefined) {
      const hangs = `${reason}, and it does not end the session`
      return lost(stage, hangs, others.length === 0 ? new DeadlineError(hangs) : undefined)
    }
    const last = this.#remote.at(-1)!
    if (this.#remote.length === 1) return lost(last, reason, new DeadlineError(reason))
    return lost(last, `${reason}; waited for ${this.#remote.map(describe).join(', ')}`)
  }
}

function lost(stage: PlannedStage, reason: string, cause?: Error): StageLostError {
  return new StageLostError(`stage lost: ${describe(stage)}: ${reason}`, stage.peerId, { cause })
}

function describe({ name, peerId, processor, layers }: PlannedStage): string {
  const on = processor === undefined ? '' : ` on its ${processor.toUpperCase()}`
  return `${name} (${peerId})${on} with layers [${layers[0]}, ${layers[1]})`
}

import type { Pooling } from '../../../models/runtime/pooling.ts'
import type { Sampling } from '../../../models/runtime/sampler.ts'
import type { PlannedStage } from '../../api.ts'
import type { StoredPrefix } from '../../stage/prefix-cache.ts'
import type { OpenedSession, Stage } from '../../stage/stage.ts'

/** A session as it is opened on every stage. */
export interface SlotSession {
  sessionId: string
  slot: number
  /** The slot's first tokens, whose KV cache the stages from `intactFrom` on have kept; those before have to compute it. */
  keepTokens: number
  intactFrom: number
  /** The slot that they are copied from, whose session may be open; absent: they are there. */
  copyFrom?: number | undefined
  /** The number under which the stages have stored them; absent: they are in a slot. */
  restore?: number | undefined
  /** What the stages store of the slot before it is taken. */
  store?: StoredPrefix | undefined
  /** Its first tokens, which stages compute when nobody else has anything to compute. */
  catchUpTokens?: number | undefined
  sampling: Sampling
  pooling?: Pooling | undefined
  exact: boolean
  /** The last stage tells what the model makes of its tokens. */
  states?: boolean | undefined
  requestId?: string | undefined
}

/** The stages of a deployment, as the pipeline uses them. */
export interface PipelineStages {
  /** The source's own first stage: it embeds prompts and computes the first layers. */
  readonly first: Pick<Stage, 'run' | 'timingOf' | 'dropBefore'>
  /** The stages on other peers, in order. */
  readonly remote: readonly PlannedStage[]
  /**
   * Opens a session on every stage.
   *
   * @returns what is true of it on all of them
   * @throws {StageLostError} naming the peer that cannot; {RefusedError} where this device has not kept what is to be restored
   */
  open(session: SlotSession, options: { signal: AbortSignal }): Promise<OpenedSession>
  /** Frees a session everywhere; does not wait for peers that are `unreachable`. */
  close(sessionId: string, unreachable: ReadonlySet<string>): Promise<void>
  /** Ends a session on the peers; resolves to the ids of those that do not confirm it in time. */
  unconfirmed(sessionId: string, unreachable: ReadonlySet<string>): Promise<Set<string>>
}

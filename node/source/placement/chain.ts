import { logger } from '../../../models/log.ts'
import type { PlannedStage } from '../../api.ts'
import type { Sessions } from '../../stage/sessions.ts'
import type { OpenedSession, Stage } from '../../stage/stage.ts'
import type { PipelineStages, SlotSession } from '../pipeline/pipeline-stages.ts'
import { type HeldStage, type Neighbours, OwnStage } from './held-stage.ts'
import { stageAddress } from './places.ts'

const log = logger('edgeshard:source')

/**
 * The stages of one deployment, from the source's own first one to the last: all of them reached alike, wherever they
 * are. Without a stage of its own the source would have nowhere to put its prompt, so the first one always is its own.
 */
export class Chain implements PipelineStages {
  readonly first: Stage
  readonly #peerId: string
  readonly #stages: HeldStage[]
  readonly #relays: Pick<Sessions, 'relay' | 'endRelays'>
  #planned: readonly PlannedStage[] = []
  #remote: readonly PlannedStage[] = []
  /** What the requests of open sessions are called. */
  readonly #requestIds = new Map<string, string | undefined>()

  /** @param stages in order; the first is this node's own */
  constructor(peerId: string, stages: readonly HeldStage[], relays: Pick<Sessions, 'relay' | 'endRelays'>) {
    const [first] = stages
    if (!(first instanceof OwnStage)) throw new Error('the first stage of a plan is not on the source')
    this.#peerId = peerId
    this.#relays = relays
    this.first = first.stage
    this.#stages = [...stages]
    this.#note()
  }

  get planned(): readonly PlannedStage[] {
    return this.#planned
  }

  get remote(): readonly PlannedStage[] {
    return this.#remote
  }

  get length(): number {
    return this.#stages.length
  }

  has(stage: HeldStage): boolean {
    return this.#stages.includes(stage)
  }

  /** True when one of its stages on this device is held by that lease. */
  holds(leaseId: string): boolean {
    return this.#stages.some(stage => stage.holds(leaseId))
  }

  async open(
    { keepTokens, intactFrom, sampling, states, ...session }: SlotSession,
    { signal }: { signal: AbortSignal }
  ): Promise<OpenedSession> {
    this.#requestIds.set(session.sessionId, session.requestId)
    this.#planned.forEach(({ peerId: from, via }, at) => {
      const to = this.#planned[at + 1]?.peerId
      if (via !== undefined && to !== undefined) this.#relays.relay(session.sessionId, { from, to })
    })
    const opened = await Promise.all(
      this.#stages.map((stage, at) => {
        // The last stage that has to compute anew what is kept hands nothing of it on.
        const kept = {
          keepTokens: at < intactFrom ? 0 : keepTokens,
          withholdTokens: at === intactFrom - 1 ? keepTokens : 0
        }
        // Tokens of the reply, and what a client wants of them, are for the stage that draws them.
        const draws = at === this.#stages.length - 1
        const drawing = draws && { sampling, ...(states && { states }) }
        return stage.open({ ...session, ...kept, ...drawing }, { signal })
      })
    )
    const stored = opened.every(each => each.stored !== undefined)
      ? opened.every(each => each.stored)
      : undefined
    return { exact: opened.every(each => each.exact), stored }
  }

  async close(sessionId: string, unreachable: ReadonlySet<string>): Promise<void> {
    this.#relays.endRelays(sessionId)
    await this.#closeOn(this.#stages, sessionId, unreachable)
    this.#requestIds.delete(sessionId)
  }

  async unconfirmed(sessionId: string, unreachable: ReadonlySet<string>): Promise<Set<string>> {
    const peers = this.#stages.filter(({ planned }) => planned.peerId !== this.#peerId)
    return await this.#closeOn(peers, sessionId, unreachable)
  }

  /** Another device takes the place of stage `at`; its neighbours are told. The lost one's lease is over. */
  async substitute(at: number, stage: HeldStage): Promise<void> {
    const lost = this.#stages[at]!
    this.#stages[at] = stage
    this.#note()
    await lost.release({ reachable: false })
    await Promise.all(
      [at - 1, at + 1].map(beside => this.#stages[beside]?.relink(neighboursOf(this.#planned, beside)))
    )
  }

  /** Prolongs every lease. @returns true when others wait for the memory of one of the devices */
  async renew(): Promise<boolean> {
    const wanted = await Promise.all(this.#stages.map(stage => stage.renew()))
    return wanted.includes(true)
  }

  /** Gives every lease back. */
  async release(unreachable: ReadonlySet<string> = new Set()): Promise<void> {
    await Promise.allSettled(
      this.#stages.map(stage => stage.release({ reachable: !unreachable.has(stage.planned.peerId) }))
    )
  }

  /** Notes where the stages are: every frame asks, and only repairs change it. */
  #note(): void {
    this.#planned = this.#stages.map(({ planned }) => planned)
    this.#remote = this.#planned.filter(({ peerId }) => peerId !== this.#peerId)
  }

  /** Tells all, waits for those that can answer; resolves to the ids of those that did not confirm it in time. */
  async #closeOn(
    stages: readonly HeldStage[],
    sessionId: string,
    unreachable: ReadonlySet<string>
  ): Promise<Set<string>> {
    const unconfirmed = new Set<string>()
    const requestLog = log.of(this.#requestIds.get(sessionId))
    await Promise.all(
      stages.map(async stage => {
        const { peerId } = stage.planned
        const closing = stage.close(sessionId).catch(error => {
          const message = 'a peer did not confirm the end of a session; its lease ends it'
          requestLog.passOver(message, { peerId, sessionId })(error)
          unconfirmed.add(peerId)
        })
        if (!unreachable.has(peerId)) await closing
      })
    )
    return unconfirmed
  }
}

/**
 * What comes out of the last stage goes back to the source's first one; between two that cannot reach each other the
 * source is the neighbour of both. Two stages of one device are neighbours as those of two are.
 */
export function neighboursOf(stages: readonly PlannedStage[], at: number): Neighbours {
  const before = stages.at(at - 1)!
  const next = (stages[at + 1] ?? stages[0]!).peerId
  const source = stages[0]!.peerId
  const isFedHere = at > 0 && stages[at]?.peerId === source && before.peerId === source
  const previous = isFedHere ? stageAddress(before) : before.peerId
  return { previous: before.via ?? previous, next: stages[at]?.via ?? next }
}

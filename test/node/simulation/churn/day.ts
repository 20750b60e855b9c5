import { vi } from 'vitest'
import { prng } from '../../../fixtures/prng.ts'
import { drawAnswer, meshOf } from '../../source/simulated-answer.ts'
import { pass, played, sleep } from '../clock.ts'
import { leftovers } from './calm.ts'
import { drawEvent, type EventKind, waitOf } from './events.ts'
import { ChurnMesh, MODELS } from './mesh.ts'
import { ChurnRequests } from './requests.ts'

export interface DayOptions {
  seed: number
  /** Simulated time. */
  hours: number
  /** Simulated ms between two events, and between two prompts of one client, on average. */
  eventMs?: number
  requestMs?: number
  /** How often everything comes to rest, to be looked at. */
  calmEveryMs?: number
}

export interface DayResult {
  events: Partial<Record<EventKind, number>>
  answers: { equal: number; left: number; named: Record<string, number> }
  recoveries: number
  moves: number
  /** Everything that was not as it must be, with what had happened before. */
  problems: string[]
}

const CLIENTS = 3
/** An answer that is not over after so long never will be. */
const STUCK_MS = 30 * 60_000
/** Leases that nobody renews are over by then, and deployments that no session came to. */
const CALM_MS = 120_000
/** Errors with which an answer may end where devices are lost, or have no room: each names them. */
const REASONS = new Set([
  'StageLostError',
  'OwnStageNotLoadedError',
  'PlanRefusedError',
  'BusyError',
  'OfferRefusedError',
  'NotFiniteError'
])
const TOLD_BEFORE_MS = 60_000

/** Plays a day of a mesh to which things happen, on a stopped clock: the same seed, the same day. */
export class ChurnDay {
  readonly #options: Required<DayOptions>
  readonly #churn = new ChurnMesh(byMs => vi.setSystemTime(Date.now() + byMs))
  readonly #requests = new ChurnRequests(MODELS)
  readonly #twin = meshOf(['twin'], 12, ...MODELS)
    .get('twin')
    .source().deployments
  readonly #told: { atMs: number; line: string }[] = []
  readonly #result: DayResult = {
    events: {},
    answers: { equal: 0, left: 0, named: {} },
    recoveries: 0,
    moves: 0,
    problems: []
  }

  constructor(options: DayOptions) {
    this.#options = { eventMs: 4000, requestMs: 3000, calmEveryMs: 10 * 60_000, ...options }
  }

  async play(): Promise<DayResult> {
    const { hours, seed, calmEveryMs } = this.#options
    const endMs = performance.now() + hours * 3_600_000
    const events = prng(seed)
    const clients = Array.from({ length: CLIENTS }, (_, i) => prng(1000 * seed + i))
    while (performance.now() < endMs && this.#result.problems.length === 0) {
      const untilMs = Math.min(endMs, performance.now() + calmEveryMs)
      const all = [
        this.#happen(events, untilMs),
        ...clients.map((random, i) => this.#ask(random, i, untilMs))
      ]
      await played(Promise.all(all), calmEveryMs + STUCK_MS).catch(error => this.#problem(String(error)))
      await this.#calm()
    }
    await played(Promise.all(this.#churn.sources.map(({ deployments }) => deployments.close())))
    await played(this.#twin.close())
    await pass(1000)
    for (const left of [...this.#churn.mesh.nodes.values()].filter(({ empty }) => !empty))
      this.#problem(`something is left on ${left.id} after all sources have closed`)
    return this.#result
  }

  async #happen(random: () => number, untilMs: number): Promise<void> {
    for (;;) {
      const event = drawEvent(random, this.#options.eventMs)
      if (performance.now() + event.afterMs > untilMs) break
      await sleep(event.afterMs)
      const done = this.#churn.happen(event)
      if (done === undefined) continue
      this.#result.events[event.kind] = (this.#result.events[event.kind] ?? 0) + 1
      this.#tell(done)
    }
  }

  async #ask(random: () => number, client: number, untilMs: number): Promise<void> {
    for (;;) {
      const afterMs = waitOf(random, this.#options.requestMs)
      if (performance.now() + afterMs > untilMs) return
      await sleep(afterMs)
      await this.#answer(random, `${client}`)
    }
  }

  async #answer(random: () => number, client: string): Promise<void> {
    const { needs, leavesAfterTokens, answered } = this.#requests.draw(random)
    const source = this.#churn.sources[random() < 0.6 ? 0 : 1]!
    const asked = `client ${client} asks ${source.id} for ${needs.newTokens} tokens of ${needs.model.name}, ${needs.objective}`
    const beganMs = performance.now()
    const twin = await drawAnswer(this.#twin, { ...needs, standby: false, scope: `${client} twin` })
    this.#tell(asked)
    const gone = new AbortController()
    const stuck = setTimeout(() => gone.abort(new StuckError()), STUCK_MS)
    let begun = 0
    try {
      const { tokens, stream } = await drawAnswer(source.deployments, needs, {
        signal: gone.signal,
        onToken: ({ length }) => {
          begun = length
          if (length === leavesAfterTokens) gone.abort(new LeftError())
        }
      })
      this.#result.recoveries += stream.recoveries
      this.#result.moves += stream.moves.length
      const { problem, kind } = judge(tokens, twin.tokens, needs.mostTokens !== undefined)
      if (problem !== undefined) return this.#problem(`${asked}: ${problem}`, beganMs)
      this.#result.answers[kind]++
      answered(tokens)
      this.#tell(`client ${client} has its ${tokens.length} tokens`)
    } catch (error) {
      const { name, message } = error as Error
      if (error instanceof LeftError) this.#result.answers.left++
      else if (error instanceof StuckError || !REASONS.has(name) || !this.#namesSomething(message))
        this.#problem(`${asked}, after ${begun} tokens: ${(error as Error).stack}`, beganMs)
      else {
        this.#result.answers.named[name] = (this.#result.answers.named[name] ?? 0) + 1
        this.#tell(`client ${client} is told after ${begun} tokens: ${name}: ${message}`)
      }
    } finally {
      clearTimeout(stuck)
    }
  }

  /** Nothing happens and nobody asks: what is left then is left over. */
  async #calm(): Promise<void> {
    this.#churn.heal()
    this.#tell('everything is well again')
    await pass(CALM_MS)
    for (const problem of leftovers(this.#churn)) this.#problem(problem)
  }

  #namesSomething(message: string): boolean {
    return /bytes|memory|MiB|wait/.test(message) || /\b(p\d+|[ab])\b/.test(message)
  }

  #tell(line: string): void {
    this.#told.push({ atMs: performance.now(), line })
    if (this.#told.length > 2000) this.#told.splice(0, 1000)
  }

  #problem(problem: string, sinceMs = performance.now()): void {
    const lines = this.#told
      .filter(({ atMs }) => atMs >= sinceMs - TOLD_BEFORE_MS)
      .map(({ atMs, line }) => `  ${(atMs / 1000).toFixed(3)} s: ${line}`)
    const atS = (performance.now() / 1000).toFixed(3)
    this.#result.problems.push(
      `seed ${this.#options.seed}, at ${atS} s: ${problem}\nbefore:\n${lines.join('\n')}`
    )
  }
}

/** A client goes away in the middle of its answer. */
class LeftError extends Error {}
/** It would have waited for ever. */
class StuckError extends Error {
  constructor() {
    super(`nothing came for ${STUCK_MS / 60_000} simulated minutes`)
  }
}

/** An answer without a limit may end before its twin where nobody has the memory for more. */
function judge(
  tokens: readonly number[],
  twin: readonly number[],
  mayEndSooner: boolean
): { problem?: string; kind: 'equal' } {
  const upTo = mayEndSooner ? tokens.length : twin.length
  const at = twin.slice(0, upTo).findIndex((id, i) => id !== tokens[i])
  if (at === -1 && tokens.length <= twin.length) return { kind: 'equal' }
  return {
    problem: `token ${at} is ${tokens[at]}, not ${twin[at]}, of ${tokens.length} and ${twin.length}`,
    kind: 'equal'
  }
}

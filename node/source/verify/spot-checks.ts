import { randomInt } from 'node:crypto'
import { logger } from '../../../models/log.ts'
import { hasState } from '../../../models/recurrence.ts'
import type { PlannedStage } from '../../api.ts'
import {
  SPOT_CHECK_GIVE_UP_MS,
  SPOT_CHECK_MAX_TEMPERATURE,
  SPOT_CHECK_MAX_TOKENS,
  SPOT_CHECK_PATIENCE_MS,
  SPOT_CHECK_PAUSE_MS,
  SPOT_CHECK_TOKENS,
  SPOT_CHECK_UNSURE_TOKENS,
  SPOT_CHECK_WRONG_TOKENS
} from '../../constants.ts'
import type { StageRoom } from '../../stage/room.ts'
import type { Weights } from '../../weights/weights.ts'
import type { Distrust } from '../placement/distrust.ts'
import { BusyHereError, type DrawnTokens, drawAgain, type Feeding } from './replay.ts'

const log = logger('edgeshard:source')

export interface SpotChecksComponents {
  peerId: string
  room: StageRoom
  weights: Pick<Weights, 'missing'>
  distrust: Pick<Distrust, 'wrong'>
}

export interface SpotChecksInit {
  /** One answer of so many that peers helped to compute is checked, at random; 0: none. */
  every: number
  /** Milliseconds from any fixed moment. */
  now: () => number
}

export interface FinishedAnswer extends DrawnTokens {
  modelName: string
  /** All that computed it, this node among them. */
  stages: readonly PlannedStage[]
}

interface Check {
  answer: FinishedAnswer
  /** Index of the first token that is drawn again. */
  from: number
  sinceMs: number
}

/**
 * Looks after some answers whether their tokens are those that the model draws: SPOT_CHECK_TOKENS of them in a row are
 * drawn again on this device, from the answer's own tokens before them and with its seed. Only where all of the model's
 * files are here. A check gives way to what else is done here for SPOT_CHECK_PATIENCE_MS, and then to nothing but who wants its
 * memory: neither a source that is always asked nor a member that keeps a session open here puts it off any longer.
 *
 * Devices of other kinds round otherwise, and so do steps that several answers shared: a token differs where two nearly
 * tie. How often they do in this text is measured: tokens that differ are drawn once more with other groups of rows, which
 * moves the sums as much. Only where that changes next to nothing, and two thirds of the tokens differ, is an answer called
 * wrong: were a quarter of them to differ by rounding, that would be one check in 50,000.
 */
export class SpotChecks {
  readonly #components: SpotChecksComponents
  readonly #init: SpotChecksInit
  readonly #stopping = new AbortController()
  /** Waits, or runs; no other one is begun meanwhile: checks are samples, not a duty. */
  #check: Check | undefined
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined

  constructor(components: SpotChecksComponents, init: SpotChecksInit) {
    this.#components = components
    this.#init = init
  }

  /** An answer has ended well. */
  answered(answer: FinishedAnswer): void {
    const { every, now } = this.#init
    const { prompt, tokens, stages, sampling, manifest } = answer
    const latest = Math.min(tokens.length, SPOT_CHECK_MAX_TOKENS - prompt.length) - SPOT_CHECK_TOKENS
    const steady = sampling.temperature <= SPOT_CHECK_MAX_TEMPERATURE
    if (every === 0 || latest < 0 || !steady || this.#peersOf(stages).length === 0) return
    // How much hangs on rounding is measured by steps that overlap, which states do not allow.
    if (hasState(manifest.shape)) return
    if (randomInt(every) > 0 || this.#check !== undefined || this.#stopping.signal.aborted) return
    this.#check = { answer, from: randomInt(latest + 1), sinceMs: now() }
    this.#later(this.#check)
  }

  async stop(): Promise<void> {
    this.#stopping.abort(new Error('the node stops'))
    clearTimeout(this.#timer)
    await this.#running
  }

  #later(check: Check): void {
    if (this.#stopping.signal.aborted) return
    this.#timer = setTimeout(() => {
      this.#running = this.#try(check)
    }, SPOT_CHECK_PAUSE_MS).unref()
  }

  async #try(check: Check): Promise<void> {
    try {
      await this.#run(check)
    } catch (error) {
      const late = this.#init.now() - check.sinceMs > SPOT_CHECK_GIVE_UP_MS
      if (error instanceof BusyHereError && !late) return this.#later(check)
      log.passOver('an answer was not checked; another one will be')(error)
    }
    this.#check = undefined
  }

  async #run({ answer, from, sinceMs }: Check): Promise<void> {
    const { room, weights, peerId } = this.#components
    const { signal } = this.#stopping
    const { manifest, tokens } = answer
    const givesWay = () => room.sessions.open > 0 && this.#init.now() - sinceMs < SPOT_CHECK_PATIENCE_MS
    if (givesWay()) throw new BusyHereError('an answer runs here')
    const missing = await weights.missing(manifest, [0, manifest.layers.length], { signal })
    // Nobody sends a whole model for a check.
    if (missing.length > 0) return
    const until = from + SPOT_CHECK_TOKENS
    const beginning = { ...answer, tokens: tokens.slice(0, until) }
    const draw = async (feeding: Feeding) => {
      const drawn = await drawAgain(room, peerId, beginning, { from, feeding, givesWay, signal })
      return drawn.map(({ id }) => id)
    }
    const drawn = await draw('as-drawn')
    const differ = differing(drawn, tokens.slice(from, until))
    log.debug('an answer was checked', { model: answer.modelName, tokens: drawn.length, differ })
    if (differ < SPOT_CHECK_WRONG_TOKENS) return
    const unsure = differing(drawn, await draw('grouped'))
    log.debug('an answer is wrong, unless too much hangs on rounding', { differ, unsure })
    if (unsure <= SPOT_CHECK_UNSURE_TOKENS) this.#accuse(answer, differ)
  }

  #accuse({ modelName, stages }: FinishedAnswer, differ: number): void {
    const peers = this.#peersOf(stages)
    const names = peers.map(({ name, peerId }) => `${name} (${peerId})`).join(', ')
    const what = `an answer of ${modelName} is not what the model draws: ${differ} of ${SPOT_CHECK_TOKENS} tokens that were checked are others`
    const reason = `${what}. ${peers.length === 1 ? 'It was computed by' : 'One of these computed something else:'} ${names}`
    this.#components.distrust.wrong(
      peers.map(({ peerId }) => peerId),
      reason
    )
  }

  #peersOf(stages: readonly PlannedStage[]): PlannedStage[] {
    const peers = stages.filter(({ peerId }) => peerId !== this.#components.peerId)
    return [...new Map(peers.map(stage => [stage.peerId, stage])).values()]
  }
}

function differing(a: readonly number[], b: readonly number[]): number {
  return a.filter((id, i) => id !== b[i]).length
}

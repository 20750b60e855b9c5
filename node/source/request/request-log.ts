import { type Log, type LogFields, originOf } from '../../../models/log.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { AnswerObserver } from '../../answers.ts'
import type { GenerateEvent, GenerateResult, PlannedStage } from '../../api.ts'
import { errorCodeOf } from '../../error-codes.ts'
import { placeName } from '../../place-name.ts'

/** Errors whose messages may quote the prompt: a template refuses a conversation in words of its own. */
const QUOTING: ReadonlySet<string> = new Set(['internal_error', 'chat_template', 'tokenizer_unusable'])

/** What the log of a node says of one request while it runs, and at its end where there is no result to speak of. */
export class RequestLog implements AnswerObserver {
  readonly #log: Log
  readonly #startMs = performance.now()
  #answered = false

  /** @param log of the request */
  constructor(log: Log) {
    this.#log = log
  }

  onEvent(event: GenerateEvent): void {
    if (event.type === 'plan') this.#log.debug('placed', () => ({ devices: devicesOf(event.plan.stages) }))
    if (event.type === 'recovery') {
      this.#log.warn('a stage is lost', {
        peerId: event.peerId,
        error: event.reason
      })
    }
    if (event.type === 'recovered') this.#log.info('recovered', { peerId: event.peerId, ...event.spent })
    if (event.type === 'moved') {
      const { reason, to, tokens, predicted, spent } = event.move
      this.#log.info('moved', () => ({ reason, to: devicesOf(to), tokens, ...predicted, ...spent }))
    }
    if (event.type === 'done') this.#answered = true
  }

  onEnd(outcome: string, error?: unknown): void {
    if (this.#answered) return
    const ms = performance.now() - this.#startMs
    if (outcome === 'cancelled') this.#log.info('request cancelled', { ms })
    else this.#log.warn('request failed', () => ({ ms, ...faultOf(error) }))
  }
}

/** The one line of a request that was answered: how long everything took, nothing of what was said. */
export function answeredFields(model: string, result: GenerateResult): LogFields {
  const {
    tokens,
    promptTokens,
    cachedTokens,
    ttftMs,
    tpotMs,
    recoveries,
    finishReason,
    error,
    plan,
    guesses,
    otherClass
  } = result
  return {
    model,
    promptTokens,
    cachedTokens,
    tokens: tokens.length,
    ttftMs,
    tpotMs,
    devices: devicesOf(plan.stages),
    recoveries,
    ...(otherClass === true && { otherClass }),
    ...(guesses !== undefined && {
      guessesSent: guesses.sent,
      guessesHeld: guesses.held,
      guessesDropped: guesses.dropped
    }),
    finishReason,
    ...(error !== undefined && { error })
  }
}

/** `desktop [0, 5) > laptop [5, 10)`. */
export function devicesOf(stages: readonly PlannedStage[]): string {
  return stages
    .map(
      ({ name, processor, layers: [start, end] }) =>
        `${placeName({ id: name, processor })} [${start}, ${end})`
    )
    .join(' > ')
}

/** What may be logged of an error that ended a request. */
export function faultOf(error: unknown): LogFields {
  const code = errorCodeOf(error)
  if (!QUOTING.has(code)) return { code, error: messageOf(error) }
  return { code, name: error instanceof Error ? error.name : typeof error, at: originOf(error) }
}

import type { AnswerObserver } from '../answers.ts'
import type { GenerateEvent } from '../api.ts'
import type { MeshEvent } from '../mesh-events.ts'
import { STEP_INTERVAL_MS } from './constants.ts'

/** Makes events of this node's answers, of steps and progress only some: nobody can look at more. */
export class AnswerWatch {
  readonly #send: (event: MeshEvent) => void
  readonly #now: () => number
  /** Answers that wait for the same placement hear the same of it: that is sent once. */
  readonly #told = new WeakSet<GenerateEvent>()
  #answers = 0
  #lastStepMs = Number.NEGATIVE_INFINITY

  constructor(send: (event: MeshEvent) => void, now: () => number = () => performance.now()) {
    this.#send = send
    this.#now = now
  }

  /** An answer begins. */
  readonly begin = (): AnswerObserver => {
    const answer = this.#answers++
    const progress = new Map<string, number>()
    let tokens = 0
    let result: Extract<GenerateEvent, { type: 'done' }>['result'] | undefined
    return {
      onEvent: event => {
        switch (event.type) {
          case 'progress': {
            if (this.#told.has(event)) break
            this.#told.add(event)
            const { type: _, ...far } = event
            const key = `${far.phase} ${far.peer}`
            const isDue = this.#now() - (progress.get(key) ?? Number.NEGATIVE_INFINITY) >= STEP_INTERVAL_MS
            if (!isDue && far.done < far.total) break
            progress.set(key, this.#now())
            this.#send({ type: 'load', data: { answer, ...far } })
            break
          }
          case 'plan':
            this.#send({
              type: 'answer',
              data: { answer, stages: event.plan.stages, predicted: event.predicted }
            })
            break
          case 'recovery':
            this.#send({ type: 'recovery', data: { answer, peerId: event.peerId, reason: event.reason } })
            break
          case 'recovered':
            this.#send({ type: 'recovery', data: { answer, peerId: event.peerId, spent: event.spent } })
            break
          case 'text':
          case 'reasoning':
            tokens += event.tokens.length
            if (this.#now() - this.#lastStepMs < STEP_INTERVAL_MS) break
            this.#lastStepMs = this.#now()
            this.#send({ type: 'step', data: { answer, tokens } })
            break
          case 'done':
            result = event.result
        }
      },
      onEnd: outcome => {
        const data = { answer, outcome, tokens: result?.tokens.length ?? tokens }
        if (result === undefined) return this.#send({ type: 'answer', data })
        const { ttftMs, tpotMs, plan, predicted, measured, recoveries, stretches, guesses } = result
        const some = {
          ...(stretches !== undefined && { stretches }),
          ...(guesses !== undefined && { guesses })
        }
        const figures = { ttftMs, tpotMs, plan, predicted, measured, recoveries, ...some }
        this.#send({ type: 'answer', data: { ...data, result: figures } })
      }
    }
  }
}

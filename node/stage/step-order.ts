import type { FrameRow } from '../../protocols/stage/frame.ts'
import { StageInputError } from './errors.ts'

/**
 * Which step of a session may come next. Steps of one epoch follow each other. The first one of a later epoch may start
 * before: what was there from its position on is forgotten, and steps of earlier epochs that still wait are stale.
 *
 * A source raises the epoch when an answer shows that a token which it fed as a guess is wrong: all that is before that
 * token has passed every stage by then, so nothing that is dropped is missed.
 */
export class StepOrder {
  #next: number
  /** Of the step that came in last. */
  #epoch = 0
  /** The earliest whose steps are wanted. */
  #wanted = 0

  /** @param next where the first step starts */
  constructor(next: number) {
    this.#next = next
  }

  /** True of a step that nobody waits for any more. */
  isStale({ epoch = 0 }: Pick<FrameRow, 'epoch'>): boolean {
    return epoch < this.#wanted
  }

  /** @throws {StageInputError} where a step that is not stale cannot be the next one */
  check({ position, epoch = 0 }: Pick<FrameRow, 'position' | 'epoch'>): void {
    const fits = epoch === this.#epoch ? position === this.#next : position <= this.#next
    if (fits) return
    throw new StageInputError(`a step starts at token ${position}, the session is at ${this.#next}`)
  }

  /** A step that was checked comes in, with so many tokens. */
  enter({ position, epoch = 0 }: Pick<FrameRow, 'position' | 'epoch'>, tokens: number): void {
    this.#next = position + tokens
    this.#epoch = epoch
    this.dropBefore(epoch)
  }

  /** Steps of earlier epochs are not wanted any more. */
  dropBefore(epoch: number): void {
    this.#wanted = Math.max(this.#wanted, epoch)
  }
}

import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { SampledToken } from '../../../../models/runtime/runtime.ts'
import type { Answer } from '../../../../node/source/pipeline/answer.ts'
import { Lead } from '../../../../node/source/pipeline/lead.ts'
import { Follower } from '../../../../node/source/placement/follower.ts'
import { token } from '../pipeline/pipeline-fixture.ts'

const TOKEN_MS = 10

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** An answer whose tokens come when they are given to it. */
function givenAnswer() {
  const given: SampledToken[] = []
  let waiting: ((token: SampledToken) => void) | undefined
  const next = () =>
    new Promise<SampledToken>(resolve => {
      const first = given.shift()
      if (first === undefined) waiting = resolve
      else resolve(first)
    })
  const give = (id: number) => {
    if (waiting === undefined) given.push(token(id))
    else waiting(token(id))
    waiting = undefined
  }
  return { answer: { next } as unknown as Answer, give }
}

test('it keeps up with as many tokens behind as are on their way while tokens come sooner than steps end', async () => {
  const lead = new Lead([])
  const { answer, give } = givenAnswer()
  const follower = new Follower(answer, lead, 0)
  // Each is there three tokens later, as where guesses are fed ahead.
  for (let id = 0; id < 12; id++) {
    await vi.advanceTimersByTimeAsync(TOKEN_MS)
    lead.add({ id })
    if (id >= 3) give(id - 3)
    await vi.advanceTimersByTimeAsync(0)
  }
  expect(follower.isLevel(4 * TOKEN_MS)).toBe(true)
  expect(follower.isLevel(TOKEN_MS)).toBe(false)
})

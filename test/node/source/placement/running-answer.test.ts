import { expect, test, vi } from 'vitest'
import type { DeploymentRequest } from '../../../../node/source/placement/deployments.ts'
import { FirstTokens } from '../../../../node/source/placement/first-tokens.ts'
import type { Follower } from '../../../../node/source/placement/follower.ts'
import type { Planning } from '../../../../node/source/placement/planning.ts'
import { type OpenedAnswer, RunningAnswer } from '../../../../node/source/placement/running-answer.ts'

vi.mock('../../../../node/source/placement/prediction.ts', () => ({ predictRunning: () => undefined }))

/** An answer whose end takes until `closed` is called. */
function running(said: Partial<DeploymentRequest> = {}, opening: Partial<OpenedAnswer> = {}) {
  const planning = { firsts: new FirstTokens(), now: () => 160 } as unknown as Planning
  const closing = Promise.withResolvers<void>()
  const answer = { cachedTokens: 0, pause: () => {}, close: () => closing.promise }
  const deployment = {
    plan: { stages: [] },
    predicted: { ttftMs: 30 },
    contextTokens: 64,
    ended: false,
    active: 1
  }
  const needs = { model: { id: 'm' }, objective: 'latency', newTokens: 8, promptTokens: 4, known: [] }
  const request = { ...needs, ...said } as unknown as DeploymentRequest
  const opened = { deployment, answer, planMs: 0, ...opening } as unknown as OpenedAnswer
  const one = new RunningAnswer(planning, request, opened, () => {})
  return { one, planning, closed: closing.resolve }
}

test('an answer that is led on while it is being given back gives back where it would have gone on, too', async () => {
  const before = running()
  const next = running()
  next.closed()
  const left = before.one.giveBack()
  before.one.leadTo({ running: next.one, follower: {} as Follower })
  before.closed()
  await left
  await new Promise(setImmediate)
  expect(next.one.ended).toBe(true)
})

test('a first token says how much later than its prompt takes it came, where nothing was loaded for it', () => {
  const warm = running({ startedAtMs: 100 }, { askedAtMs: 110 })
  expect(warm.one.predicted).toMatchObject({ ttftMs: 30, waitedMs: 10 })
  warm.one.firstToken()
  // It came 60 ms after its start, of which it had waited 10.
  expect(warm.planning.firsts.beyondMs('m')).toBe(20)
  const others = [
    running({ startedAtMs: 100 }, { askedAtMs: 110, loadMs: 5 }),
    running({ startedAtMs: 100, objective: 'throughput' }, { askedAtMs: 110 }),
    running({ startedAtMs: 100 })
  ]
  for (const { one, planning } of others) {
    one.firstToken()
    expect(planning.firsts.beyondMs('m')).toBe(0)
  }
})

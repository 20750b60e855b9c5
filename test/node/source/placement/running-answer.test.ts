import { expect, test, vi } from 'vitest'
import type { DeploymentRequest } from '../../../../node/source/placement/deployments.ts'
import type { Follower } from '../../../../node/source/placement/follower.ts'
import type { Planning } from '../../../../node/source/placement/planning.ts'
import { type OpenedAnswer, RunningAnswer } from '../../../../node/source/placement/running-answer.ts'

vi.mock('../../../../node/source/placement/prediction.ts', () => ({ predictRunning: () => undefined }))

/** An answer whose end takes until `closed` is called. */
function running() {
  const closing = Promise.withResolvers<void>()
  const answer = { cachedTokens: 0, pause: () => {}, close: () => closing.promise }
  const deployment = { plan: { stages: [] }, predicted: {}, contextTokens: 64, ended: false }
  const request = { newTokens: 8, promptTokens: 4, known: [] } as unknown as DeploymentRequest
  const opened = { deployment, answer, planMs: 0 } as unknown as OpenedAnswer
  return { one: new RunningAnswer({} as Planning, request, opened, () => {}), closed: closing.resolve }
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

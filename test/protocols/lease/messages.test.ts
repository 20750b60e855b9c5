import { expect, test } from 'vitest'
import { type ReserveRequest, withCritical } from '../../../protocols/lease/messages.ts'

const request: ReserveRequest = { modelId: 'a'.repeat(64), range: [1, 4], maxTokens: 512, sessions: 2 }

test.each<[Partial<Parameters<typeof withCritical>[0]>, string[]]>([
  [{ prefetch: true }, ['prefetch']],
  [{ stand: true, processor: 'cpu' }, ['stand', 'processor']]
])('a reservation with %o names what a peer must not pass over', (fields, critical) => {
  expect(withCritical({ ...request, ...fields })).toEqual({ ...request, ...fields, critical })
})

test('what older peers may pass over is named by none, so that they go on granting', () => {
  const usual = { ...request, waitMs: 10, begun: true }
  expect(withCritical(usual)).toEqual(usual)
})

import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import type { PlannedStage } from '../../../../node/api.ts'
import type { PeersEvents } from '../../../../node/mesh/peers.ts'
import { Recruiter, type RecruiterComponents } from '../../../../node/source/placement/recruit.ts'
import { TINY_SHAPE } from '../../../fixtures/random-model.ts'

const stage: PlannedStage = { peerId: 'b', name: 'box', layers: [2, 5], weightBytes: 1 }

test('a peer that falls silent while it is recruited is not waited for', async () => {
  const events = new EventEmitter<PeersEvents>()
  const asked = Promise.withResolvers<void>()
  let ended = false
  const components = {
    now: () => 0,
    peers: {
      peerId: 'a',
      events,
      lease: async () => ({
        reserve: (_: object, { signal }: { signal: AbortSignal }) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason))
            asked.resolve()
          }),
        end: () => {
          ended = true
        }
      })
    }
  } as unknown as RecruiterComponents
  const manifest = randomManifest(TINY_SHAPE, undefined)
  const recruits = { modelId: 'm', manifest, stages: [stage], slots: 1, contextTokens: 16, waitMs: 0 }
  const { signal } = new AbortController()
  const recruiting = new Recruiter(components).recruit(recruits, { signal, onProgress: () => {} })
  await asked.promise
  events.emit('silent', 'somebody else')
  events.emit('silent', 'b')
  await expect(recruiting).rejects.toMatchObject({
    name: 'StageLostError',
    peerId: 'b',
    message: 'box (b) has fallen silent while it was recruited'
  })
  expect(ended).toBe(true)
  expect(events.listenerCount('silent')).toBe(0)
})

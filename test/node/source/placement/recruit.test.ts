import { expect, test } from 'vitest'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import type { PlannedStage } from '../../../../node/api.ts'
import { type RecruitComponents, recruit } from '../../../../node/source/placement/recruit.ts'
import { TINY_SHAPE } from '../../../fixtures/random-model.ts'

const stage: PlannedStage = { peerId: 'b', name: 'box', layers: [2, 5], weightBytes: 1 }

test('a peer that falls silent while it is recruited is not waited for', async () => {
  const listeners = new Set<(peerId: string) => void>()
  const asked = Promise.withResolvers<void>()
  let ended = false
  const components = {
    peerId: 'a',
    onSilent: listener => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    connectLease: async () =>
      ({
        reserve: (_: object, { signal }: { signal: AbortSignal }) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => reject(signal.reason))
            asked.resolve()
          }),
        end: () => {
          ended = true
        }
      }) as never
  } as Partial<RecruitComponents> as RecruitComponents
  const manifest = randomManifest(TINY_SHAPE, undefined)
  const recruits = { modelId: 'm', manifest, stages: [stage], slots: 1, contextTokens: 16, waitMs: 0 }
  const { signal } = new AbortController()
  const recruiting = recruit(components, recruits, { signal, onProgress: () => {} })
  await asked.promise
  for (const listener of listeners) listener('somebody else')
  for (const listener of listeners) listener('b')
  await expect(recruiting).rejects.toMatchObject({
    name: 'StageLostError',
    peerId: 'b',
    message: 'box (b) has fallen silent while it was recruited'
  })
  expect(ended).toBe(true)
  expect(listeners.size).toBe(0)
})

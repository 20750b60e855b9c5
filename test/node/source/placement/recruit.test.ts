import { expect, test } from 'vitest'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import type { PlannedStage } from '../../../../node/api.ts'
import { type RecruitComponents, recruit } from '../../../../node/source/placement/recruit.ts'
import { RemoteError } from '../../../../protocols/errors.ts'
import { LEASE_CODES, type LeaseBlame, type LeaseCode } from '../../../../protocols/lease/index.ts'
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

/** Recruits one stage on a peer that answers as the test says. */
async function recruitOn(client: { reserve(request: object): Promise<object>; load?(): Promise<void> }) {
  const components = {
    peerId: 'a',
    onSilent: () => () => {},
    holders: () => [],
    linkStates: () => [],
    connectLease: async () => ({ end() {}, renew: async () => {}, ...client }) as never
  } as Partial<RecruitComponents> as RecruitComponents
  const manifest = randomManifest(TINY_SHAPE, undefined)
  const stages = [{ ...stage, peerId: 'a', layers: [0, 2] as const }, stage]
  const { signal } = new AbortController()
  return await recruit(
    components,
    { modelId: 'm', manifest, stages, only: stage, slots: 1, contextTokens: 16, waitMs: 0, requestId: 'r-1' },
    { signal, onProgress() {} }
  )
}

const ACTED: Record<LeaseBlame, object> = {
  source: { name: 'OfferRefusedError', peerId: 'b' },
  peer: { name: 'StageLostError', peerId: 'b' },
  nobody: { name: 'LeaseRefusedError' }
}

test.each(Object.entries(LEASE_CODES) as [LeaseCode, LeaseBlame][])(
  'a refusal of code %s is acted on as that of %s, whether memory or a load is refused',
  async (code, blame) => {
    const refused = { type: 'refused', code, reason: 'it says so' }
    await expect(recruitOn({ reserve: async () => refused })).rejects.toMatchObject({
      ...ACTED[blame],
      message: expect.stringContaining('it says so')
    })
    const loading = recruitOn({
      reserve: async () => ({ type: 'granted', leaseId: 'ab', expiresInMs: 1000 }),
      load: async () => {
        throw new RemoteError('b', code, 'it says so')
      }
    })
    await expect(loading).rejects.toMatchObject(ACTED[blame])
  }
)

test('a lease is asked for in the name of its request', async () => {
  const asked: object[] = []
  const [recruited] = await recruitOn({
    reserve: async request => {
      asked.push(request)
      return { type: 'granted', leaseId: 'ab', expiresInMs: 1000 }
    },
    load: async () => {}
  })
  expect(recruited).toMatchObject({ kind: 'remote', leaseId: 'ab' })
  expect(asked).toMatchObject([{ modelId: 'm', requestId: 'r-1' }])
})

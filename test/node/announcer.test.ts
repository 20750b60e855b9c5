import { expect, test } from 'vitest'
import { Announcer, type AnnouncerComponents } from '../../node/announcer.ts'
import type { NodeRecord } from '../../node/api.ts'
import { LeaseTable } from '../../node/stage/lease-table.ts'
import { settle } from './simulation/clock.ts'
import { simulatedModel } from './simulation/mesh.ts'

const [HELD, KNOWN] = [simulatedModel('held'), simulatedModel('known')]

function announced(over: Partial<AnnouncerComponents['store']> = {}) {
  const leases = new LeaseTable({ budgetBytes: 100, termMs: 1000, now: () => 0 })
  const records: Partial<NodeRecord>[] = []
  const notices: string[] = []
  const announcer = new Announcer({
    mesh: { update: change => void records.push(change) },
    store: {
      held: async () => [HELD, KNOWN],
      heldLayers: async manifest => (manifest === HELD.manifest ? [[0, 2]] : []),
      ...over
    },
    leases,
    prefetches: { state: { quotaBytes: 50, bytes: 20 } },
    onNotice: message => void notices.push(message)
  })
  return { leases, records, notices, announcer }
}

test('peers hear of every lease, and of the models that layers are held of', async () => {
  const { leases, records } = announced()
  const request = { source: 'b', modelId: HELD.id, range: [0, 2] as const, weightBytes: 60, ownBytes: 10 }
  leases.reserve([request])
  await settle()
  expect(records).toEqual([
    {
      models: [{ name: 'held', id: HELD.id, layers: [[0, 2]] }],
      leases: [{ modelId: HELD.id, layers: [0, 2], source: 'b' }],
      memory: { budgetBytes: 100, freeBytes: 30 },
      prefetch: { quotaBytes: 50, bytes: 20 }
    }
  ])
})

test('peers hear nothing of the bundled draft', async () => {
  const drafting = { ...simulatedModel('edgeshard-tiny-draft'), manifest: HELD.manifest }
  const { announcer, records } = announced({ held: async () => [drafting, HELD] })
  announcer.announce()
  await settle()
  expect(records[0]?.models?.map(({ name }) => name)).toEqual(['held'])
})

test('what the store holds is told again when it is asked to', async () => {
  const { announcer, records } = announced()
  announcer.announce()
  await settle()
  expect(records).toMatchObject([{ leases: [], memory: { freeBytes: 100 } }])
})

test('a store that cannot be read is said, and nothing is told', async () => {
  const { announcer, records, notices } = announced({
    held: async () => {
      throw new Error('the disk is gone')
    }
  })
  announcer.announce()
  await settle()
  expect([records, notices]).toEqual([[], ['reading the store failed: the disk is gone']])
})

test('of two readings at once the later one is told last, however long the earlier one takes', async () => {
  const readings: ((models: (typeof HELD)[]) => void)[] = []
  const { announcer, records } = announced({ held: () => new Promise(resolve => readings.push(resolve)) })
  announcer.announce()
  announcer.announce()
  expect(readings).toHaveLength(1)
  readings[0]!([HELD])
  await settle()
  expect(readings).toHaveLength(2)
  readings[1]!([])
  await settle()
  expect(records.map(({ models }) => models?.length)).toEqual([1, 0])
})

import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { InferenceError } from '../../../models/runtime/errors.ts'
import type { Shard, ShardSpec } from '../../../models/runtime/runtime.ts'
import { lowerWhenShort } from '../../../node/processor/shortage.ts'
import { StageRuntime } from '../../../node/processor/stage-runtime.ts'
import { LeaseTable } from '../../../node/stage/lease-table.ts'

const FULL = new InferenceError('Failed to allocate memory for requested buffer of size 4096')
const SPEC = { manifest: { shape: {}, layers: [] } } as unknown as ShardSpec

/** A GPU whose loads, and KV caches, fail as they are told. */
function gpuThat({ fails }: { fails: { load?: Error; open?: Error } }) {
  const profile = () => Promise.reject(new Error('nothing is timed here'))
  const shard = (kind: string) =>
    ({
      kind,
      openBatch: async () => {
        if (fails.open !== undefined) throw fails.open
      }
    }) as unknown as Shard
  return new StageRuntime(
    { load: async () => shard('cpu'), profile },
    {
      runtime: {
        profile,
        load: async () => {
          if (fails.load !== undefined) throw fails.load
          return shard('gpu')
        }
      },
      guard: { refusal: undefined },
      refusals: { reasonOf: () => undefined, add: () => undefined, forget: () => false }
    }
  )
}

function leasesOf(budgetBytes: number, heldBytes: number): LeaseTable {
  const leases = new LeaseTable({ budgetBytes, termMs: 1000, now: () => 0 })
  leases.reserve([
    { source: 'A', modelId: 'm', range: [0, 4], weightBytes: heldBytes / 2, ownBytes: heldBytes / 2 }
  ])
  return leases
}

test('a GPU that refuses weights or KV caches has less offered from then on, and the CPU takes the layers', async () => {
  const fails: { load?: Error; open?: Error } = { load: FULL }
  const runtime = gpuThat({ fails })
  const leases = leasesOf(1000, 900)
  const notices: string[] = []
  lowerWhenShort(runtime, leases, message => notices.push(message))
  expect(await runtime.load(SPEC)).toMatchObject({ kind: 'cpu' })
  expect(leases.budgetBytes).toBe(720)
  expect(notices).toEqual([expect.stringMatching(/refused memory.*--gpu-memory/)])

  delete fails.load
  const shard = await runtime.load(SPEC)
  fails.open = FULL
  await expect(shard.openBatch({ slots: 1, maxTokens: 8 })).rejects.toBe(FULL)
  // No more was held than before, which gives the same.
  expect(leases.budgetBytes).toBe(720)
  leases.release(leases.state(() => 0)[0]!.id)
  leases.reserve([{ source: 'A', modelId: 'm', range: [0, 1], weightBytes: 100, ownBytes: 100 }])
  for (let i = 0; i < 5; i++) {
    await expect(shard.openBatch({ slots: 1, maxTokens: 8 })).rejects.toBe(FULL)
  }
  expect(leases.budgetBytes).toBe(250)
})

test('what fails for another reason, or with nothing held, lowers nothing', async () => {
  const runtime = gpuThat({ fails: { load: new InferenceError('no kernel for Foo') } })
  const leases = leasesOf(1000, 900)
  lowerWhenShort(runtime, leases, () => expect.unreachable())
  await runtime.load(SPEC)
  const events: StageRuntime['events'] = new EventEmitter()
  const empty = new LeaseTable({ budgetBytes: 1000, termMs: 1000, now: () => 0 })
  lowerWhenShort({ events }, empty, () => expect.unreachable())
  events.emit('short')
  expect([leases.budgetBytes, empty.budgetBytes]).toEqual([1000, 1000])
})

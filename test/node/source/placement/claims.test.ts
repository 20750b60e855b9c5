import { describe, expect, test } from 'vitest'
import type { LayerProfile } from '../../../../node/api.ts'
import { UNTESTED_SPEEDUP } from '../../../../node/constants.ts'
import { believedMemories, believedProfile, believedTurns } from '../../../../node/source/placement/claims.ts'

const own: LayerProfile = {
  decoder: { decodeMs: 8, prefillMsPerToken: 2, decodeMsByBatch: { 2: 12, 8: 24 } },
  head: { decodeMs: 4, prefillMsPerToken: 1 }
}
const times = (factor: number): LayerProfile =>
  Object.fromEntries(
    Object.entries(own).map(([kind, { decodeMs, prefillMsPerToken, decodeMsByBatch }]) => [
      kind,
      {
        decodeMs: factor * decodeMs,
        prefillMsPerToken: factor * prefillMsPerToken,
        ...(decodeMsByBatch && {
          decodeMsByBatch: { 2: factor * decodeMsByBatch['2']!, 8: factor * decodeMsByBatch['8']! }
        })
      }
    ])
  )

describe('the times of a device that was never measured', () => {
  test.each([1000, 1, 1 / UNTESTED_SPEEDUP])('are its own where it takes %s times this node’s', factor => {
    expect(believedProfile(times(factor), own, { fastest: 1 })).toEqual(times(factor))
  })

  test.each([1 / 5, 1e-3, 0])('are no better than plausible where it takes %s of them', factor => {
    expect(believedProfile(times(factor), own, { fastest: 1 })).toEqual(times(1 / UNTESTED_SPEEDUP))
  })

  test('may be better where another device was measured to be faster', () => {
    expect(believedProfile(times(1e-3), own, { fastest: 0.1 })).toEqual(times(0.1 / UNTESTED_SPEEDUP))
  })

  test('grow with the context as they say, and not less than is plausible', () => {
    const decoder = { decodeMs: 8, prefillMsPerToken: 2 }
    const here = {
      decoder: { ...decoder, decodeMsByContext: { 0: 8, 4096: 80 }, prefillMsPerTokenByContext: { 0: 2 } }
    }
    const claimed = {
      decoder: {
        ...decoder,
        decodeMsByContext: { 0: 1, 4096: 1, 8192: 200 },
        prefillMsPerTokenByContext: { 4096: 9 }
      }
    }
    const least = Math.max(8, 80 / UNTESTED_SPEEDUP)
    expect(believedProfile(claimed, here, { fastest: 1 })).toEqual({
      decoder: {
        ...decoder,
        decodeMsByContext: { 0: 8, 4096: least, 8192: 200 },
        prefillMsPerTokenByContext: { 4096: 9 }
      }
    })
  })

  test('of a batch are no better than those of one sequence, nor of kinds that this node knows not', () => {
    const decoder = { decodeMs: 8, prefillMsPerToken: 2, decodeMsByBatch: { 4: 0.001 } }
    const tail = { decodeMs: 0, prefillMsPerToken: 0 }
    expect(believedProfile({ decoder, tail }, own, { fastest: 1 })).toEqual({
      decoder: { ...decoder, decodeMsByBatch: { 4: 8 } },
      tail
    })
  })
})

test('memory is believed as far as a device’s figures agree, of all of its processors together', () => {
  const memories = (used: [budgetBytes: number, freeBytes: number], beside: typeof used) => {
    const said = ([budgetBytes, freeBytes]: typeof used) => ({ budgetBytes, freeBytes })
    const believed = believedMemories({
      memory: said(used),
      processors: [
        { kind: 'cpu', name: '', used: false, memory: said(beside) },
        { kind: 'gpu', name: '', used: true }
      ],
      hardware: { platform: '', arch: '', cpu: '', cores: 1, totalMemoryBytes: 100 }
    })
    const [cpu, gpu] = believed.processors!
    expect(gpu!.memory).toBeUndefined()
    return [believed.memory, cpu!.memory!].map(({ budgetBytes, freeBytes }) => [budgetBytes, freeBytes])
  }
  const honest: [number, number][] = [
    [60, 40],
    [40, 30]
  ]
  expect(memories(honest[0]!, honest[1]!)).toEqual(honest)
  expect(memories([40, 50], [30, 90])).toEqual([
    [40, 40],
    [30, 30]
  ])
  expect(memories([80, 70], [80, 60])).toEqual([
    [80, 70],
    [20, 20]
  ])
  expect(memories([800, 900], [80, 60])).toEqual([
    [100, 100],
    [0, 0]
  ])
})

describe('what a device says that stages take beside their layers', () => {
  const own = { turnMs: 1, sharedTurnMs: 0.4 }

  test('is believed where it is plausible, and no shorter than that beside this node’s own', () => {
    expect(believedTurns({ turnMs: 3, sharedTurnMs: 2 }, own)).toEqual({ turnMs: 3, sharedTurnMs: 2 })
    const least = { turnMs: 1 / UNTESTED_SPEEDUP, sharedTurnMs: 0.4 / UNTESTED_SPEEDUP }
    expect(believedTurns({ turnMs: 0, sharedTurnMs: 0 }, own)).toEqual(least)
    expect(believedTurns({ turnMs: 0, sharedTurnMs: 0 }, undefined)).toEqual({ turnMs: 0, sharedTurnMs: 0 })
  })

  test('is no longer than any hand-over between threads', () => {
    expect(believedTurns({ turnMs: 1e9, sharedTurnMs: 1e9 }, own)).toEqual({ turnMs: 20, sharedTurnMs: 20 })
  })
})

test('a short prompt takes no less than a token, nor than is plausible beside this node’s own', () => {
  const short = { prefillMsByTokens: { 8: 0, 32: 100 } }
  const said = { decoder: { decodeMs: 8, prefillMsPerToken: 2, ...short } }
  const here = { decoder: { decodeMs: 8, prefillMsPerToken: 2, prefillMsByTokens: { 8: 40, 32: 64 } } }
  expect(believedProfile(said, here, { fastest: 1 }).decoder!.prefillMsByTokens).toEqual({ 8: 10, 32: 100 })
})

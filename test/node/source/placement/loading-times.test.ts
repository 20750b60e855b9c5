import { describe, expect, test } from 'vitest'
import { weightBytes } from '../../../../models/runtime/memory.ts'
import { randomManifest } from '../../../../models/runtime/random-weights.ts'
import { UNTESTED_SPEEDUP } from '../../../../node/constants.ts'
import { type LoadingDevice, stageLoadMs } from '../../../../node/source/placement/loading-times.ts'
import { TINY_SHAPE } from '../../../fixtures/random-model.ts'

const model = { id: 'm', manifest: randomManifest(TINY_SHAPE, undefined) }
const times = (loadMs: number) => ({ decodeMs: 1, prefillMsPerToken: 1, loadMs })
const loading = (startMs: number, layerMs: number): LoadingDevice => ({
  stageTimes: { turnMs: 0, sharedTurnMs: 0, startMs },
  profiles: { m: { embedding: times(1), decoder: times(layerMs), head: times(3) } }
})

describe('a stage is ready after', () => {
  test('its start, and what each of its layers takes to load', () => {
    const own = loading(100, 10)
    const ms = (range: readonly [number, number], device: LoadingDevice | undefined = own) =>
      stageLoadMs(model, { layers: range }, { device, own })
    expect(ms([0, 2])).toBe(100 + 1 + 10)
    expect(ms([2, 5])).toBe(100 + 2 * 10 + 3)
    expect(ms([2, 4], loading(400, 70))).toBe(400 + 2 * 70)
  })

  test('what its bytes say, where its device has timed nothing', () => {
    const own = loading(100, 10)
    const unknown = { profiles: {} }
    const assumedMs = 500 + weightBytes(model.manifest, [1, 3]) / 300_000
    for (const device of [unknown, undefined]) {
      expect(stageLoadMs(model, { layers: [1, 3] }, { device, own })).toBeCloseTo(assumedMs)
    }
  })

  test('no less than is plausible, and no more than can be planned with, whatever its device says', () => {
    const own = loading(100, 10)
    const boast = stageLoadMs(model, { layers: [1, 3] }, { device: loading(0, 0), own })
    expect(boast).toBe((100 + 2 * 10) / UNTESTED_SPEEDUP)
    expect(stageLoadMs(model, { layers: [1, 3] }, { device: loading(1e9, 1e9), own })).toBe(3 * 60_000)
  })

  test('what its layers take on the processor that it is on', () => {
    const own = loading(100, 10)
    const { profiles } = loading(0, 70)
    const memory = { budgetBytes: 1e9, freeBytes: 1e9 }
    const device: LoadingDevice = {
      ...loading(100, 10),
      processors: [
        { kind: 'cpu', name: 'a processor', used: false, memory, profiles },
        { kind: 'gpu', name: 'a card', used: true }
      ]
    }
    const on = (processor: string) => stageLoadMs(model, { processor, layers: [2, 4] }, { device, own })
    expect([on('gpu'), on('cpu')]).toEqual([100 + 2 * 10, 100 + 2 * 70])
  })
})

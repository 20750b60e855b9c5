import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { Batch } from '../../models/runtime/batch.ts'
import { CpuProcessor } from '../../models/runtime/cpu-processor.ts'
import { GROUPED_FROM_TOKENS } from '../../models/runtime/grouped-rows.ts'
import { allocateHidden, prefillChunks } from '../../models/runtime/hidden.ts'
import { workingBytes } from '../../models/runtime/memory.ts'
import type { RaggedStep, StepPart } from '../../models/runtime/runtime.ts'
import { ShardExecutor } from '../../models/runtime/shard-executor.ts'
import {
  gaussian,
  LAYERED,
  type RandomModel,
  type RandomModelOptions,
  randomModel
} from '../fixtures/random-model.ts'

const PROCESSOR = new CpuProcessor({ threads: 1, spinUs: 0 })
/** Packed and turned inside, normalised by head, heads too small to be turned inside, turned in part, groups of two sizes. */
const CASES: Record<string, RandomModelOptions> = {
  packed: {},
  'one head of keys, all of four in a group': { shape: { kvHeads: 1 } },
  'groups of three, an odd number of rows': { shape: { heads: 6, kvHeads: 2 } },
  'norms by head': { optional: ['q_norm', 'k_norm'] },
  'heads of 8': { shape: { headSize: 8 } },
  'turned in part': { shape: { headSize: 32, rope: { theta: 10_000, rotated: 16 } } },
  'layers of several kinds': { shape: LAYERED }
}
const CONTEXT = 150
const SLOTS = 3
const HIDDEN = 64
const RANGE = [1, 4] as const

/** Steps behind CONTEXT tokens of each slot: how many tokens of which. */
const STEPS: [slot: number, tokens: number][][] = [
  [[0, 2]],
  [[1, 3]],
  [[0, 8]],
  [
    [0, 2],
    [1, 5]
  ],
  [
    [0, 4],
    [1, 2],
    [2, 32]
  ],
  [
    [2, 2],
    [1, 7],
    [0, 2]
  ]
]

async function load({ manifest, blobsDir }: RandomModel, lanes: number): Promise<ShardExecutor> {
  return await ShardExecutor.load({ manifest, range: [...RANGE], blobsDir, lanes }, PROCESSOR)
}

/** Every slot's sequence behind made-up tokens, with query heads as rows from so many tokens on. */
async function begun(shard: ShardExecutor, groupsFrom: number, { maxTokens = 300, exact = true } = {}) {
  const batch = await Batch.allocate(shard, { slots: SLOTS, maxTokens, groupsFrom })
  const sequences = await Promise.all([0, 1, 2].map(slot => batch.open({ slot, exact })))
  const going = sequences.map(sequence => ({ sequence, length: 0 }))
  const step = async (parts: [slot: number, tokens: number][]) => {
    const given: StepPart[] = parts.map(([slot, tokens]) => ({
      position: going[slot]!.length,
      tokens,
      draws: 0
    }))
    const output = await batch.step(
      parts.map(([slot]) => going[slot]!.sequence),
      { parts: given, input: inputOf(parts, given) }
    )
    if (output.kind !== 'hidden') throw new Error(output.kind)
    for (const [slot, tokens] of parts) going[slot]!.length += tokens
    return [...output.hidden.data]
  }
  for (const [start, end] of prefillChunks(CONTEXT)) {
    for (let slot = 0; slot < SLOTS; slot++) await step([[slot, end - start]])
  }
  return { batch, step }
}

/** What the tokens of a slot are follows from their places. */
function inputOf(parts: [slot: number, tokens: number][], given: StepPart[]): RaggedStep['input'] {
  const rows = parts.flatMap(([slot, tokens], i) =>
    Array.from({ length: tokens }, (_, row) => gaussian(1 + slot * 4099 + given[i]!.position + row))
  )
  const hidden = allocateHidden(rows.length, HIDDEN)
  rows.forEach((random, row) => {
    for (let i = 0; i < HIDDEN; i++) hidden.data[row * HIDDEN + i] = random()
  })
  return hidden
}

describe.each(Object.entries(CASES))('query heads as rows: %s', (_, options) => {
  let model: RandomModel
  beforeAll(async () => {
    model = await randomModel({ ...options, shape: { ...options.shape, contextLength: 2048 } })
  })
  afterAll(() => model[Symbol.asyncDispose]())

  it.each([1, 3])('come to the same bits as each by itself, with %i lanes', async lanes => {
    const shard = await load(model, lanes)
    // What kernels of this processor do not keep is not computed so.
    await shard.keepsBits()
    const isOn = shard.grouped!.of({ position: 2000, rows: 2, capacity: 2048 }) > 0
    const told = vi.spyOn(shard.grouped!, 'of')
    const apart = await begun(shard, Number.POSITIVE_INFINITY)
    const grouped = await begun(shard, CONTEXT)
    try {
      for (const parts of STEPS) {
        told.mockClear()
        const expected = await apart.step(parts)
        expect(told.mock.results.every(({ value }) => value === 0)).toBe(true)
        told.mockClear()
        const computed = await grouped.step(parts)
        const few = isOn ? parts.filter(([, tokens]) => tokens <= 8) : []
        expect(told.mock.results.filter(({ value }) => value > 0)).toHaveLength(few.length)
        expect(computed, JSON.stringify(parts)).toEqual(expected)
        expect(computed.every(Number.isFinite)).toBe(true)
      }
    } finally {
      apart.batch.free()
      grouped.batch.free()
      await shard.release()
    }
  })
})

it('changes over within a sequence, and back at the end of its room, without a bit changed', async () => {
  await using model = await randomModel({ shape: { contextLength: 2048 } })
  const shard = await load(model, 1)
  await shard.keepsBits()
  const isOn = shard.grouped!.of({ position: 2000, rows: 2, capacity: 2048 }) > 0
  const told = vi.spyOn(shard.grouped!, 'of')
  const total = GROUPED_FROM_TOKENS + 24
  const whole = await begun(shard, Number.POSITIVE_INFINITY, { maxTokens: total })
  const stepped = await begun(shard, GROUPED_FROM_TOKENS, { maxTokens: total })
  const grouped: boolean[] = []
  try {
    for (const [start, end] of prefillChunks(total - CONTEXT)) {
      const expected = await whole.step([[0, end - start]])
      const rows: number[] = []
      // The last 34 tokens two by two.
      const most = total - CONTEXT - start > 34 ? end - start : 2
      for (let at = start; at < end; at += most) {
        told.mockClear()
        rows.push(...(await stepped.step([[0, most]])))
        if (most === 2) grouped.push(told.mock.results.some(({ value }) => value > 0))
      }
      expect(rows, `${start} tokens later`).toEqual(expected)
    }
  } finally {
    whole.batch.free()
    stepped.batch.free()
    await shard.release()
  }
  // 1014 to 1023, then up to where two rows and what they need behind them have no room.
  expect(grouped).toEqual([...Array(5).fill(false), ...Array(11).fill(isOn), false])
})

it('computes single rows that need not be exact as well, alone, beside a chunk, and several in one lane', async () => {
  await using model = await randomModel({ shape: { contextLength: 2048 } })
  const shard = await load(model, 2)
  const told = vi.spyOn(shard.grouped!, 'of')
  const apart = await begun(shard, Number.POSITIVE_INFINITY, { exact: false })
  const grouped = await begun(shard, CONTEXT, { exact: false })
  const steps: [slot: number, tokens: number][][] = [
    [[0, 1]],
    [
      [0, 1],
      [1, 32]
    ],
    [
      [0, 1],
      [1, 1],
      [2, 4]
    ]
  ]
  const counts: number[] = []
  try {
    for (const parts of steps) {
      const expected = await apart.step(parts)
      told.mockClear()
      const computed = await grouped.step(parts)
      counts.push(told.mock.results.filter(({ value }) => value > 0).length)
      const largest = Math.max(...expected.map(Math.abs))
      expect(Math.max(...computed.map((x, i) => Math.abs(x - expected[i]!)))).toBeLessThan(1e-4 * largest)
    }
  } finally {
    apart.batch.free()
    grouped.batch.free()
    await shard.release()
  }
  // Two sequences in one lane are computed head by head.
  expect(counts).toEqual([1, 1, 1])
})

it('takes no more memory behind a long context than a lease counts', async () => {
  // What hides tokens is far larger here than all else.
  const maxTokens = 200_000
  const shape = { heads: 16, kvHeads: 1, headSize: 8, decoderLayers: 1, contextLength: maxTokens }
  await using model = await randomModel({ shape })
  const { manifest, blobsDir } = model
  const shard = await ShardExecutor.load({ manifest, range: [1, 2], blobsDir }, PROCESSOR)
  const batch = await Batch.allocate(shard, { slots: 1, maxTokens })
  await batch.fill(new Float32Array(1))
  const sequence = await batch.open({})
  const position = maxTokens - 200
  const told = vi.spyOn(shard.grouped!, 'of')
  const before = process.memoryUsage().rss
  for (const tokens of [2, 8]) {
    sequence.pretend(position)
    const input = allocateHidden(tokens, HIDDEN)
    await batch.step([sequence], { parts: [{ position, tokens, draws: 0 }], input })
  }
  const grown = process.memoryUsage().rss - before
  batch.free()
  await shard.release()
  expect(told.mock.results.map(({ value }) => value)).toEqual([2, 8])
  expect(grown).toBeLessThan(workingBytes(manifest, [1, 2], { slots: 1, maxTokens, frameTokens: 8 }))
})

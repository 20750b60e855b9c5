import { describe, expect, it } from 'vitest'
import { LLAMA_BLOCK } from '../../../models/import/architectures/architecture.ts'
import type { Manifest, ModelShape, Quantization } from '../../../models/manifest.ts'
import { CpuProcessor, type MainMemory } from '../../../models/runtime/cpu-processor.ts'
import { KvCache } from '../../../models/runtime/kv-cache.ts'
import {
  heldBytes,
  kvCacheBytes,
  leaseBytes,
  liveStateBytes,
  MAX_PARTS,
  mostParts,
  PART_BYTES,
  slotTokens,
  weightBytes,
  workingBytes
} from '../../../models/runtime/memory.ts'
import { partsOf } from '../../../models/runtime/parts.ts'
import type { SlotDims } from '../../../models/runtime/processor.ts'
import { randomManifest } from '../../../models/runtime/random-weights.ts'
import { SHAPES, TINY_SHAPE } from '../../fixtures/random-model.ts'

const MIB = 2 ** 20

function modelOf(shape: Partial<ModelShape>, quantization?: Quantization): Manifest {
  return randomManifest({ ...TINY_SHAPE, ...shape }, quantization)
}

/** What packing makes of decoder layers whose sizes are whole blocks and whole groups of rows. */
function packed(quantization: Quantization | undefined): number {
  const manifest = modelOf(
    { hiddenSize: 2048, ffnSize: 5632, heads: 32, kvHeads: 4, headSize: 64 },
    quantization
  )
  return heldBytes(manifest, [1, 4]) / weightBytes(manifest, [1, 4])
}

describe('heldBytes', () => {
  // Of a block of 32 in 4 bits 16 bytes and a scale of 4 are stored, and a sum of 4 is kept beside them: 24 for 20.
  it.each([
    [{ bits: 4, blockSize: 32 }, 24 / 20],
    [{ bits: 4, blockSize: 128 }, 72 / 68],
    [{ bits: 4, blockSize: 16 }, 16 / 12],
    [{ bits: 8, blockSize: 32 }, 44 / 36],
    [{ bits: 8, blockSize: 128 }, 140 / 132],
    [{ bits: 4, blockSize: 32, shifted: true }, 28 / 24],
    [undefined, 1]
  ] as const)('counts what kernels keep of %o', (quantization, ratio) => {
    expect(packed(quantization)).toBeCloseTo(ratio, 3)
  })

  it('counts rows as they are packed, in groups of 16', () => {
    const one = modelOf({ hiddenSize: 2, ffnSize: 2 ** 16, heads: 1, kvHeads: 1, headSize: 16 })
    // ffn_down is (2, 65536) in the file, and (16, 65536) in memory.
    expect(heldBytes(one, [1, 2]) - weightBytes(one, [1, 2])).toBeGreaterThanOrEqual(14 * 2 ** 16 * 4)
  })

  it('counts the embedding as it is in the file', () => {
    const manifest = modelOf({}, { bits: 8, blockSize: 32 })
    expect(heldBytes(manifest, [0, 1])).toBe(weightBytes(manifest, [0, 1]))
  })
})

describe('KV caches of layers with a window', () => {
  const windowed = (window: number) => ({ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, window } })
  const shape = { ...TINY_SHAPE, blocks: [windowed(8), LLAMA_BLOCK], layout: [0, 1], contextLength: 4096 }
  const range: [number, number] = [0, 5]
  // 2 heads of keys and of values, 16 numbers each.
  const tokenBytes = 2 * 2 * 16 * 4

  it('hold what the window needs, a little behind it and the largest step, however long a sequence is', () => {
    const needed = 7 + 64 + 255 + 32 + 2
    const room = { slots: 3, frameTokens: 32 }
    for (const maxTokens of [1000, 3000]) {
      const tokens = maxTokens + 1 + 2 * needed
      expect(kvCacheBytes(shape, range, { ...room, maxTokens })).toBe(3 * tokens * tokenBytes)
      expect(kvCacheBytes(shape, range, { ...room, maxTokens, keepsAll: true })).toBe(
        9 * (maxTokens + 1) * tokenBytes
      )
    }
    // No more than all tokens.
    expect(kvCacheBytes(shape, range, { ...room, maxTokens: 99 })).toBe(9 * 100 * tokenBytes)
  })
})

/** Counts what it gives. */
class CountingProcessor extends CpuProcessor {
  bytes = 0

  override async allocate(slots: number, dims: SlotDims): Promise<MainMemory> {
    const memory = await super.allocate(slots, dims)
    this.bytes += (memory.tensor(0, slots).data as Float32Array).byteLength
    return memory
  }
}

describe.each(Object.entries(SHAPES))('KV caches and states of %s', (_, own) => {
  it('are what is allocated', async () => {
    const shape = { ...TINY_SHAPE, ...own, contextLength: 4096 }
    for (const maxTokens of [1, 127, 128, 1000]) {
      for (const keepsAll of [undefined, true] as const) {
        const processor = new CountingProcessor({ threads: 1, spinUs: 0 })
        const frameTokens = keepsAll ? undefined : 32
        const cache = await KvCache.allocate(processor, shape, [0, 5], slotTokens(maxTokens), 3, frameTokens)
        cache.free()
        // Beside what each slot has, states of nothing that sequences begin with, which working memory counts.
        const zeros = liveStateBytes(shape, [0, 5])
        const room = { slots: 3, maxTokens, frameTokens: 32, ...(keepsAll && { keepsAll }) }
        expect(processor.bytes - zeros, `${maxTokens} tokens`).toBe(kvCacheBytes(shape, [0, 5], room))
      }
    }
  })
})

describe('workingBytes', () => {
  const room = { slots: 1, maxTokens: 2048 }

  it('counts what the widest layer has alive at once for the largest frame', () => {
    const wide = modelOf(
      { decoderLayers: 1, hiddenSize: 32, ffnSize: 2 ** 18, heads: 2, kvHeads: 1, headSize: 16 },
      { bits: 4, blockSize: 32 }
    )
    const bytes = (frameTokens: number) => workingBytes(wide, [1, 2], { ...room, frameTokens })
    // gate and up, in one and apart: 4 MiB a token, of which 179 MiB were seen with 32 tokens.
    expect(bytes(32)).toBeGreaterThan(179 * MIB)
    expect(bytes(32)).toBeLessThan(256 * MIB)
    expect(bytes(512) / bytes(32)).toBeGreaterThan(15)
    expect(bytes(1)).toBeLessThan(8 * MIB)
  })

  it('counts the weights of cached tokens for each head, which a step of single tokens has', () => {
    const heads = modelOf({ decoderLayers: 1, hiddenSize: 32, ffnSize: 32, heads: 1024, kvHeads: 1 })
    // 268 MB were seen with 65,536 tokens, and 134 with 8 slots of 16,384 and a quarter of the heads.
    expect(workingBytes(heads, [1, 2], { slots: 1, maxTokens: 65_536 })).toBeGreaterThan(268 * 10 ** 6)
    const fewer = modelOf({ decoderLayers: 1, hiddenSize: 32, ffnSize: 32, heads: 256, kvHeads: 1 })
    expect(workingBytes(fewer, [1, 2], { slots: 8, maxTokens: 16_384 })).toBeGreaterThan(134 * 10 ** 6)
  })

  it('counts logits of every slot', () => {
    const large = modelOf({ vocabSize: 2 ** 21 })
    const bytes = (slots: number) => workingBytes(large, [4, 5], { slots, maxTokens: 16 })
    expect(bytes(256) - bytes(1)).toBeGreaterThan(250 * 2 ** 21 * 4)
  })

  it('counts what a step needs for each part that a large shard is loaded in', () => {
    const shape = {
      decoderLayers: 8,
      hiddenSize: 4096,
      ffnSize: 14_336,
      heads: 32,
      kvHeads: 8,
      headSize: 128
    }
    const large = modelOf(shape, { bits: 4, blockSize: 32 })
    const one = workingBytes(large, [1, 2], room)
    expect(mostParts(heldBytes(large, [1, 2]))).toBe(1)
    expect(mostParts(heldBytes(large, [1, 9]))).toBe(MAX_PARTS)
    expect(workingBytes(large, [1, 9], room)).toBeGreaterThan((MAX_PARTS - 1) * one)
    // As many as threads without number would load it in.
    for (let end = 2; end <= 9; end++) {
      const parts = partsOf(large, [1, end], { count: MAX_PARTS, leastBytes: PART_BYTES })
      expect(parts.length).toBeLessThanOrEqual(mostParts(heldBytes(large, [1, end])))
    }
  })

  it('costs nothing beside the shard where a model is small, and no range more than the whole', () => {
    const small = modelOf({})
    expect(workingBytes(small, [0, 5], { slots: 4, maxTokens: 128 })).toBe(0)
    const large = modelOf({ hiddenSize: 4096, ffnSize: 14_336, heads: 32, kvHeads: 8, headSize: 128 })
    const whole = workingBytes(large, [0, 5], room)
    for (const range of [
      [0, 1],
      [0, 3],
      [1, 4],
      [4, 5],
      [2, 5]
    ] as const) {
      expect(workingBytes(large, range, room)).toBeLessThanOrEqual(whole)
    }
    const { weightBytes, ownBytes } = leaseBytes(large, [1, 4], room)
    expect(weightBytes).toBe(heldBytes(large, [1, 4]))
    expect(ownBytes).toBe(3 * 2 * 8 * 128 * 4 * 2049 + workingBytes(large, [1, 4], room))
  })
})

import { describe, expect, it } from 'vitest'
import type { Architecture } from '../../models/import/architectures/architecture.ts'
import { glm4Moe } from '../../models/import/architectures/glm4-moe.ts'
import { parseConfig } from '../../models/import/config.ts'
import { type Block, type Manifest, parseManifest, serializeManifest } from '../../models/manifest.ts'
import { heldBytes, weightBytes, workingBytes } from '../../models/runtime/memory.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { readBytes, readBytesPerToken } from '../../models/runtime/read-bytes.ts'
import { sessionRanges } from '../../models/runtime/session-ranges.ts'
import { timingBytes } from '../../models/runtime/timing-bytes.ts'
import { assumedTimes } from '../../node/source/placement/assumed-times.ts'
import { MIXED, TINY_SHAPE } from '../fixtures/random-model.ts'

const [mixture, plain, dense] = MIXED.blocks!
const Q4 = { bits: 4, blockSize: 32 } as const
const SHA256 = 'a'.repeat(64)

function modelOf(shape: Partial<Manifest['shape']> = MIXED): Manifest {
  const manifest = randomManifest({ ...TINY_SHAPE, ...shape }, Q4)
  return { ...manifest, layers: manifest.layers.map(layer => ({ ...layer, sha256: SHA256 })) }
}

describe('a manifest with experts', () => {
  const manifest = modelOf()

  it('is read as it was written, with a router in float32', () => {
    expect(parseManifest(serializeManifest(manifest))).toEqual(manifest)
    const { tensors } = manifest.layers[1]!
    const names = tensors.map(({ name }) => name)
    expect(names).toEqual(expect.arrayContaining(['router', 'shared_gate', 'expert_gate_up.weight']))
    expect(tensors.find(({ name }) => name === 'expert_gate_up.weight')!.shape).toEqual([6 * 2 * 32, 2, 16])
  })

  type Experts = Record<string, unknown>
  it.each<[string, (experts: Experts, manifest: Manifest) => void, RegExp]>([
    [
      'another kind',
      e => (e.kind = 'lottery'),
      /feedForward\.kind: "lottery" is not known here; known are gated/
    ],
    ['another router', e => (e.router = 'hash'), /router: "hash" is not known here; known are softmax, sig/],
    ['no number of experts', e => delete e.experts, /feedForward\.experts/],
    ['more than a graph has branches for', e => (e.experts = 513), /feedForward\.experts/],
    ['more in use than there are', e => (e.used = 7), /used is more than there are experts/],
    ['none in use', e => (e.used = 0), /feedForward\.used/],
    ['a flag that is false', e => (e.normalised = false), /feedForward\.normalised/],
    ['what it does not know', e => (e.clusters = 2), /Unrecognized key: "clusters"/],
    ['an expert for all without a size', e => (e.shared = {}), /shared\.size/],
    ['what it does not know of that', e => (e.shared = { size: 64, scale: 2 }), /Unrecognized key: "scale"/],
    ['another number than its tensors have', e => (e.experts = 5), /layer 1: tensor router/],
    ['an expert for all that its file lacks', (_, m) => (m.layers[1] = m.layers[2]!), /layer 1: tensor/],
    [
      'more rows than a tensor may have',
      e => Object.assign(e, { experts: 512, size: 2 ** 12 }),
      /multiply to more than any model has/
    ],
    [
      'the dense kind with experts',
      (_, m) => Object.assign(m.shape.blocks[2]!.feedForward, { experts: 4 }),
      /Unrecognized key: "experts"/
    ],
    [
      'a router in blocks',
      (_, m) => {
        const router = m.layers[1]!.tensors.find(({ name }) => name === 'router')!
        Object.assign(router, { name: 'router.weight', quantization: Q4 })
      },
      /router\.weight does not say how it is packed, or may not be/
    ]
  ])('is refused with %s', (_, change, message) => {
    const copy = structuredClone(manifest)
    change(copy.shape.blocks[0]!.feedForward as unknown as Experts, copy)
    expect(() => parseManifest(serializeManifest(copy))).toThrow(message)
  })
})

describe('a config.json with experts', () => {
  const config = {
    model_type: 'qwen3_moe',
    ...{ hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4, num_attention_heads: 4 },
    ...{ num_key_value_heads: 2, head_dim: 16, vocab_size: 160, max_position_embeddings: 128 },
    ...{ num_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 32 }
  }
  const shape = (own: object) => parseConfig({ ...config, ...own }, 'config.json').shape

  it('says which layers have them, and what is so where it says nothing', () => {
    const experts = { kind: 'experts', activation: 'silu', size: 32, experts: 8, used: 2, router: 'softmax' }
    expect(shape({}).blocks.map(({ feedForward }) => feedForward)).toEqual([experts])
    expect(shape({ norm_topk_prob: true }).blocks[0]!.feedForward).toEqual({ ...experts, normalised: true })
    const some = shape({ decoder_sparse_step: 2, mlp_only_layers: [3] })
    expect(some.layout).toEqual([0, 1, 0])
    expect(some.blocks.map(({ feedForward }) => feedForward.kind)).toEqual(['gated', 'experts'])
    const { num_experts: _, num_experts_per_tok: __, moe_intermediate_size: ___, ...rest } = config
    const { blocks } = parseConfig(rest, 'config.json').shape
    expect(blocks[0]!.feedForward).toMatchObject({ size: 768, experts: 128, used: 8 })
  })

  it.each([
    [{ num_experts_per_tok: 9 }, /used is more than there are experts/],
    [{ num_experts: 0 }, /num_experts/],
    [{ num_experts: '8' }, /num_experts/],
    [{ norm_topk_prob: 1 }, /norm_topk_prob/],
    [{ mlp_only_layers: 'all' }, /mlp_only_layers/],
    [{ use_sliding_window: true }, /use_sliding_window true for qwen3_moe is not supported/],
    [{ n_group: 2 }, /the key "n_group" is not known for qwen3_moe/],
    [
      { model_type: 'olmoe', moe_intermediate_size: null, clip_qkv: 8 },
      /the key "clip_qkv" is not known for olmoe/
    ],
    [{ model_type: 'qwen3' }, /the key "num_experts" is not known for qwen3/]
  ])('is refused with %j', (own, message) => {
    expect(() => shape(own)).toThrow(message)
  })
})

it('an architecture may say which layer is the last with experts, and that there may be none of them', () => {
  const { experts: rule, ...dense } = glm4Moe
  const first = { huggingFace: 'first', default: 1 }
  const ending: Architecture = {
    ...dense,
    experts: { ...rule!, enabled: 'count', dense: { first, last: 'last' } }
  }
  const config = {
    ...{ model_type: 'glm4_moe', hidden_size: 64, intermediate_size: 96, num_hidden_layers: 5 },
    ...{ num_attention_heads: 4, num_key_value_heads: 2, vocab_size: 160, max_position_embeddings: 128 },
    ...{ n_routed_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 32 }
  }
  const kinds = (own: object) => {
    const { blocks, layout } = parseConfig({ ...config, ...own }, 'config.json', [ending]).shape
    return Array.from({ length: 5 }, (_, layer) => blocks[layout[layer % layout.length]!]!.feedForward.kind)
  }
  const [G, E] = ['gated', 'experts'] as const
  expect(kinds({})).toEqual([G, E, E, E, E])
  expect(kinds({ last: -1 })).toEqual([G, E, E, E, E])
  expect(kinds({ first: 2, last: 3 })).toEqual([G, G, E, E, G])
  expect(kinds({ n_routed_experts: 0 })).toEqual([G, G, G, G, G])
  expect(() => kinds({ last: 1.5 })).toThrow(/last: /)
  expect(() => kinds({ last: -2 })).toThrow(/last: /)
})

describe('a config.json of MiniMax-M2', () => {
  const config = {
    ...{ model_type: 'minimax_m2', hidden_size: 64, intermediate_size: 32, num_hidden_layers: 3 },
    ...{
      num_attention_heads: 4,
      head_dim: 16,
      num_key_value_heads: 2,
      rotary_dim: 12,
      attn_type_list: [1, 1, 1]
    }
  }
  const parse = (own: object) => parseConfig({ ...config, ...own }, 'config.json')

  it('says how much of each head is turned, and that no layer is of another kind', () => {
    expect(parse({}).shape.rope.rotated).toBe(12)
    expect(parse({ rotary_dim: null }).shape.rope.rotated).toBe(8)
    for (const [own, message] of [
      [{ attn_type_list: [1, 0, 1] }, /attn_type_list \[1,0,1\] for minimax_m2 is not supported/],
      [{ rotary_dim: 11 }, /rope\.rotated/],
      [{ rotary_dim: 8, partial_rotary_factor: 1 }, /partial_rotary_factor is given as 1 and as 0.5/],
      [{ shared_intermediate_size: 64 }, /shared_intermediate_size 64 for minimax_m2 is not supported/],
      [{ layernorm_mlp_beta: 0.5 }, /layernorm_mlp_beta 0.5 for minimax_m2 is not supported/]
    ] as const) {
      expect(() => parse(own)).toThrow(message)
    }
  })
})

describe('the bytes of experts', () => {
  const experts = { experts: 128, used: 8, size: 96 }
  const wide = (used = 8) =>
    modelOf({
      decoderLayers: 2,
      blocks: [{ ...plain!, feedForward: { ...plain!.feedForward, ...experts, used } as never }],
      layout: [0]
    })

  it('are all resident, and few are read by a token', () => {
    const manifest = wide()
    const { bytes, tensors } = manifest.layers[1]!
    const ofExperts = tensors
      .filter(({ name }) => name.startsWith('expert_'))
      .reduce((n, t) => n + t.bytes, 0)
    expect(weightBytes(manifest, [1, 2])).toBe(bytes)
    expect(readBytes(manifest, 1)).toBeCloseTo(bytes - ofExperts * (120 / 128))
    // E (1 - (1 - k / E)^n): of 128 with 8 in use, 52 for 8 tokens and 111.8 for 32.
    expect((readBytes(manifest, 1, 32) - (bytes - ofExperts)) / ofExperts).toBeCloseTo(111.8 / 128, 3)
    expect(readBytes(wide(128), 1)).toBe(bytes)
    expect(readBytesPerToken(manifest)).toBeLessThan(weightBytes(manifest) / 2)
  })

  it('cost a device that has timed nothing what is read, more for several sequences, and less for each', () => {
    const { decoder } = assumedTimes(wide())
    const times = Object.values(decoder!.decodeMsByBatch!)
    expect(times[0]).toBe(decoder!.decodeMs)
    times.slice(1).forEach((ms, i) => {
      expect(ms).toBeGreaterThan(times[i]!)
      expect(ms).toBeLessThan(2 * times[i]!)
    })
    const slow = assumedTimes(wide(128)).decoder!
    expect(decoder!.decodeMs).toBeLessThan(slow.decodeMs / 4)
  })

  it('are packed expert by expert, in whole groups of rows', () => {
    const odd = { ...plain!, feedForward: { ...plain!.feedForward, size: 4, experts: 64 } as never }
    const shape = { ...TINY_SHAPE, decoderLayers: 1, blocks: [odd], layout: [0] }
    const manifest = randomManifest(shape, undefined)
    // gate and up of one expert are 8 rows of 64 in the file, and 16 in memory.
    expect(heldBytes(manifest, [1, 2]) - weightBytes(manifest, [1, 2])).toBeGreaterThan(64 * 8 * 64 * 4)
  })

  it('are counted where layers are timed, whichever block has them', () => {
    const shape = { ...TINY_SHAPE, blocks: [dense!, mixture!], layout: [0, 1] }
    const alone = (block: Block) => timingBytes({ ...TINY_SHAPE, blocks: [block], layout: [0] }, Q4)
    expect(timingBytes(shape, Q4)).toBe(alone(mixture!))
    expect(alone(mixture!)).toBeGreaterThan(alone(dense!))
  })

  it('make room for all that is sent to them, and for what lies between sessions', () => {
    const room = { slots: 1, maxTokens: 64, frameTokens: 4096 }
    const bytes = (shape: Partial<Manifest['shape']>) => workingBytes(modelOf(shape), [0, 5], room)
    const blocks = (used: number) => [
      { ...plain!, feedForward: { ...plain!.feedForward, experts: 64, used } as never }
    ]
    const few = bytes({ blocks: blocks(2), layout: [0] })
    const many = bytes({ blocks: blocks(32), layout: [0] })
    // Each token's results of 30 more experts, three times, in 4 bytes and half as much again.
    expect(many - few).toBeGreaterThan(4096 * 30 * 3 * 64 * 4 * 1.5)
    expect(few).toBeGreaterThan(bytes({ blocks: [dense!], layout: [0] }))
  })
})

describe('sessionRanges', () => {
  it('has no two layers of experts in a session, and all layers once', () => {
    const shape = { ...TINY_SHAPE, ...MIXED, decoderLayers: 7 }
    // 1, 2, 4, 5 and 7 have experts.
    expect(sessionRanges(shape, [0, 9])).toEqual([
      [0, 2],
      [2, 4],
      [4, 5],
      [5, 7],
      [7, 9]
    ])
    expect(sessionRanges(shape, [3, 4])).toEqual([[3, 4]])
    expect(sessionRanges(TINY_SHAPE, [0, 5])).toEqual([[0, 5]])
    expect(sessionRanges({ ...shape, blocks: [mixture!], layout: [0] }, [2, 5])).toEqual([
      [2, 3],
      [3, 4],
      [4, 5]
    ])
  })
})

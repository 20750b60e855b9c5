import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Architecture } from '../../models/import/architectures/architecture.ts'
import { qwen35 } from '../../models/import/architectures/qwen3-5.ts'
import { qwen3Next } from '../../models/import/architectures/qwen3-next.ts'
import { parseConfig } from '../../models/import/config.ts'
import { importModel } from '../../models/import/import-model.ts'
import { type Manifest, parseManifest, serializeManifest } from '../../models/manifest.ts'
import { kvBytes, kvCacheBytes, stateBytes } from '../../models/runtime/memory.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { ModelStore } from '../../models/store/store.ts'
import type { TestTensor } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { CONVOLVED, STATEFUL, TINY_SHAPE } from '../fixtures/random-model.ts'
import { deltaTensors, STATE_CONFIGS, writeFolder } from '../fixtures/state-checkpoints.ts'

function manifestOf(shape: typeof STATEFUL): Manifest {
  const random = randomManifest({ ...TINY_SHAPE, ...shape }, { bits: 4, blockSize: 32 })
  return { ...random, layers: random.layers.map(layer => ({ ...layer, sha256: 'a'.repeat(64) })) }
}

describe('a manifest with states', () => {
  const manifest = manifestOf(STATEFUL)

  it.each([STATEFUL, CONVOLVED])('is read as it was written: %#', shape => {
    const own = manifestOf(shape)
    expect(parseManifest(serializeManifest(own))).toEqual(own)
  })

  type Part = Record<string, unknown>
  type Parts = { attention: Part; recurrence: Part; blocks: Part[] }
  it.each<[string, (parts: Parts, manifest: Manifest) => void, RegExp]>([
    [
      'another kind',
      ({ recurrence }) => (recurrence.kind = 'rwkv'),
      /recurrence.*known are gated-delta, short/
    ],
    ['a convolution of one token', ({ recurrence }) => (recurrence.taps = 1), /taps/],
    ['a convolution of many', ({ recurrence }) => (recurrence.taps = 1e6), /taps/],
    ['value heads that share no keys', ({ recurrence }) => (recurrence.valueHeads = 3), /not a multiple/],
    ['heads of no size', ({ recurrence }) => (recurrence.keySize = 0), /keySize/],
    ['keys by turns that are false', ({ recurrence }) => (recurrence.keysByTurns = false), /keysByTurns/],
    ['a key that is not known', ({ recurrence }) => (recurrence.chunk = 64), /chunk/],
    ['attention as well', ({ blocks }) => (blocks[0]!.attention = blocks[2]!.attention), /attends, or has/],
    [
      'neither, nor a feed-forward part',
      ({ blocks }) => {
        delete blocks[0]!.recurrence
        blocks[0]!.feedForward = { kind: 'none' }
      },
      /attends, or has/
    ],
    ['neither, in a file that has both', ({ blocks }) => delete blocks[0]!.recurrence, /layer 1: tensor/],
    [
      'one part that is normalised behind',
      ({ blocks }) => Object.assign(blocks[0]!, { feedForward: { kind: 'none' }, norms: 'after' }),
      /a block of one part is normalised before it/
    ],
    ['a norm of each of no groups', ({ recurrence }) => (recurrence.groupNorm = true), /groupNorm/],
    ['no attention that has windows', ({ attention }) => (attention.window = 4), /attends, or has/],
    ['no attention that turns', ({ attention }) => (attention.rotary = 'half-split'), /attends, or has/],
    [
      'sizes that no model has',
      ({ recurrence }) => Object.assign(recurrence, { valueHeads: 1024, valueSize: 1024 }),
      /sizes multiply to more than any model has/
    ],
    ['other sizes than its file', ({ recurrence }) => (recurrence.valueSize = 16), /layer 1: tensor/],
    [
      'a decay of fewer heads',
      (_, { layers }) => {
        const decay = layers[1]!.tensors.find(({ name }) => name === 'decay')!
        decay.shape = [3]
        decay.bytes = 12
      },
      /tensor decay: float32 \(3\)/
    ],
    [
      'a convolution in blocks',
      (_, { layers }) => {
        const tensor = layers[1]!.tensors.find(({ name }) => name === 'convolution')!
        tensor.name = 'convolution.weight'
      },
      /tensor convolution.weight does not say how it is packed, or may not be/
    ]
  ])('is refused with %s', (_, change, message) => {
    const copy = structuredClone(manifest)
    const blocks = copy.shape.blocks as unknown as Part[]
    const [first] = blocks
    change({ attention: first!.attention as Part, recurrence: first!.recurrence as Part, blocks }, copy)
    expect(() => parseManifest(serializeManifest(copy))).toThrow(message)
  })

  it('takes memory a token for layers that attend, and the same for any number of tokens for the others', () => {
    const { shape } = manifest
    // A convolution's three last tokens of 2 * 2 * 16 + 32 channels, and a matrix of 16 by 8 for each of 4 heads: kept three times.
    expect(stateBytes(shape, [1, 2])).toBe(3 * 4 * (3 * 96 + 4 * 16 * 8))
    expect(kvBytes(shape, [1, 3], 100)).toBe(0)
    expect(stateBytes(shape, [3, 4])).toBe(0)
    expect(kvBytes(shape, [3, 4], 100)).toBe(100 * 2 * 2 * 16 * 4)
    const cache = (maxTokens: number) => kvCacheBytes(shape, [0, 5], { slots: 2, maxTokens })
    expect(cache(99) - cache(49)).toBe(2 * 50 * 2 * 2 * 16 * 4)
    expect(cache(0)).toBe(2 * (stateBytes(shape, [0, 5]) + 2 * 2 * 16 * 4))
  })
})

describe.each(Object.entries(STATE_CONFIGS))('config.json of %s', (_, config) => {
  const parse = (own: object) => parseConfig({ ...config, ...own }, 'config.json').shape

  it('says which layers attend', () => {
    const { blocks, layout } = parse({})
    expect(layout).toEqual([0, 1])
    expect(blocks.map(({ attention }) => attention.kind)).toEqual(['none', 'grouped-query'])
  })

  it('is refused with what is not known', () => {
    expect(() => parse({ layer_types: ['hyena', config.layer_types[1]] })).toThrow(/layer_types has "hyena"/)
    expect(() => parse({ layer_types: null, full_attention_interval: null })).toThrow(
      /layer_types: is missing/
    )
    expect(() => parse({ state_expansion: 2 })).toThrow(/the key "state_expansion" is not known/)
  })
})

it.each([
  ['qwen3_5', { attn_output_gate: false }, /attn_output_gate false for qwen3_5 is not supported/],
  ['qwen3_5', { linear_num_key_heads: null }, /linear_num_key_heads: is missing/],
  ['qwen3_5', { linear_num_value_heads: 3 }, /not a multiple of keyHeads/],
  ['qwen3_5', { linear_conv_kernel_dim: 'four' }, /linear_conv_kernel_dim/],
  ['lfm2', { conv_bias: true }, /conv_bias true for lfm2 is not supported/],
  ['lfm2', { conv_L_cache: undefined }, /conv_L_cache: is missing/],
  [
    'granitemoehybrid',
    { num_local_experts: 2, num_experts_per_tok: 3 },
    /used is more than there are experts/
  ],
  ['granitemoehybrid', { position_embedding_type: 'rope' }, /position_embedding_type "rope"/],
  ['granitemoehybrid', { mamba_proj_bias: true }, /mamba_proj_bias true/]
] as const)('%s is refused with %j', (name, own, message) => {
  expect(() => parseConfig({ ...STATE_CONFIGS[name], ...own }, 'config.json')).toThrow(message)
})

it('layers attend every so many-th where Qwen3.5 lists none, and LFM2 adjusts its feed-forward parts', () => {
  const listed = parseConfig(STATE_CONFIGS.qwen3_5, 'config.json').shape
  const { layer_types: _, ...unlisted } = STATE_CONFIGS.qwen3_5
  expect(parseConfig({ ...unlisted, full_attention_interval: 2 }, 'config.json').shape).toEqual(listed)
  // Two thirds of 72, in steps of 16.
  const lfm2 = parseConfig(STATE_CONFIGS.lfm2, 'config.json').shape
  expect(lfm2.ffnSize).toBe(48)
  // As its older files say it.
  const { layer_types: __, ...older } = STATE_CONFIGS.lfm2
  expect(parseConfig({ ...older, full_attn_idxs: [1] }, 'config.json').shape).toEqual(lfm2)
})

describe('Qwen3.5 as it is published', () => {
  async function imported(
    config: Record<string, unknown>,
    tensors: Map<string, TestTensor>,
    architectures?: readonly Architecture[]
  ) {
    await using folder = await temporaryFolder()
    const store = await ModelStore.open(join(folder.path, 'store'))
    await writeFolder(join(folder.path, 'model'), config, tensors)
    const notices: string[] = []
    const { id, manifest } = await importModel(join(folder.path, 'model'), store, {
      name: 'model',
      checkTokenizer: false,
      onNotice: notice => notices.push(notice),
      ...(architectures && { architectures })
    })
    return { id, manifest, notices: notices.join('\n') }
  }

  it('has its text read out of a model for images, without layers that guess: both are said', async () => {
    const tensors = deltaTensors()
    const alone = await imported(STATE_CONFIGS.qwen3_5, tensors)
    const more = [
      'model.visual.patch_embed.proj.weight',
      'mtp.layers.0.mlp.gate_proj.weight',
      'mtp.fc.weight'
    ]
    const pixels: TestTensor = { dtype: 'F32', shape: [1], bytes: new Uint8Array(4) }
    const wrapped = new Map([
      ...[...tensors].map(
        ([name, tensor]) => [name.replace(/^model\./, 'model.language_model.'), tensor] as const
      ),
      ...more.map(name => [name, pixels] as const)
    ])
    const config = {
      architectures: ['Qwen3_5ForConditionalGeneration'],
      ...{ model_type: 'qwen3_5', image_token_id: 40, video_token_id: 41 },
      ...{ vision_start_token_id: 42, vision_end_token_id: 43, vision_config: { depth: 1 } },
      text_config: STATE_CONFIGS.qwen3_5
    }
    const inside = await imported(config, wrapped)
    expect(inside.id).toBe(alone.id)
    expect(inside.notices).toMatch(/1 tensors for images \(model\.visual\) are left out/)
    expect(inside.notices).toMatch(/2 tensors of layers that guess further tokens are left out/)
  })

  it('is the same with the rows of each key head together, as Qwen3-Next has them', async () => {
    const tensors = deltaTensors()
    const alone = await imported(STATE_CONFIGS.qwen3_5, tensors)
    // Without its experts, which are not what is looked at.
    const { experts: _, ...dense } = qwen3Next
    const names = { huggingFace: { ...qwen35.names?.huggingFace, ...dense.names?.huggingFace } }
    const rows = (name: string, start: number, count: number) =>
      tensors
        .get(`model.layers.0.linear_attn.${name}.weight`)!
        .bytes.subarray(start * 128, (start + count) * 128)
    const fuse = (heads: (head: number) => Uint8Array[]) => Buffer.concat([...heads(0), ...heads(1)])
    const qkvz = fuse(head => [
      rows('in_proj_qkv', 8 * head, 8),
      rows('in_proj_qkv', 16 + 8 * head, 8),
      rows('in_proj_qkv', 32 + 16 * head, 16),
      rows('in_proj_z', 16 * head, 16)
    ])
    const ba = fuse(head => [rows('in_proj_b', 2 * head, 2), rows('in_proj_a', 2 * head, 2)])
    const fused = new Map(
      [...tensors].filter(([name]) => !/in_proj_/.test(name)).map(([name, tensor]) => [name, tensor] as const)
    )
    const prefix = 'model.layers.0.linear_attn.in_proj_'
    fused.set(`${prefix}qkvz.weight`, { dtype: 'F32', shape: [96, 32], bytes: new Uint8Array(qkvz) })
    fused.set(`${prefix}ba.weight`, { dtype: 'F32', shape: [8, 32], bytes: new Uint8Array(ba) })
    const {
      attn_output_gate: _gate,
      mtp_num_hidden_layers: _mtp,
      rope_parameters: _rope,
      ...plain
    } = STATE_CONFIGS.qwen3_5
    const config = { ...plain, model_type: 'qwen3_next', partial_rotary_factor: 0.5, rope_theta: 1e7 }
    const next = await imported(config, fused, [{ ...dense, names }])
    expect(next.manifest.layers).toEqual(alone.manifest.layers)
    expect(next.manifest.shape).toEqual({ ...alone.manifest.shape, architecture: 'qwen3_next' })
  })
})

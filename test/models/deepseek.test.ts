import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { GgufFile } from '../../models/formats/gguf.ts'
import { parseConfig } from '../../models/import/config.ts'
import { ggufConfig } from '../../models/import/gguf-config.ts'
import { importModel } from '../../models/import/import-model.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type GgufContent, writeGguf } from '../fixtures/gguf.ts'
import { importedModel } from '../fixtures/prepared.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

const CONFIG = {
  ...{ model_type: 'deepseek_v3', hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4 },
  ...{ num_attention_heads: 4, num_key_value_heads: 4, vocab_size: 160, max_position_embeddings: 128 },
  ...{ q_lora_rank: 24, kv_lora_rank: 32, qk_nope_head_dim: 16, qk_rope_head_dim: 8, v_head_dim: 12 },
  ...{ n_routed_experts: 8, num_experts_per_tok: 2, moe_intermediate_size: 32, n_group: 4, topk_group: 2 }
}
const parse = (own: object) => parseConfig({ ...CONFIG, ...own }, 'config.json')
const V2 = { model_type: 'deepseek_v2', topk_method: 'group_limited_greedy' }

describe('a config.json of DeepSeek', () => {
  const experts = {
    ...{ kind: 'experts', activation: 'silu', size: 32, experts: 8, used: 2, router: 'sigmoid' },
    ...{ corrected: true, normalised: true, groups: { count: 4, used: 2, score: 'best-two' } },
    shared: { size: 32 }
  }

  it('means latent vectors, dense layers first, and experts in groups', () => {
    const { shape, folds } = parse({})
    expect(shape).toMatchObject({ kvHeads: 1, headSize: 40, rope: { theta: 10_000, rotated: 8 } })
    expect(shape.layout).toEqual([0, 0, 0, 1])
    expect(shape.blocks[0]!.attention).toEqual({
      ...{ kind: 'latent', bias: 'none', queryKeyNorm: 'none', rotary: 'half-split' },
      latent: { size: 32, unturned: 16, value: 12, query: 24 },
      scale: 1 / Math.sqrt(24)
    })
    expect(shape.blocks[1]!.feedForward).toEqual(experts)
    expect(folds.experts).toBe(2.5)
  })

  it('is read key by key, and by what is so where it says nothing', () => {
    const { shape } = parse({ q_lora_rank: null, head_dim: 8, qk_head_dim: 24, topk_group: 4 })
    expect(shape.blocks[0]!.attention.latent).toEqual({ size: 32, unturned: 16, value: 12 })
    const { groups: _, ...ungrouped } = experts
    expect(shape.blocks[1]!.feedForward, 'all groups are looked at').toEqual(ungrouped)
    const { q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim, ...plain } = CONFIG
    const { blocks, headSize } = parseConfig(plain, 'config.json').shape
    expect(headSize).toBe(512 + 64)
    expect(blocks[0]!.attention.latent).toEqual({ size: 512, unturned: 128, value: 128, query: 1536 })
    const older = parse({ ...V2, first_k_dense_replace: 1, routed_scaling_factor: 16 })
    expect(older.shape.blocks[1]!.feedForward).toEqual({
      ...{ kind: 'experts', activation: 'silu', size: 32, experts: 8, used: 2, router: 'softmax' },
      ...{ groups: { count: 4, used: 2, score: 'highest' }, shared: { size: 64 } }
    })
    expect(older.folds.experts).toBe(16)
    const greedy = parse({ ...V2, topk_method: 'greedy', first_k_dense_replace: 1 })
    expect(greedy.shape.blocks[1]!.feedForward).not.toHaveProperty('groups')
  })

  it('stretches contexts by YaRN, which scales scores as well', () => {
    const yarn = { type: 'yarn', factor: 40, original_max_position_embeddings: 4096 }
    const { shape } = parse({ rope_scaling: { ...yarn, mscale: 0.5, mscale_all_dim: 0.8 } })
    const [ofTables, ofAll] = [0.5, 0.8].map(mscale => 0.1 * mscale * Math.log(40) + 1)
    expect(shape.rope.scaling).toMatchObject({ type: 'yarn', magnitude: ofTables! / ofAll! })
    expect(shape.blocks[0]!.attention.scale).toBeCloseTo(ofAll! ** 2 / Math.sqrt(24), 12)
    expect(parse({ rope_scaling: yarn }).shape.blocks[0]!.attention.scale).toBe(1 / Math.sqrt(24))
  })

  it.each([
    [{ kv_lora_rank: 0 }, /kv_lora_rank/],
    [{ kv_lora_rank: null }, /kv_lora_rank/],
    [{ kv_lora_rank: 33 }, /headSize is odd/],
    [{ qk_rope_head_dim: 2048 }, /headSize/],
    [{ v_head_dim: '12' }, /v_head_dim/],
    [{ num_key_value_heads: 2 }, /num_key_value_heads 2 for 4 heads is not supported/],
    [{ head_dim: 16 }, /head_dim is 16, but heads are of 24/],
    [{ qk_head_dim: 16 }, /qk_head_dim is 16, but heads are of 24/],
    [{ attention_bias: true }, /attention_bias for deepseek_v3 is not supported/],
    [{ rope_interleave: false }, /rope_interleave false for deepseek_v3 is not supported/],
    [{ scoring_func: 'softmax' }, /scoring_func "softmax" for deepseek_v3 is not supported/],
    [{ topk_method: 'greedy' }, /topk_method "greedy" is not supported; known are noaux_tc/],
    [{ moe_layer_freq: 2 }, /moe_layer_freq 2 for deepseek_v3 is not supported/],
    [{ n_group: 3 }, /groups do not fit the experts/],
    [{ n_group: 8 }, /groups do not fit the experts/],
    [{ topk_group: 5 }, /groups do not fit the experts/],
    [{ num_experts_per_tok: 5 }, /groups do not fit the experts/],
    [{ index_topk: 2048 }, /the key "index_topk" is not known for deepseek_v3/],
    [{ ...V2, topk_method: 'noaux_tc' }, /topk_method "noaux_tc" is not supported; known are greedy, group/],
    [{ ...V2, norm_topk_prob: true }, /norm_topk_prob true for deepseek_v2 is not supported/]
  ])('is refused with %j', (own, message) => {
    expect(() => parse(own)).toThrow(message)
  })

  it.each([
    [{ mlp_layer_types: ['dense'] }, /mlp_layer_types has 1 entries, not one a layer/],
    [{ mlp_layer_types: ['dense', 'moe', 'moe', 'moe'] }, /mlp_layer_types/],
    [
      { mlp_layer_types: ['dense', 'sparse', 'sparse', 'sparse'], first_k_dense_replace: 2 },
      /first_k_dense_replace and mlp_layer_types differ/
    ]
  ])('of GLM-4.7-Flash is refused with %j', (own, message) => {
    const glm = { model_type: 'glm4_moe_lite', n_group: 1, topk_group: 1 }
    expect(parse(glm).shape.layout).toEqual([0, 1, 1, 1])
    expect(() => parse({ ...glm, ...own })).toThrow(message)
  })
})

describe.skipIf(!hasSharedData)('a GGUF file of DeepSeek', () => {
  const path = sharedData('arch/deepseek2-mla/model.gguf')

  async function contentOf(): Promise<GgufContent> {
    const file = await GgufFile.open(path)
    const tensors: GgufContent['tensors'] = new Map()
    for (const [name, tensor] of file.tensors) {
      const bytes = new Uint8Array(tensor.bytes)
      await file.read(tensor, 0, bytes)
      tensors.set(name, { type: tensor.type.name, dims: tensor.dims, bytes })
    }
    const read = [...file.metadata].filter(([key]) => !/^(version|tensor_count|kv_count)$/.test(key))
    await file.close()
    return { metadata: Object.fromEntries(read), tensors }
  }

  /** Its metadata with other entries, read. */
  async function configWith(own: Record<string, unknown>, tensors: string[] = []) {
    const file = await GgufFile.open(path)
    const metadata = file.metadata as Map<string, unknown>
    for (const [key, value] of Object.entries(own)) metadata.set(`deepseek2.${key}`, value)
    for (const name of tensors) {
      const all = file.tensors as Map<string, unknown>
      all.set(name, file.tensors.get('blk.1.ffn_gate_inp.weight'))
    }
    return await ggufConfig(file).finally(() => file.close())
  }

  it('has the layers of its folder, to the byte, with keys and values apart and in one projection', async () => {
    await using folder = await temporaryFolder()
    await using ofFolder = await importedModel('arch/deepseek2-mla/hf', { checkTokenizer: false })
    const { layers, shape } = ofFolder.model.manifest
    const content = await contentOf()
    for (const form of ['apart', 'joined']) {
      const store = await ModelStore.open(join(folder.path, form))
      const file = join(folder.path, `${form}.gguf`)
      await writeGguf(file, form === 'apart' ? content : joined(content))
      const { manifest } = await importModel(file, store, { name: 'x', checkTokenizer: false })
      expect(manifest.layers, form).toEqual(layers)
      // GGUF has epsilons in float32.
      expect({ ...manifest.shape, normEpsilon: shape.normEpsilon }, form).toEqual(shape)
    }
  })

  it('says itself how its router weighs, and which groups there are', async () => {
    const feedForward = async (own: Record<string, unknown>, tensors: string[] = []) =>
      (await configWith(own, tensors)).shape.blocks[1]!.feedForward
    const groups = { expert_group_count: 4, expert_group_used_count: 2 }
    const ofOne = await feedForward({ expert_gating_func: 1 })
    expect(ofOne).toEqual(await feedForward({}))
    expect(ofOne).not.toHaveProperty('groups')
    expect(await feedForward(groups)).toMatchObject({
      ...{ router: 'softmax', groups: { count: 4, used: 2, score: 'highest' } }
    })
    const correction = 'blk.1.exp_probs_b.bias'
    const third = { expert_gating_func: 2, expert_weights_norm: true, ...groups }
    expect(await feedForward(third, [correction])).toMatchObject({
      ...{ router: 'sigmoid', corrected: true, normalised: true },
      groups: { count: 4, used: 2, score: 'best-two' }
    })
    expect(await feedForward(third)).not.toHaveProperty('corrected')
    expect(await feedForward({}, [correction])).toMatchObject({ router: 'sigmoid', corrected: true })
    await expect(feedForward({ expert_gating_func: 3 })).rejects.toThrow(
      /expert_gating_func 3 is not supported/
    )
  })

  it('has a tenth of the factor of all in its own key, and the same of tables', async () => {
    const yarn = { 'rope.scaling.type': 'yarn', 'rope.scaling.factor': 40 }
    const { shape } = await configWith({ ...yarn, 'rope.scaling.yarn_log_multiplier': 0.0707 })
    expect(shape.rope).toMatchObject({ rotated: 16, scaling: { type: 'yarn', factor: 40, magnitude: 1 } })
    const ofAll = 0.0707 * Math.log(40) + 1
    expect(shape.blocks[0]!.attention.scale).toBeCloseTo(ofAll ** 2 / Math.sqrt(48), 9)
    await expect(configWith(yarn)).rejects.toThrow(/yarn without deepseek2.rope.scaling.yarn_log_multiplier/)
  })

  it.each<[Record<string, unknown>, RegExp]>([
    [{ 'attention.key_length_mla': 16 }, /heads of 16 are no larger than the 16 values that are turned/],
    [{ 'attention.kv_lora_rank': 4096 }, /headSize/],
    [{ 'attention.kv_lora_rank': -1 }, /headSize|latent/],
    [{ 'attention.temperature_scale': 0.1 }, /"deepseek2.attention.temperature_scale" is not known/]
  ])('is refused with %j', async (own, message) => {
    await expect(configWith(own)).rejects.toThrow(message)
  })
})

/** As older converters wrote it: of each head the rows of its key, not transposed, then those of its value. */
function joined({ metadata, tensors }: GgufContent): GgufContent {
  const older: GgufContent['tensors'] = new Map()
  for (const [name, tensor] of tensors) {
    if (name.endsWith('attn_v_b.weight')) continue
    if (!name.endsWith('attn_k_b.weight')) {
      older.set(name, tensor)
      continue
    }
    const values = tensors.get(name.replace('attn_k_b', 'attn_v_b'))!
    const [heads = 0, size = 0, unturned = 0] = tensor.dims
    const value = values.dims[1]!
    const floats = (bytes: Uint8Array) => new Float32Array(bytes.slice().buffer)
    const [keys, ofValues] = [floats(tensor.bytes), floats(values.bytes)]
    const rows = unturned + value
    const both = new Float32Array(heads * rows * size)
    for (let head = 0; head < heads; head++) {
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < size; column++) {
          both[(head * rows + row) * size + column] =
            row < unturned
              ? keys[(head * size + column) * unturned + row]!
              : ofValues[(head * value + row - unturned) * size + column]!
        }
      }
    }
    const bytes = new Uint8Array(both.buffer)
    older.set(name.replace('attn_k_b', 'attn_kv_b'), { type: 'F32', dims: [heads * rows, size], bytes })
  }
  const prefix = 'deepseek2.attention'
  return {
    tensors: older,
    metadata: {
      ...metadata,
      ...{ [`${prefix}.key_length`]: 48, [`${prefix}.value_length`]: 32, [`${prefix}.head_count_kv`]: 4 },
      ...{ [`${prefix}.key_length_mla`]: undefined, [`${prefix}.value_length_mla`]: undefined },
      [`${prefix}.q_lora_rank`]: undefined
    }
  }
}

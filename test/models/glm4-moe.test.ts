import { readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { GgufFile } from '../../models/formats/gguf.ts'
import { parseConfig } from '../../models/import/config.ts'
import { ggufCheckpoint } from '../../models/import/gguf.ts'
import { importModel, planOptions } from '../../models/import/import-model.ts'
import { planLayers } from '../../models/import/layer-plan.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

describe('a config.json of GLM-4.5', () => {
  const config = {
    ...{ model_type: 'glm4_moe', hidden_size: 64, intermediate_size: 96, num_hidden_layers: 4 },
    ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16, vocab_size: 160 },
    ...{ max_position_embeddings: 128, n_routed_experts: 8, num_experts_per_tok: 2 },
    ...{ moe_intermediate_size: 32, n_group: 1, topk_group: 1 }
  }
  const parse = (own: object) => parseConfig({ ...config, ...own }, 'config.json')
  const experts = {
    ...{ kind: 'experts', activation: 'silu', size: 32, experts: 8, used: 2 },
    ...{ router: 'sigmoid', corrected: true, normalised: true, shared: { size: 32 } }
  }

  it('means dense layers first, then a corrected router, and what is so where it says nothing', () => {
    const { shape, folds } = parse({})
    expect(shape.layout).toEqual([0, 1, 1, 1])
    expect(shape.blocks.map(({ feedForward }) => feedForward)).toEqual([
      { kind: 'gated', activation: 'silu' },
      experts
    ])
    expect(shape.blocks[0]!.attention).toEqual({
      ...{ kind: 'grouped-query', bias: 'none', queryKeyNorm: 'none', rotary: 'half-split' }
    })
    expect(shape.rope).toEqual({ theta: 10_000, rotated: 8 })
    expect(folds.experts).toBe(1)
  })

  it('is read key by key', () => {
    const { shape, folds } = parse({
      ...{ first_k_dense_replace: 2, n_shared_experts: 3, norm_topk_prob: false, routed_scaling_factor: 2.5 },
      ...{ use_qk_norm: true, attention_bias: true }
    })
    const { normalised: _, ...plain } = experts
    expect(shape.layout).toEqual([0, 0, 1, 1])
    expect(shape.blocks[1]!.feedForward).toEqual({ ...plain, shared: { size: 96 } })
    expect(shape.blocks[1]!.attention).toMatchObject({ bias: 'qkv', queryKeyNorm: 'head' })
    expect(folds.experts).toBe(2.5)
    const { shared: __, ...alone } = experts
    expect(parse({ first_k_dense_replace: 0, n_shared_experts: 0 }).shape.blocks[0]!.feedForward).toEqual(
      alone
    )
  })

  it.each([
    [{ n_group: 8 }, /n_group 8 for glm4_moe is not supported/],
    [{ topk_group: 4 }, /topk_group 4 for glm4_moe is not supported/],
    [{ use_qk_norm: 1 }, /use_qk_norm is neither true nor false/],
    [{ first_k_dense_replace: -1 }, /first_k_dense_replace/],
    [{ n_shared_experts: 0.5 }, /n_shared_experts/],
    [{ routed_scaling_factor: 0 }, /routed_scaling_factor is 0, not a number above 0/],
    [{ num_nextn_predict_layers: 17 }, /num_nextn_predict_layers/],
    [{ scoring_func: 'softmax' }, /the key "scoring_func" is not known for glm4_moe/],
    [{ model_type: 'qwen3_moe', num_nextn_predict_layers: 1 }, /"n_routed_experts" is not known|num_nextn/]
  ])('is refused with %j', (own, message) => {
    expect(() => parse(own)).toThrow(message)
  })
})

describe.skipIf(!hasSharedData)('layers that guess further tokens', () => {
  const golden = (file: string) => sharedData(`arch/glm4-moe/${file}`)

  it('of a folder are left out, and said to be; they are refused where nothing says that there are any', async () => {
    await using folder = await temporaryFolder()
    for (const name of ['model.safetensors', 'tokenizer.json', 'tokenizer_config.json']) {
      await symlink(golden(`hf/${name}`), join(folder.path, name))
    }
    const config = JSON.parse(await readFile(golden('hf/config.json'), 'utf8'))
    const imported = async (own: object) => {
      await writeFile(join(folder.path, 'config.json'), JSON.stringify({ ...config, ...own }))
      await using target = await temporaryFolder()
      const store = await ModelStore.open(target.path)
      const notices: string[] = []
      const { manifest } = await importModel(folder.path, store, {
        ...{ name: 'x', checkTokenizer: false, onNotice: (notice: string) => void notices.push(notice) }
      })
      return { layers: manifest.shape.decoderLayers, notices }
    }
    const { layers, notices } = await imported({ num_hidden_layers: 3, num_nextn_predict_layers: 1 })
    expect(layers).toBe(3)
    expect(notices).toContainEqual(
      expect.stringMatching(/^\d+ tensors of layers that guess further tokens are left out$/)
    )
    await expect(imported({ num_hidden_layers: 3 })).rejects.toThrow(
      /tensor "model\.layers\.3\..* is not part/
    )
    // More layers than are told.
    await expect(imported({ num_hidden_layers: 2, num_nextn_predict_layers: 1 })).rejects.toThrow(
      /tensor "model\.layers\.3\..* is not part/
    )
  })

  async function checkpoint(...entries: [key: string, value: unknown][]) {
    const file = await GgufFile.open(golden('model.gguf'))
    const metadata = file.metadata as Map<string, unknown>
    for (const [key, value] of entries) metadata.set(`glm4moe.${key}`, value)
    const opened = await ggufCheckpoint(file)
    await opened.source.close()
    return opened
  }

  it('of a GGUF file, which counts them, are left out as well', async () => {
    const opened = await checkpoint(['nextn_predict_layers', 1])
    expect(opened.config.shape.decoderLayers).toBe(3)
    expect(opened.dropped.length).toBeGreaterThan(10)
    expect(opened.dropped.every(name => name.startsWith('blk.3.'))).toBe(true)
    expect(opened.guessing).toEqual(opened.dropped)
    expect(planLayers(planOptions(opened))).toHaveLength(5)
    expect((await checkpoint()).dropped).toEqual([])
  })

  it.each<[string, unknown, RegExp]>([
    ['expert_gating_func', 1, /expert_gating_func is not what glm4_moe has/],
    ['expert_group_count', 8, /expert_group_count is not what glm4_moe has/],
    ['expert_group_used_count', 4, /expert_group_used_count is not what glm4_moe has/],
    ['nextn_predict_layers', -1, /nextn_predict_layers is -1/],
    ['nextn_predict_layers', 4, /decoderLayers|block_count|layer/]
  ])('a GGUF file is refused with %s %j', async (key, value, message) => {
    await expect(checkpoint([key, value])).rejects.toThrow(message)
  })

  it('a GGUF file says itself whether weights are divided by their sum, and what they are multiplied with', async () => {
    const of = async (...entries: [string, unknown][]) => (await checkpoint(...entries)).config
    const said = await of(['expert_weights_norm', false], ['expert_weights_scale', 3])
    expect(said.shape.blocks[1]!.feedForward).not.toHaveProperty('normalised')
    expect(said.folds.experts).toBe(3)
    const plain = await of(['expert_group_count', 1], ['expert_gating_func', 0])
    expect(plain.shape.blocks[1]!.feedForward).toMatchObject({ normalised: true, router: 'sigmoid' })
    expect(plain.folds.experts).toBe(1.5)
  })
})

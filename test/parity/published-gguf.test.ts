import { join } from 'node:path'
import { expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type GgufContent, writeGguf } from '../fixtures/gguf.ts'
import { graniteHybridGguf } from '../fixtures/granite-hybrid-gguf.ts'
import { lfm2MoeGguf } from '../fixtures/lfm2-moe-gguf.ts'
import { FFN, writeFamily } from '../fixtures/published-checkpoint.ts'
import {
  FACTORS,
  FAMILIES,
  hasWindow,
  LLAMA,
  type PublishedCase,
  STATES,
  WINDOW
} from '../fixtures/published-families.ts'
import { interleaved, type PublishedForm, publishedGguf } from '../fixtures/published-gguf.ts'
import type { PublishedFamily } from '../reference/published.ts'

const [GRANITE_HYBRID, LFM2_MOE] = ['granitemoehybrid', 'lfm2_moe'].map(
  type => FAMILIES.find(([name]) => name === type)!
) as [PublishedCase, PublishedCase]

/** Checks that a folder of a family, and a GGUF file of the same tensors, become the same layers. */
async function expectSameLayers(
  [type, config, family]: PublishedCase,
  toGguf: (tensors: ReadonlyMap<string, Float64Array>, family: PublishedFamily) => GgufContent
): Promise<void> {
  await using folder = await temporaryFolder()
  const [dir, path] = [join(folder.path, 'checkpoint'), join(folder.path, 'model.gguf')]
  const tensors = await writeFamily(dir, type, config, family)
  await writeGguf(path, toGguf(tensors, family))
  const store = await ModelStore.open(join(folder.path, 'store'))
  const options = { checkTokenizer: false }
  const { manifest } = await importModel(dir, store, { name: 'folder', ...options })
  const other = await importModel(path, store, { name: 'file', ...options })
  expect(other.manifest.layers).toEqual(manifest.layers)
  expect(other.manifest.shape).toEqual(manifest.shape)
}

const HUNYUAN = {
  'self_attn.query_layernorm.weight': 'attn_q_norm.weight',
  'self_attn.key_layernorm.weight': 'attn_k_norm.weight'
}
const EXPERT_COUNTS = ({ experts }: PublishedFamily) => ({
  expert_count: experts!.count,
  expert_used_count: experts!.used
})
const BEHIND = {
  'post_attention_layernorm.weight': 'post_attention_norm.weight',
  'post_feedforward_layernorm.weight': 'post_ffw_norm.weight'
}
const WINDOWS = ({ layers }: PublishedFamily) => ({
  'attention.sliding_window': WINDOW,
  'attention.sliding_window_pattern': Array.from({ length: layers }, (_, layer) => hasWindow(layer))
})
const BLOCK_SPARSE = {
  'block_sparse_moe.gate.weight': 'ffn_gate_inp.weight',
  'block_sparse_moe.e_score_correction_bias': 'exp_probs_b.bias',
  'block_sparse_moe.experts.w1.weight': 'ffn_gate_exps.weight',
  'block_sparse_moe.experts.w3.weight': 'ffn_up_exps.weight',
  'block_sparse_moe.experts.w2.weight': 'ffn_down_exps.weight'
}

const DOTS = (family: PublishedFamily) => ({
  ...EXPERT_COUNTS(family),
  ...{ leading_dense_block_count: 1, expert_shared_count: 2, expert_feed_forward_length: 24 },
  ...{ expert_weights_scale: 2.5, expert_weights_norm: true, expert_gating_func: 2 }
})

/** How llama.cpp's converter writes families that have no golden model: what config.json has otherwise, and the file's form. */
const FORMS: [
  type: string,
  own: Record<string, unknown>,
  form: PublishedForm,
  change?: (family: PublishedFamily) => Partial<PublishedFamily>
][] = [
  [
    'seed_oss',
    {},
    { architecture: 'seed_oss', names: { 'post_attention_layernorm.weight': 'post_attention_norm.weight' } }
  ],
  ['ernie4_5', {}, { architecture: 'ernie4_5' }],
  [
    'ernie4_5_moe',
    // Its files have no last layer with experts: it is the model's.
    { moe_layer_end_index: 3 },
    {
      architecture: 'ernie4_5-moe',
      names: { 'mlp.moe_statics.e_score_correction_bias': 'exp_probs_b.bias' },
      change: { 'exp_probs_b.bias': ({ dims, values }) => ({ dims: [dims.at(-1)!], values }) },
      metadata: family => ({
        ...EXPERT_COUNTS(family),
        ...{ interleave_moe_layer_step: 1, leading_dense_block_count: 1, expert_feed_forward_length: 24 },
        ...{ expert_shared_count: 2, expert_shared_feed_forward_length: 48 }
      })
    },
    family => ({ experts: { ...family.experts!, last: 3 } })
  ],
  [
    'hunyuan_v1_dense',
    { rope_scaling: null, rope_theta: 10_000 },
    { architecture: 'hunyuan-dense', names: HUNYUAN },
    () => ({ theta: 10_000 })
  ],
  [
    'hunyuan_v1_moe',
    {},
    {
      architecture: 'hunyuan-moe',
      names: {
        ...HUNYUAN,
        'mlp.gate.wg.weight': 'ffn_gate_inp.weight',
        'mlp.shared_mlp.gate_proj.weight': 'ffn_gate_shexp.weight',
        'mlp.shared_mlp.up_proj.weight': 'ffn_up_shexp.weight',
        'mlp.shared_mlp.down_proj.weight': 'ffn_down_shexp.weight'
      },
      metadata: family => ({
        ...EXPERT_COUNTS(family),
        ...{ expert_feed_forward_length: 48, expert_shared_count: 1, expert_shared_feed_forward_length: 48 },
        ...{ 'rope.scaling.type': 'none', 'rope.scaling.factor': 1 }
      })
    }
  ],
  ['exaone4', {}, { architecture: 'exaone4', names: BEHIND, metadata: WINDOWS }],
  ['exaone4', { sliding_window: null }, { architecture: 'exaone4', names: BEHIND }],
  ['olmo3', { rope_scaling: null }, { architecture: 'olmo2', names: BEHIND, metadata: WINDOWS }],
  [
    'granitemoe',
    { attention_multiplier: 0.25 },
    {
      architecture: 'granitemoe',
      names: {
        'block_sparse_moe.router.layer.weight': 'ffn_gate_inp.weight',
        'block_sparse_moe.input_linear.weight': ['ffn_gate_exps.weight', 'ffn_up_exps.weight'],
        'block_sparse_moe.output_linear.weight': 'ffn_down_exps.weight'
      },
      change: { 'attn_q.weight': interleaved(LLAMA.heads), 'attn_k.weight': interleaved(LLAMA.kvHeads) },
      metadata: family => ({
        ...EXPERT_COUNTS(family),
        ...{ embedding_scale: FACTORS.embedding, residual_scale: FACTORS.residual },
        ...{ 'attention.scale': 0.25, logit_scale: FACTORS.logits }
      })
    }
  ],
  ['olmoe', {}, { architecture: 'olmoe', metadata: EXPERT_COUNTS }],
  [
    'glm4',
    {},
    {
      architecture: 'glm4',
      names: {
        'post_self_attn_layernorm.weight': 'post_attention_norm.weight',
        'post_mlp_layernorm.weight': 'post_ffw_norm.weight',
        'mlp.gate_up_proj.weight': 'ffn_up.weight'
      }
    }
  ],
  [
    'arcee',
    {},
    {
      architecture: 'arcee',
      change: { 'attn_q.weight': interleaved(LLAMA.heads), 'attn_k.weight': interleaved(LLAMA.kvHeads) }
    }
  ],
  [
    'qwen3_vl_text',
    {},
    {
      architecture: 'qwen3vl',
      metadata: () => ({ n_deepstack_layers: 3, 'rope.dimension_sections': [3, 3, 2, 0] })
    }
  ],
  [
    'dots1',
    {},
    {
      architecture: 'dots1',
      names: { 'mlp.gate.e_score_correction_bias': 'exp_probs_b.bias' },
      metadata: DOTS
    }
  ],
  [
    'dots1',
    // Windows begin at a layer that it has not.
    { sliding_window: WINDOW },
    {
      architecture: 'dots1',
      names: { 'mlp.gate.e_score_correction_bias': 'exp_probs_b.bias' },
      metadata: family => ({ ...DOTS(family), 'attention.sliding_window': WINDOW })
    }
  ],
  [
    'bailing_moe',
    {},
    {
      architecture: 'bailingmoe2',
      names: {
        'model.word_embeddings.weight': 'token_embd.weight',
        'attention.query_key_value.weight': 'attn_qkv.weight',
        'attention.query_layernorm.weight': 'attn_q_norm.weight',
        'attention.key_layernorm.weight': 'attn_k_norm.weight',
        'attention.dense.weight': 'attn_output.weight',
        'mlp.gate.expert_bias': 'exp_probs_b.bias'
      },
      metadata: family => ({
        ...EXPERT_COUNTS(family),
        ...{ leading_dense_block_count: 1, expert_shared_count: 2, expert_feed_forward_length: 24 },
        ...{ expert_shared_feed_forward_length: 48, expert_weights_scale: 2.5, expert_weights_norm: true },
        ...{ expert_gating_func: 2, expert_group_count: 3, expert_group_used_count: 2 },
        nextn_predict_layers: 0
      })
    }
  ],
  [
    'minimax_m2',
    {},
    {
      ...{ architecture: 'minimax-m2', names: BLOCK_SPARSE },
      metadata: family => ({
        ...EXPERT_COUNTS(family),
        ...{ expert_feed_forward_length: FFN, expert_gating_func: 2 }
      })
    }
  ]
]

it.each(FORMS)(
  'a GGUF file of %s %j, as llama.cpp writes it, becomes the same layers',
  async (type, own, form, change) => {
    const [, config, family] = FAMILIES.find(([name]) => name === type)!
    // GGUF's numbers have 32 bits.
    const single = { ...family, epsilon: 2 ** -16, ...change?.(family) }
    await expectSameLayers([type, { ...config, ...own }, single], (tensors, given) =>
      publishedGguf(tensors, given, form)
    )
  }
)

it('a GGUF file of Granite 4.0-H with experts, as llama.cpp writes it, becomes the same layers', async () => {
  const [type, config, family] = GRANITE_HYBRID
  // With several groups llama.cpp normalises each apart; no model of them has more than one.
  const stateSpace = { ...family.stateSpace!, spec: { ...STATES, groups: 1 } }
  // GGUF's numbers have 32 bits.
  const single = { ...family, stateSpace, epsilon: 2 ** -16, factors: { ...FACTORS, scores: 0.25 } }
  const own = { ...config, mamba_n_groups: 1, attention_multiplier: 0.25 }
  await expectSameLayers([type, own, single], graniteHybridGguf)
})

it('a GGUF file of LFM2 with experts, as llama.cpp writes it, becomes the same layers', async () => {
  const [type, config, family] = LFM2_MOE
  const epsilon = 2 ** -16
  await expectSameLayers([type, { ...config, norm_eps: epsilon }, { ...family, epsilon }], lfm2MoeGguf)
})

import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { type GgufContent, writeGguf } from '../fixtures/gguf.ts'
import { graniteHybridGguf } from '../fixtures/granite-hybrid-gguf.ts'
import { lfm2MoeGguf } from '../fixtures/lfm2-moe-gguf.ts'
import { FFN, HIDDEN, VOCABULARY, writeFamily } from '../fixtures/published-checkpoint.ts'
import { interleaved, type PublishedForm, publishedGguf } from '../fixtures/published-gguf.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { type PublishedFamily, publishedLogProbabilities } from '../reference/published.ts'

const WINDOW = 5
const PROMPT = Array.from({ length: 13 }, (_, i) => (i * 23 + 5) % VOCABULARY)
const COUNT = 6
/** Float32 against float64. */
const TOLERANCE = 1e-4

const LLAMA: PublishedFamily = {
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  layers: 4,
  epsilon: 1e-5,
  theta: 10_000,
  rotated: 16,
  interleaved: false,
  isTurned: () => true,
  divisor: () => 1,
  window: () => Number.POSITIVE_INFINITY,
  bias: false,
  queryKeyNorm: 'none',
  norms: { attention: 'input_layernorm', mlp: 'post_attention_layernorm' },
  fusedGateUp: false,
  tied: false
}
const hasWindow = (layer: number) => (layer + 1) % 4 !== 0
const windows = (layer: number) => (hasWindow(layer) ? WINDOW : Number.POSITIVE_INFINITY)
const OUT = { attentionOut: 'post_attention_layernorm', mlpOut: 'post_feedforward_layernorm' }
const GLM = { rotated: 8, interleaved: true, fusedGateUp: true }

const EXPERTS = { count: 6, used: 2, stacked: false, module: 'mlp', router: 'gate', normalised: false }
const STATES = {
  kind: 'state-space',
  heads: 4,
  headSize: 16,
  groups: 2,
  stateSize: 8,
  taps: 4,
  bias: true
} as const
const FACTORS = { embedding: 3, residual: 0.5, scores: 0.2, logits: 4 }

/** Families without a golden model: what config.json says, and how their code computes. */
const FAMILIES: [type: string, config: Record<string, unknown>, family: PublishedFamily][] = [
  ['seed_oss', { attention_bias: true, attention_out_bias: false }, { ...LLAMA, bias: true }],
  ['ernie4_5', { use_bias: false }, { ...LLAMA, interleaved: true, tied: true }],
  ['glm', { attention_bias: true, partial_rotary_factor: 0.5 }, { ...LLAMA, ...GLM, bias: true }],
  [
    'glm4',
    {},
    {
      ...LLAMA,
      ...GLM,
      norms: { ...LLAMA.norms, attentionOut: 'post_self_attn_layernorm', mlpOut: 'post_mlp_layernorm' }
    }
  ],
  [
    'exaone4',
    { sliding_window: WINDOW, sliding_window_pattern: 'LLLG' },
    { ...LLAMA, queryKeyNorm: 'head', norms: OUT, window: windows, isTurned: hasWindow }
  ],
  [
    'olmoe',
    { num_experts: 6, num_experts_per_tok: 2, norm_topk_prob: false, clip_qkv: null },
    { ...LLAMA, queryKeyNorm: 'all', experts: EXPERTS }
  ],
  [
    'olmoe',
    { num_experts: 6, num_experts_per_tok: 3, norm_topk_prob: true },
    { ...LLAMA, queryKeyNorm: 'all', experts: { ...EXPERTS, used: 3, normalised: true } }
  ],
  [
    'granitemoe',
    {
      num_local_experts: 6,
      num_experts_per_tok: 2,
      embedding_multiplier: FACTORS.embedding,
      residual_multiplier: FACTORS.residual,
      attention_multiplier: FACTORS.scores,
      logits_scaling: FACTORS.logits
    },
    {
      ...LLAMA,
      factors: FACTORS,
      experts: {
        ...{ ...EXPERTS, stacked: true, normalised: true },
        ...{ module: 'block_sparse_moe', router: 'router.layer' }
      }
    }
  ],
  [
    'ernie4_5_moe',
    {
      ...{ moe_num_experts: 6, moe_k: 2, moe_intermediate_size: 24, moe_num_shared_experts: 2 },
      ...{ moe_layer_start_index: 1, moe_layer_end_index: 2, moe_layer_interval: 1, moe_gate: 'topk' },
      ...{ moe_capacity: [6, 6, 6], moe_use_aux_free: true, use_bias: false, use_rmsnorm: true }
    },
    {
      ...{ ...LLAMA, interleaved: true, tied: true },
      experts: {
        ...{ ...EXPERTS, normalised: true, dense: 1, last: 2, size: 24 },
        ...{ correction: 'moe_statics.e_score_correction_bias', correctionRank: 1 },
        shared: { module: 'mlp.shared_experts', times: 2 }
      }
    }
  ],
  [
    'hunyuan_v1_dense',
    {
      rope_theta: 100,
      rope_scaling: { type: 'dynamic', alpha: 50, factor: 1, beta_fast: 32, beta_slow: 1, mscale: 1 },
      ...{ use_qk_norm: true, use_cla: false, cla_share_factor: 2, attention_head_dim: 16 }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'head-turned', theta: 100 * 50 ** (16 / 14) },
      names: { headNorms: { q: 'query_layernorm', k: 'key_layernorm' } }
    }
  ],
  [
    'hunyuan_v1_moe',
    {
      ...{ num_experts: 6, moe_topk: [2, 2, 2, 2], moe_intermediate_size: [48, 48, 48, 48] },
      ...{ num_shared_expert: [1, 1, 1, 1], use_mixed_mlp_moe: true, norm_topk_prob: true },
      ...{ use_qk_norm: true, use_cla: false, moe_drop_tokens: false, moe_layer_num_skipped: 0 }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'head-turned' },
      names: { headNorms: { q: 'query_layernorm', k: 'key_layernorm' } },
      experts: {
        ...{ ...EXPERTS, normalised: true, router: 'gate.wg' },
        shared: { module: 'mlp.shared_mlp', times: 1 }
      }
    }
  ],
  [
    'lfm2_moe',
    {
      ...{ num_experts: 6, num_experts_per_tok: 3, moe_intermediate_size: 24, num_dense_layers: 1 },
      ...{ norm_topk_prob: true, use_expert_bias: true, routed_scaling_factor: 1, norm_eps: 1e-5 },
      ...{ layer_types: ['conv', 'conv', 'full_attention', 'conv'], conv_L_cache: 3, conv_bias: false }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'head', tied: true },
      norms: { attention: 'operator_norm', mlp: 'ffn_norm' },
      names: {
        ...{ norm: 'embedding_norm', output: 'out_proj' },
        headNorms: { q: 'q_layernorm', k: 'k_layernorm' },
        ...{ dense: 'feed_forward', parts: ['w1', 'w3', 'w2'] }
      },
      shortConvolution: { taps: 3, isOf: layer => layer !== 2 },
      experts: {
        ...{ ...EXPERTS, used: 3, normalised: true, module: 'feed_forward', dense: 1, size: 24 },
        ...{ logistic: true, correction: 'expert_bias', parts: ['w1', 'w3', 'w2'] }
      }
    }
  ],
  [
    'granitemoehybrid',
    {
      ...{ num_local_experts: 6, num_experts_per_tok: 2, shared_intermediate_size: 2 * FFN },
      ...{ layer_types: ['mamba', 'mamba', 'attention', 'mamba'], position_embedding_type: 'nope' },
      ...{ mamba_n_heads: 4, mamba_d_head: 16, mamba_d_state: 8, mamba_d_conv: 4, mamba_n_groups: 2 },
      embedding_multiplier: FACTORS.embedding,
      residual_multiplier: FACTORS.residual,
      attention_multiplier: FACTORS.scores,
      logits_scaling: FACTORS.logits
    },
    {
      ...{ ...LLAMA, isTurned: () => false, factors: FACTORS },
      stateSpace: { spec: STATES, isOf: layer => layer !== 2 },
      experts: {
        ...{ ...EXPERTS, stacked: true, normalised: true },
        ...{ module: 'block_sparse_moe', router: 'router.layer' },
        shared: { module: 'shared_mlp', times: 2, linear: true }
      }
    }
  ],
  [
    'minimax_m2',
    {
      ...{ num_local_experts: 6, num_experts_per_tok: 2, rotary_dim: 8, scoring_func: 'sigmoid' },
      ...{
        use_routing_bias: true,
        use_qk_norm: true,
        qk_norm_type: 'per_layer',
        attn_type_list: [1, 1, 1, 1]
      },
      ...{ shared_intermediate_size: 0, use_mtp: true, num_mtp_modules: 3, layernorm_mlp_beta: 1 }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'all', rotated: 8 },
      experts: {
        ...{ ...EXPERTS, normalised: true, module: 'block_sparse_moe' },
        ...{ logistic: true, correction: 'e_score_correction_bias', parts: ['w1', 'w3', 'w2'] }
      }
    }
  ],
  ['exaone4', { sliding_window: null }, { ...LLAMA, queryKeyNorm: 'head', norms: OUT }],
  ['arcee', { hidden_act: 'relu2' }, { ...LLAMA, ungated: true }],
  [
    'qwen3_vl_text',
    { rope_scaling: { rope_type: 'default', mrope_section: [3, 3, 2], mrope_interleaved: true } },
    { ...LLAMA, queryKeyNorm: 'head' }
  ],
  [
    'qwen3_vl_moe_text',
    {
      ...{ num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 24, norm_topk_prob: true },
      ...{ mlp_only_layers: [1], decoder_sparse_step: 1 }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'head' },
      experts: { ...EXPERTS, normalised: true, size: 24, transposed: true, without: [1] }
    }
  ],
  [
    'dots1',
    {
      ...{ n_routed_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 24, n_shared_experts: 2 },
      ...{ norm_topk_prob: true, routed_scaling_factor: 2.5, scoring_func: 'noaux_tc', n_group: 1 },
      ...{ topk_group: 1, first_k_dense_replace: 1, sliding_window: null, max_window_layers: 62 }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'head' },
      experts: {
        ...{ ...EXPERTS, normalised: true, dense: 1, size: 24, logistic: true, scale: 2.5 },
        ...{ correction: 'gate.e_score_correction_bias' },
        shared: { module: 'mlp.shared_experts', times: 2 }
      }
    }
  ],
  [
    'bailing_moe',
    {
      ...{ num_experts: 6, num_experts_per_tok: 2, moe_intermediate_size: 24, num_shared_experts: 2 },
      ...{ norm_topk_prob: true, routed_scaling_factor: 2.5, score_function: 'sigmoid', n_group: 3 },
      ...{ topk_group: 2, first_k_dense_replace: 1, partial_rotary_factor: 0.5, use_qk_norm: true },
      ...{ use_bias: false, use_qkv_bias: false, moe_router_enable_expert_bias: true, router_dtype: 'fp32' }
    },
    {
      ...{ ...LLAMA, queryKeyNorm: 'head', rotated: 8 },
      names: {
        ...{ embedding: 'word_embeddings', attention: 'attention', qkv: 'query_key_value', output: 'dense' },
        headNorms: { q: 'query_layernorm', k: 'key_layernorm' }
      },
      experts: {
        ...{ ...EXPERTS, normalised: true, dense: 1, size: 24, logistic: true, scale: 2.5 },
        ...{ correction: 'gate.expert_bias', groups: { count: 3, used: 2 } },
        shared: { module: 'mlp.shared_experts', times: 2 }
      }
    }
  ],
  [
    'olmo3',
    { sliding_window: WINDOW, rope_scaling: { rope_type: 'linear', factor: 4 } },
    {
      ...LLAMA,
      queryKeyNorm: 'all',
      norms: OUT,
      window: windows,
      divisor: layer => (hasWindow(layer) ? 1 : 4)
    }
  ]
]

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

const [GRANITE_HYBRID, LFM2_MOE] = ['granitemoehybrid', 'lfm2_moe'].map(
  type => FAMILIES.find(([name]) => name === type)!
) as [(typeof FAMILIES)[number], (typeof FAMILIES)[number]]

it.each(FAMILIES)('%s %j computes as its published code, whole and cut', async (type, config, family) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  const tensors = await writeFamily(dir, type, config, family)
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { manifest } = await importModel(dir, store, { name: 'x', checkTokenizer: false })
  const model = { manifest, blobsDir: store.blobsDir }
  for (const cuts of [[], [1, 2, 3, 4, 5]]) {
    await using stages = await LocalStages.open(runtime, model, cuts)
    const drawn = await stages.generate(PROMPT, COUNT)
    const tokens = [...PROMPT, ...drawn.map(({ id }) => id)]
    const expected = publishedLogProbabilities(family, name => tensors.get(name)!, HIDDEN, tokens)
    drawn.forEach(({ top }, i) => {
      const here = expected[PROMPT.length - 1 + i]!
      for (const { id, logprob } of top) expect(Math.abs(logprob - here[id]!)).toBeLessThan(TOLERANCE)
      expect(here[top[0]!.id]).toBeCloseTo(Math.max(...here), 3)
    })
  }
})

/** Checks that a folder of a family, and a GGUF file of the same tensors, become the same layers. */
async function expectSameLayers(
  [type, config, family]: (typeof FAMILIES)[number],
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
      metadata: family => ({
        ...EXPERT_COUNTS(family),
        ...{ leading_dense_block_count: 1, expert_shared_count: 2, expert_feed_forward_length: 24 },
        ...{ expert_weights_scale: 2.5, expert_weights_norm: true, expert_gating_func: 2 }
      })
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

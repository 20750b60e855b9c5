import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { ModelStore } from '../../models/store/store.ts'
import { asGguf } from '../fixtures/as-gguf.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { writeGguf } from '../fixtures/gguf.ts'
import { writeRandom } from '../fixtures/published-checkpoint.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { type NemotronConfig, nemotronLogProbabilities, nemotronShapes } from '../reference/nemotron-h.ts'

const VOCABULARY = 64
/** More than a chunk of a prompt: the first one skips the head. */
const PROMPT = Array.from({ length: 41 }, (_, i) => (i * 23 + 5) % VOCABULARY)
const COUNT = 4
/** Float32 against float64. */
const TOLERANCE = 1e-4

/** A layer of each part, each once behind each other that models have it behind, and two that mix tokens in a row. */
const NANO: NemotronConfig = {
  ...{ hidden_size: 32, intermediate_size: 24, layer_norm_epsilon: 2 ** -16 },
  ...{ num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16, hybrid_override_pattern: 'MEM*EME' },
  ...{ mamba_num_heads: 4, mamba_head_dim: 16, n_groups: 2, ssm_state_size: 8, conv_kernel: 4 },
  ...{ n_routed_experts: 6, num_experts_per_tok: 3, moe_intermediate_size: 24 },
  ...{ moe_shared_expert_intermediate_size: 40, norm_topk_prob: true, routed_scaling_factor: 2.5 }
}
const DENSE: NemotronConfig = { ...NANO, hybrid_override_pattern: 'M-M*-', n_groups: 1 }

function configOf(config: NemotronConfig, own: Record<string, unknown> = {}): Record<string, unknown> {
  const { n_routed_experts, num_experts_per_tok, moe_intermediate_size, ...dense } = config
  const hasExperts = config.hybrid_override_pattern.includes('E')
  return {
    ...(hasExperts ? config : dense),
    ...{ model_type: 'nemotron_h', architectures: ['NemotronHForCausalLM'], mlp_hidden_act: 'relu2' },
    ...{ mamba_hidden_act: 'silu', use_conv_bias: true, use_bias: false, mlp_bias: false, expand: 2 },
    ...{
      num_hidden_layers: config.hybrid_override_pattern.length,
      vocab_size: VOCABULARY,
      rope_theta: 10_000
    },
    ...{ max_position_embeddings: 128, bos_token_id: 1, eos_token_id: 2, n_group: 1, topk_group: 1 },
    ...own
  }
}

/** The same model as newer files say it. */
const BY_WORDS = {
  hybrid_override_pattern: undefined,
  num_hidden_layers: undefined,
  layers_block_type: ['linear_attention', 'moe', 'mamba', 'full_attention', 'moe', 'mamba', 'moe'],
  time_step_limit: [0, { __float__: 'Infinity' }]
}

const CASES: [what: string, config: NemotronConfig, own: Record<string, unknown>][] = [
  ['Nemotron-H: a head size by its older name', DENSE, { head_dim: undefined, attention_head_dim: 16 }],
  ['Nemotron 3 Nano: experts, groups normalised apart', NANO, {}],
  ['the same, by words', NANO, BY_WORDS]
]

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

it.each(CASES)('%s', async (_, config, own) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  const tensors = await writeRandom(dir, configOf(config, own), nemotronShapes(config, VOCABULARY))
  const store = await ModelStore.open(join(folder.path, 'store'))
  const { manifest } = await importModel(dir, store, { name: 'x', checkTokenizer: false })
  const layers = config.hybrid_override_pattern.length
  const everywhere = Array.from({ length: layers + 1 }, (_, i) => i + 1)
  const model = { manifest, blobsDir: store.blobsDir }
  for (const cuts of [[], everywhere]) {
    await using stages = await LocalStages.open(runtime, model, cuts)
    const drawn = await stages.generate(PROMPT, COUNT, 32)
    const tokens = [...PROMPT, ...drawn.map(({ id }) => id)]
    const expected = nemotronLogProbabilities(config, name => tensors.get(name)!, tokens)
    drawn.forEach(({ top }, i) => {
      const here = expected[PROMPT.length - 1 + i]!
      for (const { id, logprob } of top) expect(Math.abs(logprob - here[id]!)).toBeLessThan(TOLERANCE)
      expect(here[top[0]!.id]).toBeCloseTo(Math.max(...here), 3)
    })
  }
})

const GGUF_NAMES = {
  'backbone.embeddings.weight': 'token_embd.weight',
  'backbone.norm_f.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
  'norm.weight': 'attn_norm.weight',
  'mixer.in_proj.weight': 'ssm_in.weight',
  'mixer.conv1d.weight': 'ssm_conv1d.weight',
  'mixer.conv1d.bias': 'ssm_conv1d.bias',
  'mixer.dt_bias': 'ssm_dt.bias',
  'mixer.A_log': 'ssm_a',
  'mixer.D': 'ssm_d',
  'mixer.norm.weight': 'ssm_norm.weight',
  'mixer.out_proj.weight': 'ssm_out.weight',
  'mixer.q_proj.weight': 'attn_q.weight',
  'mixer.k_proj.weight': 'attn_k.weight',
  'mixer.v_proj.weight': 'attn_v.weight',
  'mixer.o_proj.weight': 'attn_output.weight',
  'mixer.up_proj.weight': 'ffn_up.weight',
  'mixer.down_proj.weight': 'ffn_down.weight',
  'mixer.gate.weight': 'ffn_gate_inp.weight',
  'mixer.gate.e_score_correction_bias': 'exp_probs_b.bias',
  'mixer.experts.up_proj.weight': 'ffn_up_exps.weight',
  'mixer.experts.down_proj.weight': 'ffn_down_exps.weight',
  'mixer.shared_experts.up_proj.weight': 'ffn_up_shexp.weight',
  'mixer.shared_experts.down_proj.weight': 'ffn_down_shexp.weight'
}

it.each([
  ['dense', DENSE],
  ['with experts', NANO]
])('a GGUF file, as llama.cpp writes it, becomes the same layers: %s', async (_, config) => {
  await using folder = await temporaryFolder()
  const [dir, path] = [join(folder.path, 'checkpoint'), join(folder.path, 'model.gguf')]
  const shapes = nemotronShapes(config, VOCABULARY)
  const tensors = await writeRandom(dir, configOf(config), shapes)
  const letters = [...config.hybrid_override_pattern]
  const each = (letter: string, value: number) => letters.map(own => (own === letter ? value : 0))
  const experts = letters.includes('E')
  await writeGguf(
    path,
    asGguf(tensors, shapes, {
      architecture: experts ? 'nemotron_h_moe' : 'nemotron_h',
      names: GGUF_NAMES,
      change: {
        'ssm_conv1d.weight': ({ dims, values }) => ({ dims: [dims[0]!, dims[2]!], values }),
        ssm_a: ({ dims, values }) => ({ dims: [dims[0]!, 1], values: values.map(value => -Math.exp(value)) }),
        ssm_d: ({ dims, values }) => ({ dims: [dims[0]!, 1], values }),
        'ssm_norm.weight': ({ dims, values }) => ({
          dims: [config.n_groups, dims[0]! / config.n_groups],
          values
        })
      },
      metadata: {
        ...{ context_length: 128, embedding_length: config.hidden_size, block_count: letters.length },
        ...{ 'attention.head_count': 4, 'attention.head_count_kv': each('*', 2) },
        ...{ 'attention.key_length': 16, 'attention.value_length': 16 },
        // As its converter has it, which takes the head's size out before it writes this.
        ...{ 'rope.dimension_count': 8, 'rope.freq_base': 10_000, 'rope.scaling.finetuned': false },
        'attention.layer_norm_rms_epsilon': config.layer_norm_epsilon,
        feed_forward_length: each(experts ? 'E' : '-', config.intermediate_size),
        ...{ 'ssm.conv_kernel': 4, 'ssm.state_size': 8, 'ssm.group_count': config.n_groups },
        ...{ 'ssm.inner_size': 64, 'ssm.time_step_rank': 4 },
        ...(experts && {
          ...{ expert_count: 6, expert_used_count: 3, expert_feed_forward_length: 24 },
          ...{ expert_shared_feed_forward_length: 40, expert_shared_count: 1, expert_weights_norm: true },
          ...{ expert_weights_scale: 2.5, expert_group_count: 1, expert_group_used_count: 1 }
        })
      }
    })
  )
  const store = await ModelStore.open(join(folder.path, 'store'))
  const options = { checkTokenizer: false }
  const { manifest } = await importModel(dir, store, { name: 'folder', ...options })
  const other = await importModel(path, store, { name: 'file', ...options })
  expect(other.manifest.layers).toEqual(manifest.layers)
  expect(other.manifest.shape).toEqual(manifest.shape)
})

it.each([
  [
    'a latent vector of experts',
    { moe_latent_size: 16 },
    /moe_latent_size is 16: experts of a latent vector/
  ],
  ['a part that is not known', { hybrid_override_pattern: 'MXM*EME' }, /hybrid_override_pattern has "X"/],
  ['a number of layers that is another', { num_hidden_layers: 6 }, /has 7 layers, num_hidden_layers is 6/],
  ['steps within limits', { time_step_limit: [0, 1] }, /time_step_limit \[0,1\]/],
  ['another activation', { mlp_hidden_act: 'silu' }, /activation "silu" \(only relu2/]
])('refuses %s', async (_, own, message) => {
  await using folder = await temporaryFolder()
  const dir = join(folder.path, 'checkpoint')
  await writeRandom(dir, configOf(NANO, own), nemotronShapes(NANO, VOCABULARY))
  const store = await ModelStore.open(join(folder.path, 'store'))
  await expect(importModel(dir, store, { name: 'x', checkTokenizer: false })).rejects.toThrow(message)
})

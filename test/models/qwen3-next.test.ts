import { join } from 'node:path'
import { expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { ModelStore } from '../../models/store/store.ts'
import { asGguf } from '../fixtures/as-gguf.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { writeGguf } from '../fixtures/gguf.ts'
import { writeRandom } from '../fixtures/published-checkpoint.ts'
import { STATE_CONFIGS } from '../fixtures/state-checkpoints.ts'

const [HIDDEN, VOCABULARY, EXPERTS] = [32, 64, 4]
const CONFIG = { ...STATE_CONFIGS.qwen3_next, vocab_size: VOCABULARY, rms_norm_eps: 2 ** -16 }
/** Rows of each of two key heads: its query's, its key's, and those of the values and the gates of its two value heads. */
const OF_HEAD = [8, 8, 16, 16]

type Shape = [name: string, shape: number[]]

const common = (layer: number): Shape[] =>
  (
    [
      ['input_layernorm.weight', [HIDDEN]],
      ['post_attention_layernorm.weight', [HIDDEN]],
      ['mlp.gate.weight', [EXPERTS, HIDDEN]],
      ...Array.from({ length: EXPERTS }, (_, expert): Shape[] => [
        [`mlp.experts.${expert}.gate_proj.weight`, [16, HIDDEN]],
        [`mlp.experts.${expert}.up_proj.weight`, [16, HIDDEN]],
        [`mlp.experts.${expert}.down_proj.weight`, [HIDDEN, 16]]
      ]).flat(),
      ['mlp.shared_expert.gate_proj.weight', [16, HIDDEN]],
      ['mlp.shared_expert.up_proj.weight', [16, HIDDEN]],
      ['mlp.shared_expert.down_proj.weight', [HIDDEN, 16]],
      ['mlp.shared_expert_gate.weight', [1, HIDDEN]]
    ] satisfies Shape[]
  ).map(([name, shape]): Shape => [`model.layers.${layer}.${name}`, shape])

const SHAPES: Shape[] = [
  ['model.embed_tokens.weight', [VOCABULARY, HIDDEN]],
  ...common(0),
  ['model.layers.0.linear_attn.in_proj_qkvz.weight', [96, HIDDEN]],
  ['model.layers.0.linear_attn.in_proj_ba.weight', [8, HIDDEN]],
  ['model.layers.0.linear_attn.conv1d.weight', [64, 1, 4]],
  ['model.layers.0.linear_attn.dt_bias', [4]],
  ['model.layers.0.linear_attn.A_log', [4]],
  ['model.layers.0.linear_attn.norm.weight', [8]],
  ['model.layers.0.linear_attn.out_proj.weight', [HIDDEN, 32]],
  ...common(1),
  ['model.layers.1.self_attn.q_proj.weight', [64, HIDDEN]],
  ['model.layers.1.self_attn.k_proj.weight', [16, HIDDEN]],
  ['model.layers.1.self_attn.v_proj.weight', [16, HIDDEN]],
  ['model.layers.1.self_attn.o_proj.weight', [HIDDEN, 32]],
  ['model.layers.1.self_attn.q_norm.weight', [16]],
  ['model.layers.1.self_attn.k_norm.weight', [16]],
  ['model.norm.weight', [HIDDEN]],
  ['lm_head.weight', [VOCABULARY, HIDDEN]]
]

const NAMES = {
  'model.embed_tokens.weight': 'token_embd.weight',
  'model.norm.weight': 'output_norm.weight',
  'lm_head.weight': 'output.weight',
  'input_layernorm.weight': 'attn_norm.weight',
  'post_attention_layernorm.weight': 'post_attention_norm.weight',
  'linear_attn.in_proj_qkvz.weight': 'ssm_in.weight',
  'linear_attn.in_proj_qkv.weight': 'attn_qkv.weight',
  'linear_attn.in_proj_z.weight': 'attn_gate.weight',
  'linear_attn.in_proj_ba.weight': 'ssm_ba.weight',
  'linear_attn.conv1d.weight': 'ssm_conv1d.weight',
  'linear_attn.dt_bias': 'ssm_dt.bias',
  'linear_attn.A_log': 'ssm_a',
  'linear_attn.norm.weight': 'ssm_norm.weight',
  'linear_attn.out_proj.weight': 'ssm_out.weight',
  'self_attn.q_proj.weight': 'attn_q.weight',
  'self_attn.k_proj.weight': 'attn_k.weight',
  'self_attn.v_proj.weight': 'attn_v.weight',
  'self_attn.o_proj.weight': 'attn_output.weight',
  'self_attn.q_norm.weight': 'attn_q_norm.weight',
  'self_attn.k_norm.weight': 'attn_k_norm.weight',
  'mlp.gate.weight': 'ffn_gate_inp.weight',
  'mlp.experts.gate_proj.weight': 'ffn_gate_exps.weight',
  'mlp.experts.up_proj.weight': 'ffn_up_exps.weight',
  'mlp.experts.down_proj.weight': 'ffn_down_exps.weight',
  'mlp.shared_expert.gate_proj.weight': 'ffn_gate_shexp.weight',
  'mlp.shared_expert.up_proj.weight': 'ffn_up_shexp.weight',
  'mlp.shared_expert.down_proj.weight': 'ffn_down_shexp.weight',
  'mlp.shared_expert_gate.weight': 'ffn_gate_inp_shexp.weight'
}

/** What newer converters make of the projection: queries of all heads, keys, values; and the gates apart. */
function apart(
  tensors: ReadonlyMap<string, Float64Array>
): [tensors: Map<string, Float64Array>, shapes: Shape[]] {
  const joined = 'model.layers.0.linear_attn.in_proj_qkvz.weight'
  const values = tensors.get(joined)!
  const each = OF_HEAD.reduce((sum, rows) => sum + rows, 0)
  const kinds = OF_HEAD.map((rows, kind) => {
    const before = OF_HEAD.slice(0, kind).reduce((sum, n) => sum + n, 0)
    return [0, 1].flatMap(head => {
      const start = (head * each + before) * HIDDEN
      return [...values.subarray(start, start + rows * HIDDEN)]
    })
  })
  const parts = {
    [joined.replace('qkvz', 'qkv')]: kinds.slice(0, 3).flat(),
    [joined.replace('qkvz', 'z')]: kinds[3]!
  }
  const own = Object.entries(parts).map(([name, part]): [string, Float64Array] => [
    name,
    Float64Array.from(part)
  ])
  return [
    new Map([...tensors, ...own]),
    [
      ...SHAPES.filter(([name]) => name !== joined),
      ...own.map(([name, part]): Shape => [name, [part.length / HIDDEN, HIDDEN]])
    ]
  ]
}

it.each(['apart', 'together'])(
  'a GGUF file of Qwen3-Next with its projection %s becomes the layers of its folder',
  async form => {
    await using folder = await temporaryFolder()
    const [dir, path] = [join(folder.path, 'checkpoint'), join(folder.path, 'model.gguf')]
    const tensors = await writeRandom(dir, CONFIG, SHAPES)
    const [own, shapes] = form === 'apart' ? apart(tensors) : [tensors, SHAPES]
    const plusOne = ({ dims, values }: { dims: number[]; values: Float64Array }) => ({
      dims,
      values: values.map(value => value + 1)
    })
    const content = asGguf(own, shapes, {
      architecture: 'qwen3next',
      names: NAMES,
      change: {
        'attn_norm.weight': plusOne,
        'post_attention_norm.weight': plusOne,
        'output_norm.weight': plusOne,
        'attn_q_norm.weight': plusOne,
        'attn_k_norm.weight': plusOne,
        'ssm_conv1d.weight': ({ values }) => ({ dims: [64, 4], values }),
        ssm_a: ({ dims, values }) => ({ dims, values: values.map(value => -Math.exp(value)) }),
        'ffn_gate_inp_shexp.weight': ({ values }) => ({ dims: [HIDDEN], values })
      },
      metadata: {
        ...{ context_length: 64, embedding_length: HIDDEN, block_count: 2, feed_forward_length: 48 },
        ...{ 'attention.head_count': 2, 'attention.head_count_kv': 1, 'attention.key_length': 16 },
        ...{ 'attention.value_length': 16, 'attention.layer_norm_rms_epsilon': CONFIG.rms_norm_eps },
        ...{ 'rope.dimension_count': 8, 'rope.freq_base': 1e7, full_attention_interval: 2 },
        ...{ 'ssm.conv_kernel': 4, 'ssm.state_size': 8, 'ssm.group_count': 2, 'ssm.time_step_rank': 4 },
        ...{ 'ssm.inner_size': 32, expert_count: EXPERTS, expert_used_count: 2 },
        ...{ expert_feed_forward_length: 16, expert_shared_feed_forward_length: 16 }
      }
    })
    await writeGguf(path, content)
    const store = await ModelStore.open(join(folder.path, 'store'))
    const options = { checkTokenizer: false }
    const { manifest } = await importModel(dir, store, { name: 'folder', ...options })
    const other = await importModel(path, store, { name: 'file', ...options })
    expect(other.manifest.layers).toEqual(manifest.layers)
    expect(other.manifest.shape).toEqual(manifest.shape)
  }
)

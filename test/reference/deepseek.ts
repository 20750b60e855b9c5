import { add, dot, logSoftmax, rms, split, type Tensors, times } from './published.ts'

/** What DeepSeek's code reads of config.json (modeling_deepseek.py of V2 and V3; GLM-4.7-Flash's classes are V3's). */
export interface DeepseekConfig {
  hidden_size: number
  intermediate_size: number
  num_hidden_layers: number
  num_attention_heads: number
  rms_norm_eps: number
  rope_theta: number
  q_lora_rank: number | null
  kv_lora_rank: number
  qk_nope_head_dim: number
  qk_rope_head_dim: number
  v_head_dim: number
  n_routed_experts: number
  n_shared_experts: number
  num_experts_per_tok: number
  moe_intermediate_size: number
  routed_scaling_factor: number
  norm_topk_prob: boolean
  n_group: number
  topk_group: number
  first_k_dense_replace: number
  topk_method: 'greedy' | 'group_limited_greedy' | 'noaux_tc'
  rope_scaling?: {
    type: 'yarn'
    factor: number
    original_max_position_embeddings: number
    beta_fast: number
    beta_slow: number
    mscale: number
    mscale_all_dim: number
  }
}

/**
 * Log-probabilities behind each of the tokens, in float64, straight from a checkpoint's own tensors: keys and values of every head
 * are made and kept, partners of rotary embedding lie side by side, and nothing is shared with import or runtime.
 */
export function deepseekLogProbabilities(
  config: DeepseekConfig,
  tensors: Tensors,
  tokens: readonly number[]
): Float64Array[] {
  const output = tensors('lm_head.weight')
  return deepseekStates(config, tensors, tokens).map(row => logSoftmax(times(output, row)))
}

/** What the model makes of each of the tokens, after its last norm. */
export function deepseekStates(
  config: DeepseekConfig,
  tensors: Tensors,
  tokens: readonly number[]
): Float64Array[] {
  const { hidden_size: H, rms_norm_eps: epsilon } = config
  const table = tensors('model.embed_tokens.weight')
  let x: Float64Array[] = tokens.map(id => table.slice(id * H, (id + 1) * H))
  for (let layer = 0; layer < config.num_hidden_layers; layer++) x = deepseekLayer(config, tensors, layer, x)
  return x.map(row => rms(row, tensors('model.norm.weight'), epsilon))
}

/** One decoder layer, by its number in the checkpoint, of all tokens. */
export function deepseekLayer(
  config: DeepseekConfig,
  tensors: Tensors,
  layer: number,
  x: Float64Array[]
): Float64Array[] {
  const { rms_norm_eps: epsilon } = config
  const get = (name: string) => tensors(`model.layers.${layer}.${name}.weight`)
  const correction = () => tensors(`model.layers.${layer}.mlp.gate.e_score_correction_bias`)
  const normed = x.map(row => rms(row, get('input_layernorm'), epsilon))
  const middle = attention(config, get, normed).map((update, t) => add(x[t]!, update))
  return middle.map(row => {
    const input = rms(row, get('post_attention_layernorm'), epsilon)
    const dense = layer < config.first_k_dense_replace
    return add(row, dense ? unit(get, 'mlp', input) : mixture(config, get, correction, input))
  })
}

type Get = (name: string) => Float64Array

function attention(c: DeepseekConfig, get: Get, x: Float64Array[]): Float64Array[] {
  const [plain, turned, value] = [c.qk_nope_head_dim, c.qk_rope_head_dim, c.v_head_dim]
  const scaling = c.rope_scaling
  const mscale = scaling === undefined ? 1 : getMscale(scaling.factor, scaling.mscale_all_dim)
  const scale = mscale ** 2 / Math.sqrt(plain + turned)
  const down = x.map(row => times(get('self_attn.kv_a_proj_with_mqa'), row))
  const both = down.map(row => {
    const latent = rms(row.slice(0, c.kv_lora_rank), get('self_attn.kv_a_layernorm'), c.rms_norm_eps)
    return split(times(get('self_attn.kv_b_proj'), latent), plain + value)
  })
  const shared = down.map((row, t) => turn(c, row.slice(c.kv_lora_rank), t))
  const output = get('self_attn.o_proj')
  return x.map((row, t) => {
    const queries = split(queriesOf(c, get, row), plain + turned)
    const heads = queries.flatMap((query, h) => {
      const own = turn(c, query.slice(plain), t)
      const scores = Float64Array.from({ length: t + 1 }, (_, s) => {
        const key = both[s]![h]!.slice(0, plain)
        return (dot(query.slice(0, plain), key) + dot(own, shared[s]!)) * scale
      })
      const shares = logSoftmax(scores).map(Math.exp)
      return Array.from({ length: value }, (_, d) =>
        shares.reduce((sum, share, s) => sum + share * both[s]![h]![plain + d]!, 0)
      )
    })
    return times(output, Float64Array.from(heads))
  })
}

function queriesOf(c: DeepseekConfig, get: Get, x: Float64Array): Float64Array {
  if (c.q_lora_rank === null) return times(get('self_attn.q_proj'), x)
  const down = times(get('self_attn.q_a_proj'), x)
  return times(get('self_attn.q_b_proj'), rms(down, get('self_attn.q_a_layernorm'), c.rms_norm_eps))
}

/** Pairs (2i, 2i + 1), by YaRN of yarn_find_correction_range and yarn_linear_ramp_mask. */
function turn(c: DeepseekConfig, head: Float64Array, position: number): Float64Array {
  const out = head.slice()
  const dims = head.length
  const { rope_scaling: yarn, rope_theta: base } = c
  for (let i = 0; i < dims / 2; i++) {
    let frequency = base ** ((-2 * i) / dims)
    let magnitude = 1
    if (yarn !== undefined) {
      const correction = (turns: number) =>
        (dims * Math.log(yarn.original_max_position_embeddings / (turns * 2 * Math.PI))) /
        (2 * Math.log(base))
      const low = Math.max(Math.floor(correction(yarn.beta_fast)), 0)
      const high = Math.min(Math.ceil(correction(yarn.beta_slow)), dims - 1)
      const ramp = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)))
      frequency = (frequency / yarn.factor) * ramp + frequency * (1 - ramp)
      magnitude = getMscale(yarn.factor, yarn.mscale) / getMscale(yarn.factor, yarn.mscale_all_dim)
    }
    const [cos, sin] = [Math.cos(position * frequency), Math.sin(position * frequency)]
    const [a, b] = [head[2 * i]!, head[2 * i + 1]!]
    out[2 * i] = magnitude * (a * cos - b * sin)
    out[2 * i + 1] = magnitude * (b * cos + a * sin)
  }
  return out
}

/** yarn_get_mscale */
function getMscale(factor: number, mscale: number): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1
}

/** MoEGate and the experts behind it. */
function mixture(c: DeepseekConfig, get: Get, correction: () => Float64Array, x: Float64Array): Float64Array {
  const logits = times(get('mlp.gate'), x)
  const isV3 = c.topk_method === 'noaux_tc'
  const shares = isV3 ? logits.map(logit => 1 / (1 + Math.exp(-logit))) : logSoftmax(logits).map(Math.exp)
  let ranking = isV3 ? add(shares, correction()) : shares
  if (c.topk_method !== 'greedy') {
    const groups = split(ranking, ranking.length / c.n_group)
    const scores = groups.map(group => {
      const [first = 0, second = 0] = [...group].sort((a, b) => b - a)
      return isV3 ? first + second : first
    })
    const best = highest(scores, c.topk_group)
    ranking = Float64Array.from(
      groups.flatMap((group, g) =>
        [...group].map(value => (best.includes(g) ? value : Number.NEGATIVE_INFINITY))
      )
    )
  }
  const chosen = highest([...ranking], c.num_experts_per_tok)
  const whole = c.norm_topk_prob ? chosen.reduce((sum, expert) => sum + shares[expert]!, 0) : 1
  return chosen.reduce(
    (sum, expert) => {
      const weight = (shares[expert]! / whole) * c.routed_scaling_factor
      return add(
        sum,
        unit(get, `mlp.experts.${expert}`, x).map(value => value * weight)
      )
    },
    unit(get, 'mlp.shared_experts', x)
  )
}

function highest(values: readonly number[], count: number): number[] {
  return [...values.keys()].sort((a, b) => values[b]! - values[a]!).slice(0, count)
}

function unit(get: Get, module: string, x: Float64Array): Float64Array {
  const up = times(get(`${module}.up_proj`), x)
  const gate = times(get(`${module}.gate_proj`), x)
  return times(
    get(`${module}.down_proj`),
    gate.map((value, i) => (value / (1 + Math.exp(-value))) * up[i]!)
  )
}

/** The names and shapes of all tensors of a checkpoint. */
export function deepseekShapes(c: DeepseekConfig, vocabulary: number): [name: string, shape: number[]][] {
  const H = c.hidden_size
  const heads = c.num_attention_heads
  const query = heads * (c.qk_nope_head_dim + c.qk_rope_head_dim)
  const mlp = (module: string, size: number): [name: string, shape: number[]][] => [
    [`${module}.gate_proj.weight`, [size, H]],
    [`${module}.up_proj.weight`, [size, H]],
    [`${module}.down_proj.weight`, [H, size]]
  ]
  const attentionShapes: [name: string, shape: number[]][] = [
    ...(c.q_lora_rank === null
      ? [['q_proj.weight', [query, H]] as [string, number[]]]
      : ([
          ['q_a_proj.weight', [c.q_lora_rank, H]],
          ['q_a_layernorm.weight', [c.q_lora_rank]],
          ['q_b_proj.weight', [query, c.q_lora_rank]]
        ] as [string, number[]][])),
    ['kv_a_proj_with_mqa.weight', [c.kv_lora_rank + c.qk_rope_head_dim, H]],
    ['kv_a_layernorm.weight', [c.kv_lora_rank]],
    ['kv_b_proj.weight', [heads * (c.qk_nope_head_dim + c.v_head_dim), c.kv_lora_rank]],
    ['o_proj.weight', [H, heads * c.v_head_dim]]
  ]
  const experts: [name: string, shape: number[]][] = [
    ['mlp.gate.weight', [c.n_routed_experts, H]],
    ...(c.topk_method === 'noaux_tc'
      ? [['mlp.gate.e_score_correction_bias', [c.n_routed_experts]] as [string, number[]]]
      : []),
    ...Array.from({ length: c.n_routed_experts }, (_, expert) =>
      mlp(`mlp.experts.${expert}`, c.moe_intermediate_size)
    ).flat(),
    ...mlp('mlp.shared_experts', c.n_shared_experts * c.moe_intermediate_size)
  ]
  const layers = Array.from({ length: c.num_hidden_layers }, (_, layer) =>
    [
      ...attentionShapes.map(([name, shape]): [string, number[]] => [`self_attn.${name}`, shape]),
      ...(layer < c.first_k_dense_replace ? mlp('mlp', c.intermediate_size) : experts),
      ['input_layernorm.weight', [H]] as [string, number[]],
      ['post_attention_layernorm.weight', [H]] as [string, number[]]
    ].map(([name, shape]): [string, number[]] => [`model.layers.${layer}.${name}`, shape])
  ).flat()
  return [
    ['model.embed_tokens.weight', [vocabulary, H]],
    ...layers,
    ['model.norm.weight', [H]],
    ['lm_head.weight', [vocabulary, H]]
  ]
}

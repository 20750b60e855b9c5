import type { StateSpaceSpec } from '../../models/recurrence-schema.ts'
import { add, dot, logSoftmax, rms, split, type Tensors, times } from './published.ts'
import { recurrent } from './recurrence.ts'

/** What Nemotron-H's code reads of config.json (transformers' modeling_nemotron_h.py). */
export interface NemotronConfig {
  hidden_size: number
  intermediate_size: number
  num_attention_heads: number
  num_key_value_heads: number
  head_dim: number
  layer_norm_epsilon: number
  /** M for Mamba 2, * for attention, - for a unit, E for experts: a letter a layer. */
  hybrid_override_pattern: string
  mamba_num_heads: number
  mamba_head_dim: number
  n_groups: number
  ssm_state_size: number
  conv_kernel: number
  n_routed_experts: number
  num_experts_per_tok: number
  moe_intermediate_size: number
  moe_shared_expert_intermediate_size: number
  norm_topk_prob: boolean
  routed_scaling_factor: number
}

type Get = (name: string) => Float64Array

/**
 * Log-probabilities behind each of the tokens, in float64, straight from a checkpoint's own tensors: each layer is one mixer behind
 * one norm (`NemotronHBlock`). It shares no code with import or runtime.
 */
export function nemotronLogProbabilities(
  c: NemotronConfig,
  tensors: Tensors,
  tokens: readonly number[]
): Float64Array[] {
  const { hidden_size: H, layer_norm_epsilon: epsilon } = c
  const table = tensors('backbone.embeddings.weight')
  let x: Float64Array[] = tokens.map(id => table.slice(id * H, (id + 1) * H))
  for (const [layer, letter] of [...c.hybrid_override_pattern].entries()) {
    const get = (name: string) => tensors(`backbone.layers.${layer}.${name}`)
    const normed = x.map(row => rms(row, get('norm.weight'), epsilon))
    const made = MIXERS[letter]!(c, get, normed)
    x = x.map((row, t) => add(row, made[t]!))
  }
  const [norm, head] = [tensors('backbone.norm_f.weight'), tensors('lm_head.weight')]
  return x.map(row => logSoftmax(times(head, rms(row, norm, epsilon))))
}

const MIXERS: Record<string, (c: NemotronConfig, get: Get, x: Float64Array[]) => Float64Array[]> = {
  M: mamba,
  '*': attention,
  '-': (_, get, x) => x.map(row => unit(get, 'mixer', row)),
  E: (c, get, x) => x.map(row => mixture(c, get, row))
}

/** `NemotronHMamba2Mixer`: one projection has the gate, what is convolved, and the rates. */
function mamba(c: NemotronConfig, get: Get, x: Float64Array[]): Float64Array[] {
  const projection = get('mixer.in_proj.weight')
  const ofRates = projection.length - c.mamba_num_heads * c.hidden_size
  const vectors: Record<string, () => Float64Array> = {
    convolution: () => get('mixer.conv1d.weight'),
    convolution_bias: () => get('mixer.conv1d.bias'),
    rate_bias: () => get('mixer.dt_bias'),
    decay: () => get('mixer.A_log').map(value => -Math.exp(value)),
    skip: () => get('mixer.D'),
    recurrence_norm: () => get('mixer.norm.weight')
  }
  const made = recurrent(
    {
      ...{ spec: stateSpaceOf(c), hiddenSize: c.hidden_size, normEpsilon: c.layer_norm_epsilon },
      vector: name => vectors[name]!(),
      project: (name, _, row) =>
        times(name === 'rates' ? projection.subarray(ofRates) : projection.subarray(0, ofRates), row)
    },
    x
  )
  return made.map(row => times(get('mixer.out_proj.weight'), row))
}

function stateSpaceOf(c: NemotronConfig): StateSpaceSpec {
  return {
    kind: 'state-space',
    heads: c.mamba_num_heads,
    headSize: c.mamba_head_dim,
    groups: c.n_groups,
    stateSize: c.ssm_state_size,
    taps: c.conv_kernel,
    bias: true,
    ...(c.n_groups > 1 && { groupNorm: true })
  }
}

/** `NemotronHAttention`: nothing is turned. */
function attention(c: NemotronConfig, get: Get, x: Float64Array[]): Float64Array[] {
  const heads = (part: string) =>
    x.map(row => split(times(get(`mixer.${part}_proj.weight`), row), c.head_dim))
  const [queries, keys, values] = [heads('q'), heads('k'), heads('v')]
  const group = c.num_attention_heads / c.num_key_value_heads
  return x.map((_, t) => {
    const out = queries[t]!.flatMap((query, h) => {
      const own = Math.floor(h / group)
      const scores = Float64Array.from(
        { length: t + 1 },
        (_, s) => dot(query, keys[s]![own]!) / Math.sqrt(c.head_dim)
      )
      const shares = logSoftmax(scores).map(Math.exp)
      return Array.from({ length: c.head_dim }, (_, d) =>
        shares.reduce((sum, share, s) => sum + share * values[s]![own]![d]!, 0)
      )
    })
    return times(get('mixer.o_proj.weight'), Float64Array.from(out))
  })
}

/** `NemotronHMoE`: experts by the highest corrected logistic scores, weighed by the scores alone. */
function mixture(c: NemotronConfig, get: Get, x: Float64Array): Float64Array {
  const scores = times(get('mixer.gate.weight'), x).map(logit => 1 / (1 + Math.exp(-logit)))
  const ranking = add(scores, get('mixer.gate.e_score_correction_bias'))
  const chosen = [...ranking.keys()].sort((a, b) => ranking[b]! - ranking[a]!).slice(0, c.num_experts_per_tok)
  const whole = c.norm_topk_prob ? chosen.reduce((sum, expert) => sum + scores[expert]!, 0) : 1
  return chosen.reduce(
    (sum, expert) => {
      const weight = (scores[expert]! / whole) * c.routed_scaling_factor
      return add(
        sum,
        unit(get, `mixer.experts.${expert}`, x).map(value => value * weight)
      )
    },
    unit(get, 'mixer.shared_experts', x)
  )
}

/** `NemotronHMLP`: down(relu(up(x))^2) */
function unit(get: Get, module: string, x: Float64Array): Float64Array {
  const up = times(get(`${module}.up_proj.weight`), x)
  return times(
    get(`${module}.down_proj.weight`),
    up.map(value => Math.max(value, 0) ** 2)
  )
}

/** The names and shapes of all tensors of a checkpoint. */
export function nemotronShapes(c: NemotronConfig, vocabulary: number): [name: string, shape: number[]][] {
  const { hidden_size: H, head_dim: D } = c
  const width = c.mamba_num_heads * c.mamba_head_dim
  const channels = width + 2 * c.n_groups * c.ssm_state_size
  const mlp = (module: string, size: number): [name: string, shape: number[]][] => [
    [`${module}.up_proj.weight`, [size, H]],
    [`${module}.down_proj.weight`, [H, size]]
  ]
  const mixers: Record<string, () => [name: string, shape: number[]][]> = {
    M: () => [
      ['mixer.in_proj.weight', [width + channels + c.mamba_num_heads, H]],
      ['mixer.conv1d.weight', [channels, 1, c.conv_kernel]],
      ['mixer.conv1d.bias', [channels]],
      ['mixer.dt_bias', [c.mamba_num_heads]],
      ['mixer.A_log', [c.mamba_num_heads]],
      ['mixer.D', [c.mamba_num_heads]],
      ['mixer.norm.weight', [width]],
      ['mixer.out_proj.weight', [H, width]]
    ],
    '*': () => [
      ['mixer.q_proj.weight', [c.num_attention_heads * D, H]],
      ['mixer.k_proj.weight', [c.num_key_value_heads * D, H]],
      ['mixer.v_proj.weight', [c.num_key_value_heads * D, H]],
      ['mixer.o_proj.weight', [H, c.num_attention_heads * D]]
    ],
    '-': () => mlp('mixer', c.intermediate_size),
    E: () => [
      ['mixer.gate.weight', [c.n_routed_experts, H]],
      ['mixer.gate.e_score_correction_bias', [c.n_routed_experts]],
      ...Array.from({ length: c.n_routed_experts }, (_, expert) =>
        mlp(`mixer.experts.${expert}`, c.moe_intermediate_size)
      ).flat(),
      ...mlp('mixer.shared_experts', c.moe_shared_expert_intermediate_size)
    ]
  }
  const layers = [...c.hybrid_override_pattern].flatMap((letter, layer) =>
    [['norm.weight', [H]] as [string, number[]], ...mixers[letter]!()].map(
      ([name, shape]): [string, number[]] => [`backbone.layers.${layer}.${name}`, shape]
    )
  )
  return [
    ['backbone.embeddings.weight', [vocabulary, H]],
    ...layers,
    ['backbone.norm_f.weight', [H]],
    ['lm_head.weight', [vocabulary, H]]
  ]
}

import { blockOf, layerSizes, sizesOf, turningOf } from '../blocks.ts'
import type { LayerKind } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import { latentParts } from './latent-parts.ts'
import { recurrenceParts } from './recurrence-parts.ts'
import type { Folds } from './settings.ts'
import type { Part } from './weights.ts'

/**
 * A checkpoint format's names for the tensors that models/tensors.ts names; `#` stands for the decoder layer, from 0, and `@`
 * for the expert: a name without it is of a tensor that has all of them, one behind the other.
 */
export type Naming = Record<string, string[]>

export const HUGGING_FACE: Naming = {
  embedding: ['model.embed_tokens.weight'],
  attention_norm: ['model.layers.#.input_layernorm.weight'],
  qkv: ['q', 'k', 'v'].map(p => `model.layers.#.self_attn.${p}_proj.weight`),
  qkv_bias: ['q', 'k', 'v'].map(p => `model.layers.#.self_attn.${p}_proj.bias`),
  q_norm: ['model.layers.#.self_attn.q_norm.weight'],
  k_norm: ['model.layers.#.self_attn.k_norm.weight'],
  sinks: ['model.layers.#.self_attn.sinks'],
  attention_gate: ['model.layers.#.self_attn.q_proj.weight'],
  query_down: ['model.layers.#.self_attn.q_a_proj.weight'],
  query_norm: ['model.layers.#.self_attn.q_a_layernorm.weight'],
  query: ['model.layers.#.self_attn.q_proj.weight'],
  query_up: ['model.layers.#.self_attn.q_b_proj.weight'],
  latent: ['model.layers.#.self_attn.kv_a_proj_with_mqa.weight'],
  latent_norm: ['model.layers.#.self_attn.kv_a_layernorm.weight'],
  key_value_up: ['model.layers.#.self_attn.kv_b_proj.weight'],
  attention_output: ['model.layers.#.self_attn.o_proj.weight'],
  attention_output_bias: ['model.layers.#.self_attn.o_proj.bias'],
  attention_post_norm: ['model.layers.#.post_attention_layernorm.weight'],
  ffn_norm: ['model.layers.#.post_attention_layernorm.weight'],
  gate_up: ['model.layers.#.mlp.gate_proj.weight', 'model.layers.#.mlp.up_proj.weight'],
  up: ['model.layers.#.mlp.up_proj.weight'],
  ffn_down: ['model.layers.#.mlp.down_proj.weight'],
  router: ['model.layers.#.mlp.gate.weight'],
  router_correction: ['model.layers.#.mlp.gate.e_score_correction_bias'],
  expert_gate_up: ['gate', 'up'].map(p => `model.layers.#.mlp.experts.@.${p}_proj.weight`),
  expert_up: ['model.layers.#.mlp.experts.@.up_proj.weight'],
  expert_down: ['model.layers.#.mlp.experts.@.down_proj.weight'],
  shared_gate_up: ['gate', 'up'].map(p => `model.layers.#.mlp.shared_expert.${p}_proj.weight`),
  shared_up: ['model.layers.#.mlp.shared_expert.up_proj.weight'],
  shared_down: ['model.layers.#.mlp.shared_expert.down_proj.weight'],
  shared_gate: ['model.layers.#.mlp.shared_expert_gate.weight'],
  ffn_post_norm: ['model.layers.#.post_feedforward_layernorm.weight'],
  token_norm: ['model.layers.#.enorm.weight'],
  hidden_norm: ['model.layers.#.hnorm.weight'],
  join: ['model.layers.#.eh_proj.weight'],
  guess_norm: ['model.layers.#.shared_head.norm.weight'],
  norm: ['model.norm.weight'],
  output: ['lm_head.weight']
}

export const GGUF: Naming = {
  embedding: ['token_embd.weight'],
  attention_norm: ['blk.#.attn_norm.weight'],
  qkv: ['q', 'k', 'v'].map(p => `blk.#.attn_${p}.weight`),
  qkv_bias: ['q', 'k', 'v'].map(p => `blk.#.attn_${p}.bias`),
  q_norm: ['blk.#.attn_q_norm.weight'],
  k_norm: ['blk.#.attn_k_norm.weight'],
  sinks: ['blk.#.attn_sinks.weight'],
  attention_gate: ['blk.#.attn_q.weight'],
  query_down: ['blk.#.attn_q_a.weight'],
  query_norm: ['blk.#.attn_q_a_norm.weight'],
  query: ['blk.#.attn_q.weight'],
  query_up: ['blk.#.attn_q_b.weight'],
  latent: ['blk.#.attn_kv_a_mqa.weight'],
  latent_norm: ['blk.#.attn_kv_a_norm.weight'],
  key_up: ['blk.#.attn_k_b.weight'],
  value_up: ['blk.#.attn_v_b.weight'],
  attention_output: ['blk.#.attn_output.weight'],
  attention_output_bias: ['blk.#.attn_output.bias'],
  attention_post_norm: ['blk.#.post_attention_norm.weight'],
  ffn_norm: ['blk.#.ffn_norm.weight'],
  gate_up: ['blk.#.ffn_gate.weight', 'blk.#.ffn_up.weight'],
  up: ['blk.#.ffn_up.weight'],
  ffn_down: ['blk.#.ffn_down.weight'],
  router: ['blk.#.ffn_gate_inp.weight'],
  router_bias: ['blk.#.ffn_gate_inp.bias'],
  router_correction: ['blk.#.exp_probs_b.bias'],
  expert_gate_up: ['blk.#.ffn_gate_exps.weight', 'blk.#.ffn_up_exps.weight'],
  expert_gate_up_bias: ['blk.#.ffn_gate_exps.bias', 'blk.#.ffn_up_exps.bias'],
  expert_up: ['blk.#.ffn_up_exps.weight'],
  expert_down: ['blk.#.ffn_down_exps.weight'],
  expert_down_bias: ['blk.#.ffn_down_exps.bias'],
  shared_gate_up: ['blk.#.ffn_gate_shexp.weight', 'blk.#.ffn_up_shexp.weight'],
  shared_up: ['blk.#.ffn_up_shexp.weight'],
  shared_down: ['blk.#.ffn_down_shexp.weight'],
  shared_gate: ['blk.#.ffn_gate_inp_shexp.weight'],
  ffn_post_norm: ['blk.#.post_ffw_norm.weight'],
  token_norm: ['blk.#.nextn.enorm.weight'],
  hidden_norm: ['blk.#.nextn.hnorm.weight'],
  join: ['blk.#.nextn.eh_proj.weight'],
  guess_norm: ['blk.#.nextn.shared_head_norm.weight'],
  norm: ['output_norm.weight'],
  output: ['output.weight']
}

/** What the parts of a checkpoint depend on besides its format. */
export interface PartOptions {
  naming: Naming
  shape: ModelShape
  /** What weights are changed by. */
  folds: Folds
  /** The output projection is the embedding table. */
  tied: boolean
  /** The rows of q and k are in interleaved rotary order. */
  interleaved: boolean
  /** Rows of gate and of up of an expert lie by turns, where one tensor has both. */
  byTurns: boolean
  /** Which decoder layers, from 0, have no values of their own: their keys are both. */
  keysAreValues: (layer: number) => boolean
}

/** The checkpoint's tensors that make up tensor `name` of layer `index`, one below the other. */
export function partsOf(
  name: string,
  kind: LayerKind,
  index: number,
  rows: number,
  options: PartOptions
): Part[] {
  const { naming, tied, folds } = options
  if (kind === 'decoder') {
    const { latent } = blockOf(options.shape, index).attention
    const parts = latent && latentParts(name, index, latent, options)
    if (parts !== undefined) return parts
  }
  const key = name === 'output' && tied ? 'embedding' : name
  const names = naming[key]!.map(pattern => pattern.replace('#', String(index - 1)))
  const changed = change(name, folds)
  const part = (partName: string, count: number): Part => ({ name: partName, rows: count, ...changed })
  if (kind !== 'decoder') return names.map(partName => part(partName, rows))
  const { feedForward } = blockOf(options.shape, index)
  if (name.startsWith('expert_') && feedForward.kind === 'experts') {
    return expertParts(names, rows, feedForward.experts).map(one => ({
      ...one,
      ...changed,
      // Gate and up come apart as the halves of a head do.
      ...(options.byTurns &&
        name.startsWith('expert_gate_up') &&
        names.length === 1 && { interleaved: { heads: 1, rotated: one.rows } })
    }))
  }
  const { attention, recurrence: spec } = blockOf(options.shape, index)
  if (spec !== undefined) {
    const { hiddenSize } = options.shape
    const parts = recurrenceParts(name, names, rows, { spec, hiddenSize })
    if (parts !== undefined) return parts.map(one => ({ ...one, ...changed }))
  }
  const { heads, kvHeads, headSize } = layerSizes(options.shape, index)
  const order = (count: number) => orderOf(count, index, options)
  if (name === 'qkv' && options.keysAreValues(index - 1)) names[2] = names[1]!
  // A norm over heads has their values in the order of the rows.
  if (name === 'q_norm' || name === 'k_norm') {
    return names.map(partName => ({ ...part(partName, rows), ...order(rows / headSize) }))
  }
  // The rows of the gate lie behind each head's own of q.
  const halves = (half: 0 | 1) => headHalves(names[0]!, { heads, headSize, half })
  if (name === 'attention_gate') return halves(1).map(one => ({ ...one, ...changed }))
  if (name === 'qkv' && attention.outputGate && names.length === 3) {
    const [, key = '', value = ''] = names
    return [...halves(0), part(key, kvHeads * headSize), part(value, kvHeads * headSize)]
  }
  if (names.length === 1) return [part(names[0]!, rows)]
  if (names.length === 2) return names.map(partName => part(partName, rows / 2))
  return [heads, kvHeads, kvHeads].map((count, i) => ({
    ...part(names[i]!, count * headSize),
    ...(i < 2 && order(count))
  }))
}

/** One half of the rows of each head of a tensor that has both. */
function headHalves(
  name: string,
  { heads, headSize, half }: { heads: number; headSize: number; half: 0 | 1 }
): Part[] {
  const of = 2 * heads * headSize
  return Array.from({ length: heads }, (_, head) => ({
    ...{ name, rows: headSize, start: (2 * head + half) * headSize, of }
  }))
}

/** The parts that hold the rows of `names` of each expert, or head, one behind the other. */
export function expertParts(names: readonly string[], rows: number, experts: number): Part[] {
  const count = rows / experts / names.length
  return Array.from({ length: experts }, (_, expert) =>
    names.map((name): Part => {
      const own = name.replace('@', String(expert))
      return own === name
        ? { name, rows: count, start: expert * count, stack: experts }
        : { name: own, rows: count }
    })
  ).flat()
}

/** How the rows of so many heads of q or k have to be brought into order. */
function orderOf(
  heads: number,
  layer: number,
  { shape, interleaved }: PartOptions
): Pick<Part, 'interleaved'> {
  if (!interleaved) return {}
  const block = blockOf(shape, layer)
  // Rows that nothing turns are in the same order as the others.
  const rotated = turningOf(shape, block)?.rotated ?? shape.rope.rotated ?? sizesOf(shape, block).headSize
  return { interleaved: { heads, rotated } }
}

function change(name: string, folds: Folds): Pick<Part, 'factor' | 'summand'> {
  const factors: Partial<Record<string, number>> = {
    embedding: folds.embedding,
    attention_output: folds.residual,
    attention_output_bias: folds.residual,
    recurrence_output: folds.residual,
    ffn_down: folds.residual,
    expert_down: folds.residual * folds.experts,
    expert_down_bias: folds.residual * folds.experts,
    shared_down: folds.residual,
    router_norm: folds.router,
    output: folds.logits
  }
  const factor = factors[name] ?? 1
  if (factor !== 1) return { factor }
  return name.endsWith('norm') && name !== 'recurrence_norm' && folds.norms !== 0
    ? { summand: folds.norms }
    : {}
}

import type { LayerKind } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import type { Part } from './weights.ts'

/** A checkpoint format's names for the tensors that models/tensors.ts names; `#` stands for the decoder layer, from 0. */
export type Naming = Record<string, string[]>

export const HUGGING_FACE: Naming = {
  embedding: ['model.embed_tokens.weight'],
  attention_norm: ['model.layers.#.input_layernorm.weight'],
  qkv: ['q', 'k', 'v'].map(p => `model.layers.#.self_attn.${p}_proj.weight`),
  qkv_bias: ['q', 'k', 'v'].map(p => `model.layers.#.self_attn.${p}_proj.bias`),
  q_norm: ['model.layers.#.self_attn.q_norm.weight'],
  k_norm: ['model.layers.#.self_attn.k_norm.weight'],
  attention_output: ['model.layers.#.self_attn.o_proj.weight'],
  attention_post_norm: ['model.layers.#.post_attention_layernorm.weight'],
  ffn_norm: ['model.layers.#.post_attention_layernorm.weight'],
  gate_up: ['model.layers.#.mlp.gate_proj.weight', 'model.layers.#.mlp.up_proj.weight'],
  ffn_down: ['model.layers.#.mlp.down_proj.weight'],
  ffn_post_norm: ['model.layers.#.post_feedforward_layernorm.weight'],
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
  attention_output: ['blk.#.attn_output.weight'],
  attention_post_norm: ['blk.#.post_attention_norm.weight'],
  ffn_norm: ['blk.#.ffn_norm.weight'],
  gate_up: ['blk.#.ffn_gate.weight', 'blk.#.ffn_up.weight'],
  ffn_down: ['blk.#.ffn_down.weight'],
  ffn_post_norm: ['blk.#.post_ffw_norm.weight'],
  norm: ['output_norm.weight'],
  output: ['output.weight']
}

/** What the parts of a checkpoint depend on besides its format. */
export interface PartOptions {
  naming: Naming
  shape: ModelShape
  /** The output projection is the embedding table. */
  tied: boolean
  /** The rows of q and k are in interleaved rotary order. */
  interleaved: boolean
}

/** The checkpoint's tensors that make up tensor `name` of layer `index`, one below the other. */
export function partsOf(
  name: string,
  kind: LayerKind,
  index: number,
  rows: number,
  options: PartOptions
): Part[] {
  const { naming, shape, tied, interleaved } = options
  const key = name === 'output' && tied ? 'embedding' : name
  const names = naming[key]!.map(pattern => pattern.replace('#', String(index - 1)))
  // A norm over heads has their values in the order of the rows.
  const normed = interleaved
    ? { q_norm: rows / shape.headSize, k_norm: rows / shape.headSize }[name]
    : undefined
  if (normed !== undefined) return names.map(part => ({ name: part, rows, interleavedHeads: normed }))
  if (kind !== 'decoder' || names.length === 1) return names.map(part => ({ name: part, rows }))
  if (names.length === 2) return names.map(part => ({ name: part, rows: rows / 2 }))
  const heads = [shape.heads, shape.kvHeads, shape.kvHeads]
  return names.map((part, i) => ({
    name: part,
    rows: heads[i]! * shape.headSize,
    ...(interleaved && i < 2 ? { interleavedHeads: heads[i]! } : {})
  }))
}

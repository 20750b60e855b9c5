import type { Architecture } from './architecture.ts'
import { hunyuanDense } from './hunyuan-dense.ts'

/** Hunyuan's mixtures of experts: its dense layer, with experts in its place and one more that computes every token. */
export const hunyuanMoe: Architecture = {
  ...hunyuanDense,
  name: 'hunyuan_v1_moe',
  models: 'Hunyuan-A13B',
  className: 'HunYuanMoEV1ForCausalLM',
  ggufName: 'hunyuan-moe',
  experts: {
    count: { huggingFace: 'num_experts', default: 1 },
    used: { huggingFace: 'moe_topk', default: 1 },
    size: { huggingFace: 'moe_intermediate_size', default: 11_008 },
    normalised: 'of-several',
    shared: { count: { huggingFace: 'num_shared_expert', default: 1 } }
  },
  only: {
    ...hunyuanDense.only,
    ...{ moe_drop_tokens: false, moe_layer_num_skipped: 0, moe_random_routing_dropped_token: false },
    ...{ group_limited_greedy: false, norm_topk_prob: true, use_mixed_mlp_moe: true, use_mla: false },
    ...{ position_embedding_xdrope: false, use_rotary_pos_emb: true }
  },
  ggufIgnores: ['expert_shared_feed_forward_length'],
  // Those of images and films, and a factor of experts in groups, which these have not.
  ignores: [
    ...hunyuanDense.ignores,
    ...['anyres_pooling_size', 'num_media_embeds', 'skip_cls_token', 'video_end_id', 'video_start_id'],
    ...[
      'routed_scaling_factor',
      'anyres_vit_max_image_size',
      'anyres_vit_two_views',
      'vit_type',
      'vit_path',
      'vit_mapping_type'
    ]
  ],
  names: {
    ...hunyuanDense.names,
    huggingFace: {
      ...hunyuanDense.names?.huggingFace,
      router: ['model.layers.#.mlp.gate.wg.weight'],
      shared_gate_up: ['gate', 'up'].map(part => `model.layers.#.mlp.shared_mlp.${part}_proj.weight`),
      shared_down: ['model.layers.#.mlp.shared_mlp.down_proj.weight']
    }
  }
}

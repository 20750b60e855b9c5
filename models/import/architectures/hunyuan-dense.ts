import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Hunyuan's dense models: heads are normalised once they are turned, by a base that `alpha` makes greater. */
export const hunyuanDense: Architecture = {
  name: 'hunyuan_v1_dense',
  models: 'Hunyuan 0.5B, 1.8B, 4B, 7B',
  heldTo: 'float64',
  className: 'HunYuanDenseV1ForCausalLM',
  ggufName: 'hunyuan-dense',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head-turned' } }],
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  alphaTheta: true,
  only: { add_classification_head: false, use_cla: false, use_qk_norm: true },
  tokenizerClass: 'PreTrainedTokenizerFast',
  // Keys of Tencent's other models: images, classes, and layers that share their caches, which `use_cla` would ask for.
  ignores: [
    ...OF_OTHER_CLASSES,
    'attention_head_dim',
    'cla_share_factor',
    'class_num',
    'dense_list',
    'eod_token_id',
    'im_end_id',
    'im_newline_id',
    'im_start_id',
    'image_token_id',
    'mask_init_id',
    'norm_type',
    'org_vocab_size',
    'pad_id',
    'pool_type',
    'text_end_id',
    'text_start_id'
  ],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      q_norm: ['model.layers.#.self_attn.query_layernorm.weight'],
      k_norm: ['model.layers.#.self_attn.key_layernorm.weight']
    }
  }
}

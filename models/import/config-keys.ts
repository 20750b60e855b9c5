const words = (text: string) => text.trim().split(/\s+/)

/**
 * Keys of config.json that no class of transformers computes logits by: how a model was made, trained and saved, what
 * surrounds its forward pass, and how text is drawn from it (which is the request's to say).
 */
const BESIDE = new Set([
  // PretrainedConfig
  ...words(`
    add_cross_attention architectures attn_implementation auto_map bos_token_id chunk_size_feed_forward
    classifier_dropout cross_attention_hidden_size decoder_start_token_id dtype eos_token_id finetuning_task
    gradient_checkpointing id2label is_decoder is_encoder_decoder keys_to_ignore_at_inference label2id logits_to_keep
    model_max_length model_type name_or_path num_labels num_logits_to_keep output_attentions output_hidden_states
    pad_token_id prefix problem_type pruned_heads return_dict sep_token_id summary_type task_specific_params
    tf_legacy_loss tie_encoder_decoder tokenizer_class torch_dtype torchscript unk_token_id use_bfloat16 use_cache
    use_return_dict
  `),
  // Generation
  ...words(`
    bad_words_ids begin_suppress_tokens cache_implementation diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id generation_config length_penalty max_length
    max_new_tokens min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores
    remove_invalid_values repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
  `),
  // Training, and other programs
  ...words(`
    attention_dropout attention_probs_dropout_prob attn_pdrop dropout embd_pdrop flash_attn hidden_dropout
    hidden_dropout_prob initializer_factor initializer_range is_llama_config max_sequence_length neftune_noise_alpha
    output_router_logits pipeline_parallel_size pretraining_tp resid_pdrop router_aux_loss_coef router_z_loss_coef
    seq_length sequence_parallel tensor_parallel tensor_parallel_size training_args transformers.js_config
    use_flash_attention use_flash_attn use_liger router_jitter_noise
  `)
])

/** Keys of the same kind are known by how they begin or end: private ones, versions, the marks of training programs. */
const BESIDE_PATTERN = /^_|_version$|^(unsloth|axolotl|mergekit|deepspeed|wandb)/

/**
 * Keys by which transformers computes models of other classes; LlamaForCausalLM and its kin do not read them, so a file
 * that has one computes as if it had not.
 */
export const OF_OTHER_CLASSES: readonly string[] = words(`
  activation attention_multiplier attn_logit_softcapping clip_qkv dim_model_base embedding_multiplier
  final_logit_softcapping hidden_activation layer_norm_eps layer_norm_epsilon logit_scale logits_scaling
  no_rope_layer_interval no_rope_layers num_experts_per_tok num_local_experts query_pre_attn_scalar residual_multiplier
  rope_interleaved rotary_emb_base rotary_pct scale_depth scale_emb use_mrope
`)

/** Whether a key says nothing of what a model of the architecture computes. */
export function isBesideTheMaths(key: string, ofOtherClasses: readonly string[]): boolean {
  return BESIDE.has(key) || BESIDE_PATTERN.test(key) || ofOtherClasses.includes(key)
}

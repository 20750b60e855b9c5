import type { ExpertsSpec } from '../../block-schema.ts'
import type { Block, ModelShape } from '../../manifest.ts'
import type { Recurrence } from '../../recurrence-schema.ts'
import type { Naming } from '../naming.ts'

/**
 * What tells one architecture from another, as data. To add one that differs in ways that are known here: a file like
 * the others, its line in index.ts, a golden model's line in test/parity/families.ts.
 */
export interface Architecture {
  /** What models of it are called: `model_type` in config.json and `general.architecture` in GGUF, unless said below. */
  name: string
  /** For people: which models are of it. */
  models: string
  /**
   * What its numbers are held to, to 1e-3: a golden model's tokens and log-probabilities by llama.cpp, or a forward pass in
   * float64 written from its published code (test/reference/).
   */
  heldTo: 'llama.cpp' | 'float64'
  /** `architectures[0]` in config.json. */
  className: string
  /** `model_type` in config.json, where it is another. */
  modelType?: string
  /**
   * `general.architecture` in GGUF, where it is another, perhaps one that stands before it in index.ts; null: GGUF files of
   * it are not read, as nothing has shown yet that they would be right.
   */
  ggufName?: string | null
  /** Another name there, of those of its models that have experts. */
  ggufExpertsName?: string
  normKind: ModelShape['normKind']
  /** What the decoder layers compute, in turns: one block where all are alike. */
  pattern: readonly Block[]
  /** Feed-forward parts of experts, each as the one in `pattern`. */
  experts?: ExpertsRule
  /** Attention over a latent vector of each token: its sizes, where config.json leaves them out. */
  latent?: LatentRule
  /** What config.json leaves out. */
  defaults: {
    heads?: number
    kvHeads?: number
    headSize?: number
    vocabSize?: number
    contextLength?: number
    ropeTheta: number
    normEpsilon: number
    tied: boolean
  }
  /** Its class in transformers has windows; absent: it reads no such key. */
  window?: WindowRule
  /** Its classes have YaRN where config.json says nothing of scaling, or do not: it has to say it. */
  scalingNeeded?: true
  /** YaRN's ramp ends between pairs, which GGUF has no key for. */
  ggufUnrounded?: true
  /** Every so many-th layer has no positions; `no_rope_layers` and `no_rope_layer_interval` of config.json say it, too. */
  unturnedEvery?: number
  /** `alpha` of dynamic scaling makes the base greater, once and for all (Hunyuan's). */
  alphaTheta?: true
  /** Positions may be those of images, too, whose keys say nothing of texts (`mrope_section`). */
  turnsImages?: true
  /** `rms_norm_eps` of config.json, and `intermediate_size` of models without experts, where they are called otherwise. */
  keys?: { normEpsilon?: string; ffnSize?: string; headSize?: string }
  /** The size of feed-forward parts is made of `intermediate_size` and others (LFM2's `block_auto_adjust_ff_dim`). */
  adjustsFfnSize?: true
  /** So much of each head is turned where config.json does not say it (`partial_rotary_factor`); absent: all, always. */
  partialRotary?: number
  /** The key that says instead how many values of each head are turned. */
  rotatedKey?: string
  /** So much of the pairs of each head turn, the others stand still, where `rope_parameters` are left out. */
  proportionalRotary?: number
  /** Each head of q and k has a norm where config.json says so; GGUF shows it. */
  queryKeyNorm?: { huggingFace: string; default: boolean }
  /**
   * How many layers behind the last one guess further tokens: they are left out, but for the first one where that is asked for.
   * GGUF counts them among the layers; `prefix`: Hugging Face files have them apart, under names that begin so. `joins`: how
   * the input of the first one is made, whose block is that of the last layer; absent: it cannot be kept.
   */
  guesses?: { huggingFace: string; gguf: string; prefix?: string; joins?: NonNullable<Block['joins']> }
  /** Some of its layers have a recurrence instead of attention. */
  recurrence?: RecurrenceRule
  /**
   * Each layer is one part alone: it attends, has a recurrence, or is a feed-forward part. A letter a layer, or a word, says which,
   * under these keys of config.json (layer-parts.ts).
   */
  parts?: { pattern: string; types: string }
  /** `attention_bias` of config.json, here where it is left out, says whether q, k and v have biases; GGUF shows it. */
  attentionBias?: boolean
  /** Factors that are multiplied into weights when they are imported. */
  scales?: {
    embedding?: Setting | 'sqrt(hidden)'
    /** The factor of what the router of experts beside a dense unit normalises by. */
    router?: '1/sqrt(hidden)'
    /** The factor of what attention and feed-forward part add to the stream. */
    residual?: Setting
    logits?: Setting
    /** Logits are divided by it instead. */
    logitDivisor?: Setting
  }
  /** What scores are multiplied with, instead of 1 / sqrt(headSize); a GGUF file that lacks it means just that. */
  attentionScale?: Setting & {
    /** It is the root of the number's reciprocal. */
    ofRoot?: true
    /** GGUF has no such number: models of so many layers have 1 / sqrt(hidden / heads), others the usual scale. */
    ggufByHidden?: readonly number[]
  }
  softcaps?: { attention?: Setting; logits?: Setting }
  /** Queries grow with their position: `llama_4_scaling_beta` among the rotary keys of config.json. */
  queryGrowth?: { gguf: string }
  /**
   * Keys of config.json that may have one value only, or a list of nothing else, which is also what is meant where they are left
   * out; a list may be that list only.
   */
  only?: Readonly<Record<string, boolean | number | string | readonly number[]>>
  /** The same of numbers in GGUF; and keys there that its tensors say as well, or nothing hangs on. */
  ggufOnly?: Readonly<Record<string, number>>
  ggufIgnores?: readonly string[]
  /** Numbers that are 0 where all is computed: what models have otherwise, and what is meant where config.json leaves them out. */
  absent?: readonly { huggingFace: string; gguf: string; default: number; what: string }[]
  /** Norms of Hugging Face files lack the 1 that they are to have more. */
  normsLackOne?: true
  /** The tokenizer's class where tokenizer_config.json does not say it (transformers' AutoTokenizer). */
  tokenizerClass: string
  /** What config.json calls the activation, where that is not its name. */
  activationName?: string
  /** Keys of config.json with the activation's name, besides `hidden_act`. */
  activationKeys?: readonly string[]
  /** Keys of config.json that its class in transformers does not read, though others do. */
  ignores: readonly string[]
  /** The rows of q and k are in interleaved rotary order, in these kinds of files. */
  interleaved: { huggingFace: boolean; gguf: boolean }
  /** Tensors that are called otherwise than Llama's (naming.ts). */
  names?: { huggingFace?: Naming; gguf?: Naming }
}

/** A number that checkpoints give, by its key in config.json and in GGUF (behind the architecture's name). */
export interface Setting {
  huggingFace: string
  gguf?: string
  /** Where a checkpoint leaves it out; absent: then there is none. */
  default?: number
}

/** Sizes by DeepSeek's keys in both formats (latent-config.ts); no `query`: queries have no latent vector of their own. */
export interface LatentRule {
  query?: number
  size: number
  unturned: number
  turned: number
  value: number
}

/** A number of config.json, or a list of nothing else, and what it is where it is left out. */
interface DefaultedKey {
  huggingFace: string
  default: number
  /** Another key that may say it as well, and then has to say the same. */
  also?: string
}

/** Experts: how many there are, how large, and which layers have them. */
export interface ExpertsRule {
  /** Models have none unless config.json says so, or where their `count` is 0; GGUF files then count none. */
  enabled?: { huggingFace: string } | 'count'
  count: DefaultedKey
  /** So many compute a token. */
  used: DefaultedKey
  /** The size of each, where it is not that of the model's feed-forward parts; `gguf`: its key there, where it is another. */
  size?: DefaultedKey & { gguf?: string }
  /** Their weights are divided by their sum: always, never, where there are several, or as config.json says; of GGUF files some say it. */
  normalised:
    | boolean
    | 'of-several'
    | { huggingFace: string; default: boolean; gguf: boolean; ggufSays?: true }
  /** How scores become weights. @default 'softmax' */
  router?: ExpertsSpec['router']
  /** They are chosen by corrected weights. */
  corrected?: true
  /** GGUF files say themselves how scores become weights, and have corrections or not. */
  routerByGguf?: true
  /** They stand in groups, of which the best are looked at. */
  groups?: GroupsRule
  /** A factor of their weights. */
  scale?: Setting
  /**
   * One more that computes every token: its size, or of how many of the others' it is; `gated`: times a number that hangs on
   * the token.
   */
  shared?: ({ size: DefaultedKey } | { count: DefaultedKey }) & { gated?: true }
  /** The router and both projections of each have biases. */
  bias?: true
  /** A dense unit computes every token, too; both have norms of their own. */
  beside?: true
  /** How Hugging Face files have all experts of a layer in one tensor, where it is not as the layers' own files have it. */
  stacks?: {
    /** Rows of gate and of up lie by turns. */
    byTurns?: true
    /** Floats are (experts, in, out). */
    transposed: true
  }
  /**
   * Which layers have none: `decoder_sparse_step` and `mlp_only_layers` of config.json say it, or how many first ones, or a list
   * under the key `types`, which has `dense` or `sparse` for each layer; the key `last` names the last one that has experts, from
   * 0, which is the model's where it is -1 or left out. Absent: all have experts.
   */
  dense?: 'sparse-step' | { first: DefaultedKey; types?: string; last?: string }
}

/** Groups of experts: how many there are, how many are looked at, and by which score of each. */
export interface GroupsRule {
  count: DefaultedKey
  used: DefaultedKey
  score: NonNullable<ExpertsSpec['groups']>['score']
  /** A key of config.json that says whether there are any, by its values: no other is known, and the first is the default. */
  method: { huggingFace: string; grouped: string; plain?: string }
}

/** Which layers have a recurrence, and of which kind; its numbers are where recurrence-config.ts says. */
export interface RecurrenceRule {
  kind: Recurrence['kind']
  /** What `layer_types` of config.json calls such layers, and what those that attend. */
  layerType: string
  attentionType: string
  /** Every so many-th layer attends, by this key of config.json and GGUF, where nothing else says which ones do. */
  attendsEvery?: string
  /** This key of config.json lists the layers that attend, from 0, where there are no `layer_types`. */
  attendsList?: string
  /** The convolution has a bias, unless this key of config.json is false. */
  bias?: string
  /** What comes out is normalised in each group by itself. */
  groupNorm?: true
  /** Its numbers where config.json calls them otherwise than recurrence-config.ts says. */
  keys?: Readonly<Record<string, string>>
  /** GGUF files have value heads in an order in which key heads take turns. */
  ggufByTurns?: true
}

/** Which layers attend to the tokens of a window only. */
export interface WindowRule {
  /** `sliding_window` where config.json leaves it out; null: none. */
  tokens: number | null
  /** Only with `use_sliding_window: true`, which is off where it is left out. */
  optional: boolean
  /** The first layer with a window, from 0, where config.json leaves `max_window_layers` out; absent: all have one. */
  firstLayer?: number
  /** Every so many-th layer has none; `sliding_window_pattern` of config.json and GGUF say it, too. */
  fullEvery?: number
  /** The last layer has none in any case. */
  lastFull?: true
  /**
   * Layers without a window have heads of other sizes than `head_dim` and `num_key_value_heads`; `shared` says that their keys
   * are their values, too. GGUF's general keys are theirs, and those that end in `_swa` of layers with a window.
   */
  heads?: { headSize: DefaultedKey; kvHeads: { huggingFace: string }; shared: { huggingFace: string } }
  /** Files of its GGUF name that say nothing of a window have none: they are of this architecture where no other has the name. */
  ggufSays?: true
  /** Layers without a window have no positions, where there are layers with one. */
  fullUnturned?: true
  /** How layers with a window turn: with a base of their own, or as if contexts were not stretched. */
  rope?: { huggingFace: string; gguf: string; theta: number } | 'unscaled'
}

/** Llama's layer, from which others differ. */
export const LLAMA_BLOCK: Block = {
  attention: { kind: 'grouped-query', bias: 'none', queryKeyNorm: 'none', rotary: 'half-split' },
  feedForward: { kind: 'gated', activation: 'silu' },
  norms: 'before'
}

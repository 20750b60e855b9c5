import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type GgufVocabulary, type TokenizerParts, vocabularyObject } from './gguf-vocabulary.ts'
import { PRE_TOKENIZERS, type PreTokenizer } from './pre-tokenizers.ts'

/** Qwen's vocabularies have 151,643 tokens and more; others with ChatML's tokens are far smaller. */
const QWEN_TOKENS = 150_000

/**
 * How text is cut where a file, as those from before May 2024, does not say it: by the architecture where its models all
 * have one rule, by tokens that only one family has, else by GPT-2's own.
 */
function likelyFamily({ metadata, tokens }: GgufVocabulary): string {
  if (metadata.optionalText('general.architecture')?.startsWith('qwen')) return 'qwen2'
  const has = new Set(tokens)
  if (has.has('<|begin_of_text|>') && has.has('<|eot_id|>')) return 'llama-bpe'
  if (has.has('<|im_start|>') && has.has('<|endoftext|>') && tokens.length >= QWEN_TOKENS) return 'qwen2'
  if (has.has('<repo_name>') && has.has('<|endoftext|>')) return 'smollm'
  if (has.has('[INST]') && has.has('[AVAILABLE_TOOLS]')) return 'tekken'
  return 'gpt-2'
}

/** GPT-2's byte pairs: every byte has a letter of its own, merges come in a list. */
export function bytePairTokenizer(vocabulary: GgufVocabulary): TokenizerParts {
  const { file, metadata, tokens } = vocabulary
  const named = metadata.optionalText('tokenizer.ggml.pre')
  const family = named ?? likelyFamily(vocabulary)
  const pre = Object.hasOwn(PRE_TOKENIZERS, family) ? PRE_TOKENIZERS[family] : undefined
  if (pre === undefined) {
    throw new UnsupportedModelError(
      `${file}: pre-tokenizer ${JSON.stringify(family)} is not supported; supported are ` +
        `${Object.keys(PRE_TOKENIZERS).join(', ')}. The model's Hugging Face folder can be imported instead.`
    )
  }
  return {
    byDefault: pre.addsBos === true,
    ...(named === undefined && {
      notices: [
        `tokenizer.ggml.pre is missing: text is cut as ${family} does, by the look of the vocabulary; a newer conversion of ` +
          'the model says it itself'
      ]
    }),
    parts: bytePairParts(
      pre,
      vocabularyObject(tokens),
      metadata.texts('tokenizer.ggml.merges').map(merge => pair(file, merge))
    )
  }
}

/** tokenizer.json's parts of a vocabulary in letters for bytes, which is cut as a family does. */
export function bytePairParts(
  pre: PreTokenizer,
  vocab: Record<string, number>,
  merges: [left: string, right: string][]
): TokenizerParts['parts'] {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false }
  return {
    normalizer: pre.normalizer ?? null,
    pre_tokenizer: preTokenizer(pre),
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.ignoreMerges === true,
      vocab,
      merges
    }
  }
}

function preTokenizer({ patterns = [], asGpt2 = patterns.length === 0 }: PreTokenizer): object {
  const splits = patterns.map(pattern => ({
    type: 'Split',
    pattern: { Regex: pattern },
    behavior: 'Isolated',
    invert: false
  }))
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: asGpt2 }
  return { type: 'Sequence', pretokenizers: [...splits, byteLevel] }
}

/** `left right`; neither part has a space, for byte-level letters have none. */
export function pair(file: string, merge: string): [string, string] {
  const [left, right, ...more] = merge.split(' ')
  if (left && right && more.length === 0) return [left, right]
  throw new CheckpointError(file, `merge ${JSON.stringify(merge.slice(0, 40))} is not two pieces`)
}

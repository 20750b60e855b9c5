import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type GgufVocabulary, type TokenizerParts, vocabularyObject } from './gguf-vocabulary.ts'

/** How a family cuts text before merging: what its own tokenizer.json says. */
interface PreTokenizer {
  /** Absent: GPT-2's own pattern. */
  pattern?: string
  digitsApart?: boolean
  normalizer?: object
  /** A piece that is a token as a whole is not built from merges. */
  ignoreMerges?: boolean
  addsBos?: boolean
}

const CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
const TAIL = ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
const UPPER = '[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]'
const LOWER = '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'

const LLAMA_3: PreTokenizer = {
  pattern: `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|${TAIL}`,
  ignoreMerges: true,
  addsBos: true
}
const QWEN_2: PreTokenizer = {
  pattern: `${CONTRACTIONS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|${TAIL}`,
  normalizer: { type: 'NFC' }
}

/** Qwen's vocabularies have 151,643 tokens and more; others with ChatML's tokens are far smaller. */
const QWEN_TOKENS = 150_000

/** By `tokenizer.ggml.pre`; a family that is not here would be cut wrongly without a word. */
const PRE_TOKENIZERS: Record<string, PreTokenizer> = {
  'llama-bpe': LLAMA_3,
  llama3: LLAMA_3,
  'llama-v3': LLAMA_3,
  qwen2: QWEN_2,
  'deepseek-r1-qwen': QWEN_2,
  'gpt-2': {},
  smollm: { digitsApart: true },
  tekken: {
    pattern:
      `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+|[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*|\\p{N}|` +
      ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+',
    ignoreMerges: true,
    addsBos: true
  }
}

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
    parts: {
      normalizer: pre.normalizer ?? null,
      pre_tokenizer: preTokenizer(pre),
      post_processor: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: pre.ignoreMerges === true,
        vocab: vocabularyObject(tokens),
        merges: metadata.texts('tokenizer.ggml.merges').map(merge => pair(file, merge))
      }
    }
  }
}

function preTokenizer({ pattern, digitsApart }: PreTokenizer): object {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false }
  const before =
    pattern !== undefined
      ? [{ type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false }]
      : digitsApart === true
        ? [{ type: 'Digits', individual_digits: true }]
        : []
  return {
    type: 'Sequence',
    pretokenizers: [...before, { ...byteLevel, use_regex: pattern === undefined }]
  }
}

/** `left right`; neither part has a space, for byte-level letters have none. */
function pair(file: string, merge: string): [string, string] {
  const [left, right, ...more] = merge.split(' ')
  if (left && right && more.length === 0) return [left, right]
  throw new CheckpointError(file, `merge ${JSON.stringify(merge.slice(0, 40))} is not two pieces`)
}

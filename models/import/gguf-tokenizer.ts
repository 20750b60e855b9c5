import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { bytePairTokenizer } from './gguf-byte-pair.ts'
import { GgufMetadata } from './gguf-metadata.ts'
import { gemma4Tokenizer, sentencePieceTokenizer } from './gguf-sentence-piece.ts'
import { type GgufVocabulary, type TokenizerParts, TokenType } from './gguf-vocabulary.ts'
import { ggufPooling } from './pooling-card.ts'

/** Tokens that end a reply whatever the metadata says, as in llama.cpp: many files name only one of theirs. */
const ENDS_A_TURN = new Set([
  '<|eot_id|>',
  '<|eom_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<turn|>',
  '<|return|>',
  '<|call|>',
  '<｜end▁of▁sentence｜>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<EOT>'
])

const PREFIX = 'tokenizer.ggml.'

/** What a GGUF file's vocabulary becomes. */
export interface GgufTokenizer {
  files: Map<string, Uint8Array>
  bosTokenId: number | undefined
  eosTokenIds: number[]
  /** What its user should know. */
  notices: string[]
}

/** -1 as 32 bits without a sign: there is no such token. */
const NO_TOKEN = 0xffffffff

const words = (text: string) => new Set(text.trim().split(/\s+/))

/** tokenizer.ggml.* that is read, here or by the two kinds of tokenizers. */
const READ = words(`
  add_bos_token add_eos_token add_sep_token add_space_prefix bos_token_id eom_token_id eos_token_id eot_token_id merges
  model pre scores token_type tokens unknown_token_id
`)

/** What llama.cpp does not encode by where the tokenizer is SentencePiece's or GPT-2's. */
const NOT_READ_BY_LLAMA_CPP = words(`
  cls_token_id eog_token_ids fim_mid_token_id fim_pad_token_id fim_pre_token_id fim_rep_token_id fim_sep_token_id
  fim_suf_token_id hf_json mask_token_id middle_token_id pad_token_id padding_token_id precompiled_charsmap
  prefix_token_id remove_extra_whitespaces separator_token_id seperator_token_id suffix_token_id token_type_count
  unk_token_id
`)

/**
 * Refuses what would change how text is encoded and is not known.
 *
 * @throws {UnsupportedModelError} naming the key.
 */
function refuseUnknown(metadata: GgufMetadata): void {
  const { file } = metadata
  // A model for embeddings has the token behind texts to which nothing follows.
  const isForEmbeddings = ggufPooling(metadata) !== undefined
  for (const name of ['add_eos_token', 'add_sep_token']) {
    if (metadata.optionalFlag(`${PREFIX}${name}`) !== true) continue
    if (name === 'add_eos_token' && isForEmbeddings) continue
    throw new UnsupportedModelError(
      `${file}: ${PREFIX}${name} is not supported: prompts would end in a token that ends texts`
    )
  }
  for (const key of metadata.keys()) {
    if (!key.startsWith(PREFIX)) continue
    const own = key.slice(PREFIX.length)
    if (READ.has(own) || NOT_READ_BY_LLAMA_CPP.has(own)) continue
    throw new UnsupportedModelError(
      `${file}: the key ${JSON.stringify(key.slice(0, 80))} is not known and may change how text is encoded`
    )
  }
}

/**
 * Writes the vocabulary in a GGUF file's metadata as tokenizer.json, tokenizer_config.json and generation_config.json.
 *
 * @throws {UnsupportedModelError} for a kind of tokenizer that is not known; {CheckpointError} when its parts do not fit
 * each other or the model.
 */
export function ggufTokenizer(
  file: string,
  values: ReadonlyMap<string, unknown>,
  vocabSize: number
): GgufTokenizer {
  const metadata = new GgufMetadata(file, values)
  refuseUnknown(metadata)
  const tokens = metadata.texts('tokenizer.ggml.tokens')
  if (tokens.length > vocabSize) {
    throw new CheckpointError(file, `${tokens.length} tokens, but the model's vocabulary has ${vocabSize}`)
  }
  const types = metadata.optionalNumbers('tokenizer.ggml.token_type') ?? tokens.map(() => TokenType.normal)
  if (types.length !== tokens.length) {
    throw new CheckpointError(file, `${types.length} token types for ${tokens.length} tokens`)
  }
  const id = (name: string): number | undefined => {
    const value = metadata.optionalNumber(`tokenizer.ggml.${name}_token_id`)
    if (value === NO_TOKEN) return undefined
    if (value === undefined || tokens[value] !== undefined) return value
    throw new CheckpointError(file, `${name} token ${value} is outside the vocabulary of ${tokens.length}`)
  }
  const bosTokenId = id('bos')
  const named = [id('eos'), id('eot'), id('eom')].filter(value => value !== undefined)
  const marks = new Map(
    tokens.flatMap((token, i): [string, number][] =>
      types[i] !== TokenType.normal && ENDS_A_TURN.has(token) ? [[token, i]] : []
    )
  )
  // gpt-oss ends each of a reply's messages with it, and the reply with one of these.
  if (marks.has('<|return|>') && marks.has('<|call|>')) marks.delete('<|end|>')
  const marked = marks.values()
  const eosTokenIds = [...new Set([...named, ...marked])]
  const text = (tokenId: number | undefined) => (tokenId === undefined ? undefined : tokens[tokenId])
  const vocabulary: GgufVocabulary = {
    file,
    metadata,
    tokens,
    types,
    bosToken: text(bosTokenId),
    unknownToken: text(id('unknown'))
  }
  const { tokenizer, addsBos, notices } = tokenizerOf(vocabulary)
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    add_bos_token: addsBos,
    bos_token: vocabulary.bosToken,
    eos_token: text(eosTokenIds[0]),
    add_eos_token: metadata.optionalFlag('tokenizer.ggml.add_eos_token') === true || undefined,
    unk_token: vocabulary.unknownToken,
    chat_template: metadata.optionalText('tokenizer.chat_template')
  }
  const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))
  return {
    files: new Map([
      ['tokenizer.json', json(tokenizer)],
      ['tokenizer_config.json', json(config)],
      ['generation_config.json', json({ bos_token_id: bosTokenId, eos_token_id: eosTokenIds })]
    ]),
    bosTokenId,
    eosTokenIds,
    notices
  }
}

/** By `tokenizer.ggml.model`. */
const KINDS: Record<string, (vocabulary: GgufVocabulary) => TokenizerParts> = {
  llama: sentencePieceTokenizer,
  gpt2: bytePairTokenizer,
  gemma4: gemma4Tokenizer
}

function tokenizerOf(vocabulary: GgufVocabulary): {
  tokenizer: object
  addsBos: boolean
  notices: string[]
} {
  const { file, metadata, bosToken } = vocabulary
  const model = metadata.optionalText('tokenizer.ggml.model')
  const partsOf = model !== undefined && Object.hasOwn(KINDS, model) ? KINDS[model] : undefined
  if (partsOf === undefined) {
    throw new UnsupportedModelError(
      `${file}: tokenizer ${JSON.stringify(model ?? null)} is not supported; supported are llama (SentencePiece), gpt2 (byte pairs) and gemma4`
    )
  }
  const { byDefault, parts, notices = [] } = partsOf(vocabulary)
  const addsBos =
    (metadata.optionalFlag('tokenizer.ggml.add_bos_token') ?? byDefault) && bosToken !== undefined
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: addedTokens(vocabulary),
    ...parts,
    post_processor: addsBos ? startsWith(bosToken, vocabulary.tokens.indexOf(bosToken)) : parts.post_processor
  }
  return { tokenizer, addsBos, notices }
}

/** Tokens that are found before anything is split or merged. */
function addedTokens({ tokens, types }: GgufVocabulary): object[] {
  return tokens.flatMap((content, id) => {
    const type = types[id]
    const special = type === TokenType.control || type === TokenType.unknown
    if ((!special && type !== TokenType.userDefined) || content === '') return []
    return [{ id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special }]
  })
}

function startsWith(token: string, id: number): object {
  return {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: token, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { [token]: { id: token, ids: [id], tokens: [token] } }
  }
}

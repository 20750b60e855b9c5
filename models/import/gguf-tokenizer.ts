import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { bytePairTokenizer } from './gguf-byte-pair.ts'
import { GgufMetadata } from './gguf-metadata.ts'
import { sentencePieceTokenizer } from './gguf-sentence-piece.ts'
import { type GgufVocabulary, TokenType } from './gguf-vocabulary.ts'

/** Tokens that end a reply whatever the metadata says, as in llama.cpp: many files name only one of theirs. */
const ENDS_A_TURN = new Set([
  '<|eot_id|>',
  '<|eom_id|>',
  '<|im_end|>',
  '<|end|>',
  '<end_of_turn>',
  '<|endoftext|>',
  '<|end_of_text|>',
  '<EOT>'
])

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
): { files: Map<string, Uint8Array>; bosTokenId: number | undefined; eosTokenIds: number[] } {
  const metadata = new GgufMetadata(file, values)
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
    if (value === undefined || tokens[value] !== undefined) return value
    throw new CheckpointError(file, `${name} token ${value} is outside the vocabulary of ${tokens.length}`)
  }
  const bosTokenId = id('bos')
  const named = [id('eos'), id('eot'), id('eom')].filter(value => value !== undefined)
  const marked = tokens.flatMap((token, i) =>
    types[i] !== TokenType.normal && ENDS_A_TURN.has(token) ? [i] : []
  )
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
  const { tokenizer, addsBos } = tokenizerOf(vocabulary)
  const config = {
    tokenizer_class: 'PreTrainedTokenizerFast',
    clean_up_tokenization_spaces: false,
    add_bos_token: addsBos,
    bos_token: vocabulary.bosToken,
    eos_token: text(eosTokenIds[0]),
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
    eosTokenIds
  }
}

function tokenizerOf(vocabulary: GgufVocabulary): { tokenizer: object; addsBos: boolean } {
  const { file, metadata, bosToken } = vocabulary
  const model = metadata.optionalText('tokenizer.ggml.model')
  if (model !== 'llama' && model !== 'gpt2') {
    throw new UnsupportedModelError(
      `${file}: tokenizer ${JSON.stringify(model ?? null)} is not supported; supported are llama (SentencePiece) and gpt2 (byte pairs)`
    )
  }
  const { byDefault, parts } =
    model === 'llama' ? sentencePieceTokenizer(vocabulary) : bytePairTokenizer(vocabulary)
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
  return { tokenizer, addsBos }
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

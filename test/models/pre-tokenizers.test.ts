import { expect, it } from 'vitest'
import { ggufTokenizer } from '../../models/import/gguf-tokenizer.ts'
import { PRE_TOKENIZERS } from '../../models/import/pre-tokenizers.ts'

/** What the pre-tokenizer of a family cuts a text into: its Split steps one after the other. */
function piecesOf(family: string, text: string): string[] {
  const { patterns = [] } = PRE_TOKENIZERS[family]!
  return patterns.reduce<string[]>(
    (pieces, pattern) =>
      pieces.flatMap(piece => piece.split(new RegExp(`(${pattern})`, 'gu')).filter(Boolean)),
    [text]
  )
}

const BYTE_PAIRS = new Map<string, unknown>([
  ['general.architecture', 'llama'],
  ['tokenizer.ggml.model', 'gpt2'],
  ['tokenizer.ggml.tokens', ['a', 'b', 'ab', '<end>']],
  ['tokenizer.ggml.token_type', [1, 1, 1, 3]],
  ['tokenizer.ggml.merges', ['a b']],
  ['tokenizer.ggml.eos_token_id', 3]
])

it.each([
  ['gpt-4o', "HelloWORLD's it'S 1234a/\n", ['Hello', "WORLD's", " it'S", ' ', '123', '4', 'a', '/\n']],
  ['tekken', "HelloWORLD's 12a", ['Hello', 'WORLD', "'s", ' ', '1', '2', 'a']],
  ['llama-bpe', "HelloWORLD's 1234", ['HelloWORLD', "'s", ' ', '123', '4']],
  ['qwen2', 'a\u0301b 12', ['a', '\u0301b', ' ', '1', '2']],
  ['qwen35', 'a\u0301b 12', ['a\u0301b', ' ', '1', '2']],
  ['deepseek-v3', '日本go 1234.x -(a', ['日本', 'go', ' ', '123', '4', '.x', ' -(', 'a']],
  ['deepseek-llm', 'Ab 12\n。日 $x', ['Ab', ' ', '12', '\n', '。', '日', ' $', 'x']],
  ['deepseek-coder', 'Ab 12\nx.y', ['Ab', ' ', '1', '2', '\n', 'x', '.', 'y']],
  ['bailingmoe', "a'Ve\n\n", ['a', "'Ve", '\n\n']],
  ['seed-coder', 'a!!\n', ['a', '!!', '\n']],
  ['dbrx', 'a!!\n', ['a', '!!\n']],
  ['viking', 'ab, 12.', ['ab', ',', ' ', '1', '2', '.']],
  ['bailingmoe2', "a'Ve\n\n", ['a', "'Ve", '\n\n']],
  ['cohere2moe', 'x 1234567 12345a', ['x', ' ', '1', '234', '567', ' ', '123', '45', 'a']],
  ['jais-2', 'a       b', ['a', '    ', '  ', ' b']],
  ['minicpm5', "it'S 1234", ['it', "'S", ' ', '123', '4']],
  ['spark2_5', 'a!!\n\n12', ['a', '!!', '\n', '\n', '1', '2']],
  ['youtu', '日本。Go 12', ['日本', '。', 'Go', ' ', '1', '2']],
  ['ufakzeka', "Ali'nin 12", ['Ali', "'nin", ' ', '1', '2']],
  ['laguna', 'a\n\n b', ['a', '\n\n', ' b']],
  ['exaone-moe', 'go on 12\n\n', ['go on', ' ', '1', '2', '\n\n']]
])('%s cuts %j', (family, text, pieces) => {
  expect(piecesOf(family, text)).toEqual(pieces)
})

// llama.cpp's list (llama-vocab.cpp) has more: rules that are programs there, and those of models for embeddings and images.
it.each(['afmoe', 'superbpe', 'sarvam-moe', 'chameleon', 'whitespace', 'jina-v2-code', 'roberta-bpe'])(
  '%s is refused by its name',
  family => {
    expect(() => ggufTokenizer('f', new Map([...BYTE_PAIRS, ['tokenizer.ggml.pre', family]]), 4)).toThrow(
      `pre-tokenizer "${family}" is not supported`
    )
  }
)

it.each(Object.keys(PRE_TOKENIZERS))('%s loses nothing', family => {
  const text = "It's 12345 naïve\t日本語, (ok)!\r\n\n  e\u0301 👍🏽 $5.00 "
  expect(piecesOf(family, text).join('')).toBe(text)
})

import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { tokenizerFromRanks, tokenizerOfRanks } from '../../models/import/tiktoken.ts'
import { ModelStore } from '../../models/store/store.ts'
import { DEEPSEEK, writeDeepseek } from '../fixtures/deepseek.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { prng } from '../fixtures/prng.ts'

const VOCABULARY = 800
const random = prng(19)
const CONFIG = {
  tokenizer_class: 'TikTokenTokenizer',
  auto_map: { AutoTokenizer: ['tokenization_moonshot.TikTokenTokenizer', null] },
  bos_token: '[BOS]',
  added_tokens_decoder: {
    500: { content: '[BOS]', special: true },
    502: { content: '<tool>', special: false }
  }
}
const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value))

/** 500 tokens: all bytes, and pairs of others, many of which come about in several ways. */
function ranks(): Buffer[] {
  const tokens = Array.from({ length: 256 }, (_, byte) => Buffer.of(byte))
  const seen = new Set(tokens.map(token => token.toString('latin1')))
  const letters = ['a', 'b', 'c', "'s", ' ', 'A', '你', '好', '\n'].flatMap(text => [...Buffer.from(text)])
  while (tokens.length < 500) {
    const some = () =>
      random() < 0.5 || tokens.length < 270
        ? tokens[letters[Math.floor(random() * letters.length)]!]!
        : tokens[256 + Math.floor(random() * (tokens.length - 256))]!
    const token = Buffer.concat([some(), some()])
    if (token.length > 12 || seen.has(token.toString('latin1'))) continue
    seen.add(token.toString('latin1'))
    tokens.push(token)
  }
  return tokens
}

const TOKENS = ranks()
const file = (tokens: readonly Buffer[]) =>
  tokens.map((token, rank) => `${token.toString('base64')} ${rank}\n`).join('')

/** `pat_str` of tokenization_kimi.py, with its intersections as look-aheads. */
const UPPER = '(?:(?!\\p{Script=Han})[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}])'
const LOWER = '(?:(?!\\p{Script=Han})[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}])'
const END = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"
const PIECES = new RegExp(
  [
    '\\p{Script=Han}+',
    `[^\\r\\n\\p{L}\\p{N}]?${UPPER}*${LOWER}+${END}`,
    `[^\\r\\n\\p{L}\\p{N}]?${UPPER}+${LOWER}*${END}`,
    '\\p{N}{1,3}',
    ' ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*',
    '\\s*[\\r\\n]+',
    '\\s+(?!\\S)',
    '\\s+'
  ].join('|'),
  'gu'
)

/** What tiktoken makes of a text: of each piece the neighbours that make the lowest rank are joined, until none make one. */
function encoded(text: string): number[] {
  const rankOf = new Map(TOKENS.map((token, rank) => [token.toString('latin1'), rank]))
  return [...text.matchAll(PIECES)].flatMap(([piece]) => {
    const whole = Buffer.from(piece).toString('latin1')
    if (rankOf.has(whole)) return [rankOf.get(whole)!]
    const parts = [...whole]
    for (;;) {
      const made = parts.slice(1).map((part, i) => rankOf.get(parts[i]! + part) ?? Number.POSITIVE_INFINITY)
      const lowest = Math.min(...made)
      if (lowest === Number.POSITIVE_INFINITY) return parts.map(part => rankOf.get(part)!)
      const at = made.indexOf(lowest)
      parts.splice(at, 2, parts[at]! + parts[at + 1]!)
    }
  })
}

describe('a tokenizer by ranks', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>
  beforeEach(async () => {
    folder = await temporaryFolder()
  })
  afterEach(() => folder[Symbol.asyncDispose]())

  async function made(tokens: string | readonly Buffer[] = TOKENS, config: object = CONFIG) {
    await writeFile(join(folder.path, 'tiktoken.model'), typeof tokens === 'string' ? tokens : file(tokens))
    return (await tokenizerOfRanks(folder.path, json(config), VOCABULARY))!
  }

  it('encodes as tiktoken does, whichever way a token came about', async () => {
    const config = { ...CONFIG, clean_up_tokenization_spaces: false }
    const tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(await made())), config)
    const pieces = ['a', 'b', 'c', 'A', "'s", "'S", ' ', '\n', '你', '好', '12', '345', '.', 'é', 'かな']
    for (let i = 0; i < 300; i++) {
      const text = Array.from({ length: 1 + i / 8 }, () => pieces[Math.floor(random() * pieces.length)]).join(
        ''
      )
      expect(tokenizer.encode(text, { add_special_tokens: false }).ids, text).toEqual(encoded(text))
      expect(tokenizer.decode(encoded(text))).toBe(text)
    }
  })

  it('has names for the 256 ids behind, of which those that are marked are special', async () => {
    const { added_tokens } = JSON.parse(new TextDecoder().decode(await made()))
    expect(added_tokens).toHaveLength(256)
    expect(added_tokens.slice(0, 3)).toMatchObject([
      { id: 500, content: '[BOS]', special: true },
      { id: 501, content: '<|reserved_token_501|>', special: true },
      { id: 502, content: '<tool>', special: false }
    ])
  })

  it.each<[string, string | readonly Buffer[], object, RegExp]>([
    [
      'another class',
      TOKENS,
      { ...CONFIG, tokenizer_class: 'QWenTokenizer' },
      /Moonshot's TikTokenTokenizer only/
    ],
    [
      "another maker's class",
      TOKENS,
      { ...CONFIG, auto_map: { AutoTokenizer: ['tokenization_other.TikTokenTokenizer', null] } },
      /Moonshot's TikTokenTokenizer only/
    ],
    ['no configuration', TOKENS, {}, /Moonshot's TikTokenTokenizer only/],
    [
      'ranks that skip one',
      file(TOKENS).replace(' 300\n', ' 301\n'),
      CONFIG,
      /line 301 is not the token of rank 300/
    ],
    ['a token twice', [...TOKENS, TOKENS[400]!], CONFIG, /line 501/],
    ['what is no base64', `${file(TOKENS)}?? 500\n`, CONFIG, /line 501/],
    ['a token of 2,000 bytes', [...TOKENS, Buffer.alloc(2000, 97)], CONFIG, /line 501/],
    [
      'tokens that come about in too many ways',
      [...TOKENS.slice(0, 256), ...Array.from({ length: 254 }, (_, i) => Buffer.alloc(i + 2, 97))],
      CONFIG,
      /has more than 16320 pairs that make up a token/
    ],
    ['a byte that is missing', TOKENS.slice(0, 255), CONFIG, /has no token of byte 255/],
    [
      'more tokens than the model has',
      [...TOKENS, ...Array.from({ length: 301 }, (_, i) => Buffer.from(`more${i}`))],
      CONFIG,
      /has 801 tokens, but the model's vocabulary has 800/
    ]
  ])('is refused with %s', async (_, tokens, config, message) => {
    await expect(made(tokens, config)).rejects.toThrow(message)
  })

  it('is refused with long tokens that come about in many ways, which would make a file that nobody can hold', () => {
    // Every run of `a` with a run of `b` behind it: wherever one is cut, it is two tokens.
    const runs = Array.from({ length: 130 }, (_, length) =>
      Array.from({ length: length + 1 }, (_, as) =>
        Buffer.concat([Buffer.alloc(as, 'a'), Buffer.alloc(length - as, 'b')])
      )
    )
    // Others, so that the mean of all is nothing that stands out.
    const others = Array.from({ length: 14_000 }, (_, i) => Buffer.of(200, 200, i >> 8, i & 255))
    const tokens = [...TOKENS.slice(0, 256), ...others, ...runs.slice(2).flat()]
    expect(() =>
      tokenizerFromRanks('tiktoken.model', Buffer.from(file(tokens)), CONFIG, 2 * tokens.length)
    ).toThrow(/tiktoken\.model.* has more than 67108864 bytes in pairs that make up a token/)
  })

  it('stands in a folder of Kimi K2 for tokenizer.json, which goes before it', async () => {
    const dir = join(folder.path, 'model')
    const config = { ...DEEPSEEK, n_group: 1, topk_group: 1 }
    await writeDeepseek(dir, 'kimi_k2', config, {})
    const store = await ModelStore.open(join(folder.path, 'store'))
    await writeFile(join(dir, 'tiktoken.model'), 'damaged')
    const plain = await importModel(dir, store, { name: 'plain' })
    expect(plain.manifest.shape).toMatchObject({ architecture: 'kimi_k2', decoderLayers: 3 })
    await rm(join(dir, 'tokenizer.json'))
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(/Moonshot's TikTokenTokenizer only/)
    await rm(join(dir, 'tiktoken.model'))
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(/has no tokenizer\.json/)
  })
})

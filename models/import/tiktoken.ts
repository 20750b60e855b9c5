import { join } from 'node:path'
import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { parseJsonObject, readSmallFile } from '../formats/files.ts'
import { MAX_SIDE_FILE_BYTES } from '../manifest-schema.ts'
import { bytePairParts } from './gguf-byte-pair.ts'
import { vocabularyObject } from './gguf-vocabulary.ts'
import { KIMI } from './pre-tokenizers.ts'

/** A file of tokens by rank, each as base64 and its number. */
const FILE = 'tiktoken.model'
/** Far above the longest: 128 spaces. */
const MAX_TOKEN_BYTES = 256
/** Ways in which tokens come about, of each in the mean and of all: far above what known ones come to, of 163,584 tokens. */
const MAX_MEAN_MERGES = 32
const MAX_MERGES = 4 * 2 ** 20
/** Bytes of the tokens in all of them: what is made of a file is not larger than any side file may be. */
const MAX_MERGED_BYTES = MAX_SIDE_FILE_BYTES / 2
/** Ids behind the ranks that the class gives names to. */
const RESERVED = 256

/** Modules whose class of this name cuts text by the rule that is known here: other makers' cut otherwise. */
const CLASS = /^tokenization_(kimi|moonshot)\.TikTokenTokenizer$/

const Config = z.looseObject({
  tokenizer_class: z.literal('TikTokenTokenizer'),
  auto_map: z.looseObject({
    AutoTokenizer: z.union([z.string(), z.array(z.string().nullable()).min(1).max(2)])
  }),
  added_tokens_decoder: z
    .record(
      z.string().regex(/^\d{1,7}$/),
      z.looseObject({ content: z.string().min(1).max(256), special: z.boolean().optional() })
    )
    .optional()
})

/**
 * tokenizer.json of a folder that has Moonshot's form of a tokenizer instead (Moonlight, Kimi K2): a file of byte pairs by rank, and
 * a class in Python, of which just the rule that it is known by is taken; undefined where there is no such file.
 *
 * @param config bytes of tokenizer_config.json
 * @throws {UnsupportedModelError} where the class is another one; {CheckpointError} for a file that is damaged.
 */
export async function tokenizerOfRanks(
  dir: string,
  config: Uint8Array | undefined,
  vocabSize: number
): Promise<Uint8Array | undefined> {
  const path = join(dir, FILE)
  const bytes = await readSmallFile(path, MAX_SIDE_FILE_BYTES)
  if (bytes === undefined) return undefined
  const json = config === undefined ? {} : parseJsonObject(join(dir, 'tokenizer_config.json'), config)
  return tokenizerFromRanks(path, bytes, json, vocabSize)
}

/**
 * The same of what is read already.
 *
 * @param path what errors call the file of ranks
 */
export function tokenizerFromRanks(
  path: string,
  bytes: Uint8Array,
  config: Record<string, unknown>,
  vocabSize: number
): Uint8Array {
  const parsed = Config.safeParse(config)
  const ofClass = parsed.success ? [parsed.data.auto_map.AutoTokenizer].flat()[0] : undefined
  if (!parsed.success || !CLASS.test(ofClass ?? '')) {
    throw new UnsupportedModelError(
      `${path}: how text is cut is known for Moonshot's TikTokenTokenizer only, which tokenizer_config.json does not name`
    )
  }
  const tokens = readRanks(path, bytes)
  const beyond = tokens.length - vocabSize
  if (beyond > 0) {
    throw new CheckpointError(
      path,
      `has ${tokens.length} tokens, but the model's vocabulary has ${vocabSize}: the tokenizer belongs to another model`
    )
  }
  const named = new Map(
    Object.entries(parsed.data.added_tokens_decoder ?? {}).map(([id, token]) => [Number(id), token])
  )
  const reserved = Math.min(RESERVED, vocabSize - tokens.length)
  const tokenizer = {
    version: '1.0',
    added_tokens: Array.from({ length: reserved }, (_, i) => {
      const id = tokens.length + i
      const { content = `<|reserved_token_${id}|>`, special = true } = named.get(id) ?? {}
      return { id, content, special, ...NOT_CHANGED }
    }),
    ...bytePairParts(KIMI, vocabularyObject(tokens.map(lettersOf)), mergesOf(path, tokens))
  }
  const made = new TextEncoder().encode(JSON.stringify(tokenizer))
  if (made.byteLength <= MAX_SIDE_FILE_BYTES) return made
  throw new CheckpointError(
    path,
    `makes a tokenizer.json of ${made.byteLength} bytes, more than a model may have`
  )
}

const NOT_CHANGED = { single_word: false, lstrip: false, rstrip: false, normalized: false }

/** Tokens in the order of their ranks, each a byte a character. */
function readRanks(path: string, bytes: Uint8Array): string[] {
  const tokens: string[] = []
  const seen = new Set<string>()
  for (const line of new TextDecoder('latin1').decode(bytes).split('\n')) {
    if (line === '') continue
    const [, base64 = '', rank] = /^([A-Za-z0-9+/]+={0,2}) (\d{1,7})$/.exec(line) ?? []
    const token = Buffer.from(base64, 'base64').toString('latin1')
    if (Number(rank) !== tokens.length || token === '' || token.length > MAX_TOKEN_BYTES || seen.has(token)) {
      throw new CheckpointError(path, `line ${tokens.length + 1} is not the token of rank ${tokens.length}`)
    }
    seen.add(token)
    tokens.push(token)
  }
  for (let byte = 0; byte < 256; byte++) {
    if (!seen.has(String.fromCharCode(byte))) throw new CheckpointError(path, `has no token of byte ${byte}`)
  }
  return tokens
}

/**
 * Every two tokens that make up a third, in the order of its rank: tiktoken joins whichever neighbours make the lowest one, however
 * that was first made.
 */
function mergesOf(path: string, tokens: readonly string[]): [string, string][] {
  const ranks = new Map(tokens.map((token, rank) => [token, rank]))
  const letters = tokens.map(lettersOf)
  const merges: [string, string][] = []
  const most = Math.min(MAX_MERGES, MAX_MEAN_MERGES * tokens.length)
  let bytes = 0
  for (const token of tokens) {
    const pairs: [left: number, right: number][] = []
    for (let at = 1; at < token.length; at++) {
      const [left, right] = [ranks.get(token.slice(0, at)), ranks.get(token.slice(at))]
      if (left !== undefined && right !== undefined) pairs.push([left, right])
    }
    pairs.sort(([a, b], [c, d]) => a - c || b - d)
    for (const [left, right] of pairs) merges.push([letters[left]!, letters[right]!])
    bytes += pairs.length * token.length
    if (merges.length > most || bytes > MAX_MERGED_BYTES) {
      const bound = merges.length > most ? `${most} pairs` : `${MAX_MERGED_BYTES} bytes in pairs`
      throw new CheckpointError(path, `has more than ${bound} that make up a token`)
    }
  }
  return merges
}

/** GPT-2's letter of each byte: its own where it can be seen, else one from 256 on. */
const LETTERS = (() => {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const isSeen = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173)
    return String.fromCharCode(isSeen ? byte : next++)
  })
})()

function lettersOf(token: string): string {
  return Array.from(token, character => LETTERS[character.charCodeAt(0)]!).join('')
}

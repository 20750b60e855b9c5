import { TokenizerError } from './errors.ts'

/** One entry of tokenizer.json's `added_tokens`. */
export interface AddedToken {
  id: number
  content: string
  special: boolean
  lstrip: boolean
  rstrip: boolean
}

/** tokenizer.json as far as it is used here; the rest is the tokenizer library's to check. */
export interface TokenizerJson {
  added_tokens: AddedToken[]
  decoder: unknown
  post_processor: unknown
  model: { vocab: Record<string, number> | [string, number][]; unk_token?: string; unk_id?: number }
}

export type JsonObject = Record<string, unknown>

const MAX_FILE_BYTES: Record<string, number> = {
  'tokenizer.json': 64 << 20,
  'tokenizer_config.json': 4 << 20,
  'chat_template.jinja': 1 << 20
}

/** More than any model's vocabulary; ids above would make tables of their size. */
const MAX_TOKEN_ID = 1 << 20

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text of one of the model's files, or null where the model has none. */
export function readText(files: Record<string, Uint8Array>, name: string): string | null {
  const bytes = files[name]
  if (bytes === undefined) return null
  const limit = MAX_FILE_BYTES[name] ?? 0
  if (bytes.byteLength > limit) {
    throw new TokenizerError(`${name} has ${bytes.byteLength} bytes; at most ${limit} are read`)
  }
  return new TextDecoder().decode(bytes)
}

/** tokenizer_config.json, or {} where the model has none. */
export function readConfig(files: Record<string, Uint8Array>): JsonObject {
  const text = readText(files, 'tokenizer_config.json')
  return text === null ? {} : parseObject(text, 'tokenizer_config.json')
}

/** Parses and checks tokenizer.json: every id is a small natural number, every token a string. */
export function readTokenizerJson(files: Record<string, Uint8Array>): TokenizerJson {
  const text = readText(files, 'tokenizer.json')
  if (text === null) throw new TokenizerError('the model has no tokenizer.json')
  const json = parseObject(text, 'tokenizer.json')
  const { model } = json
  if (!isObject(model)) throw new TokenizerError('tokenizer.json has no "model"')
  const pairs = vocabularyPairs(model.vocab)
  for (const [token, id] of pairs) checkToken(token, id)
  return { ...json, model, added_tokens: readAddedTokens(json.added_tokens) } as unknown as TokenizerJson
}

/** [token, id] of the base vocabulary: an object (BPE, WordPiece) or a list of [piece, score] (Unigram). */
export function vocabularyPairs(vocab: unknown): [string, number][] {
  if (Array.isArray(vocab)) {
    return vocab.map((entry: unknown, id) => [Array.isArray(entry) ? entry[0] : entry, id])
  }
  if (!isObject(vocab)) throw new TokenizerError('tokenizer.json has no "model.vocab"')
  return Object.entries(vocab) as [string, number][]
}

function readAddedTokens(value: unknown): AddedToken[] {
  if (value === undefined || value === null) return []
  if (!Array.isArray(value)) throw new TokenizerError('tokenizer.json: "added_tokens" is not a list')
  return value.map((entry: unknown) => {
    if (!isObject(entry)) throw new TokenizerError('tokenizer.json: an added token is not an object')
    const { id, content } = entry
    checkToken(content, id)
    if (content === '') throw new TokenizerError(`tokenizer.json: added token ${String(id)} is empty`)
    const flags = {
      special: entry.special === true,
      lstrip: entry.lstrip === true,
      rstrip: entry.rstrip === true
    }
    return { ...entry, id: id as number, content: content as string, ...flags }
  })
}

function checkToken(token: unknown, id: unknown): void {
  if (typeof token !== 'string')
    throw new TokenizerError(`tokenizer.json: token ${String(id)} is not a string`)
  if (!Number.isInteger(id) || (id as number) < 0 || (id as number) > MAX_TOKEN_ID) {
    throw new TokenizerError(
      `tokenizer.json: "${token.slice(0, 40)}" has id ${String(id)}, not in [0, ${MAX_TOKEN_ID}]`
    )
  }
}

function parseObject(text: string, name: string): JsonObject {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new TokenizerError(`${name} is not JSON: ${(error as Error).message.slice(0, 200)}`)
  }
  if (!isObject(value)) throw new TokenizerError(`${name} is not a JSON object`)
  return value
}

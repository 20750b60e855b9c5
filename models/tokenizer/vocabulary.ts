import { TokenizerError } from './errors.ts'
import { isObject, type JsonObject, type TokenizerJson, vocabularyPairs } from './files.ts'
import type { Vocabulary } from './messages.ts'

const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/
const MAX_TOKEN_BYTES = 4096
const NO_BYTES = new Uint8Array(0)

/** How one token becomes bytes, and how many spaces a decode takes off the beginning. */
interface TokenReader {
  bytesOf(token: string): Uint8Array
  stripStart: number
}

/** A table of every token's bytes as the model's decoder gives them; control tokens have none. */
export function buildVocabulary(json: TokenizerJson, controls: ReadonlyMap<number, string>): Vocabulary {
  const reader = tokenReader(json.decoder)
  const tokens: string[] = []
  for (const [token, id] of vocabularyPairs(json.model.vocab)) tokens[id] = token
  for (const { content, id } of json.added_tokens) tokens[id] = content
  const parts = Array.from(tokens, (token, id) =>
    token === undefined || controls.has(id) ? NO_BYTES : reader.bytesOf(token).subarray(0, MAX_TOKEN_BYTES)
  )
  const offsets = new Uint32Array(parts.length + 1)
  for (const [i, part] of parts.entries()) offsets[i + 1] = offsets[i]! + part.length
  const bytes = new Uint8Array(offsets[parts.length]!)
  for (const [i, part] of parts.entries()) bytes.set(part, offsets[i]!)
  return { bytes, offsets, stripStart: reader.stripStart, controls: [...controls] }
}

/** Reads tokenizer.json's `decoder`. Its steps act on one token, except for spaces taken off the whole text. */
function tokenReader(decoder: unknown): TokenReader {
  const steps = flatten(decoder)
  const encoder = new TextEncoder()
  const byteLevel = steps.some(step => step.type === 'ByteLevel') ? byteLevelTable() : null
  const byteFallback = steps.some(step => step.type === 'ByteFallback')
  const replacements: [from: string, to: string][] = []
  let stripStart = 0
  for (const step of steps) {
    if (step.type === 'Replace') replacements.push(replacement(step))
    else if (step.type === 'Metaspace') {
      replacements.push([String(step.replacement ?? '▁'), ' '])
      if (step.prepend_scheme !== 'never' && step.add_prefix_space !== false) stripStart = 1
    } else if (step.type === 'Strip') {
      if (step.content === ' ' && Number.isInteger(step.start)) stripStart = Math.max(0, step.start as number)
    } else if (!['ByteLevel', 'ByteFallback', 'Fuse'].includes(String(step.type))) {
      throw new TokenizerError(`tokenizer.json: decoder "${String(step.type)}" is not supported`)
    }
  }
  const bytesOf = (token: string): Uint8Array => {
    const byte = byteFallback ? BYTE_TOKEN.exec(token) : null
    if (byte) return Uint8Array.of(Number.parseInt(byte[1]!, 16))
    if (byteLevel) {
      const bytes = Array.from(token, character => byteLevel.get(character) ?? -1)
      if (!bytes.includes(-1)) return Uint8Array.from(bytes)
    }
    return encoder.encode(replacements.reduce((text, [from, to]) => text.replaceAll(from, to), token))
  }
  return { bytesOf, stripStart }
}

function flatten(decoder: unknown): JsonObject[] {
  if (!isObject(decoder)) throw new TokenizerError('tokenizer.json has no "decoder"')
  if (decoder.type !== 'Sequence') return [decoder]
  if (!Array.isArray(decoder.decoders))
    throw new TokenizerError('tokenizer.json: "decoder.decoders" is not a list')
  return decoder.decoders.flatMap(flatten)
}

function replacement(step: JsonObject): [string, string] {
  const from = isObject(step.pattern) ? step.pattern.String : undefined
  if (typeof from !== 'string' || from === '' || typeof step.content !== 'string') {
    throw new TokenizerError('tokenizer.json: a decoder replaces something else than one string by another')
  }
  return [from, step.content]
}

/** GPT-2's table: printable Latin-1 characters stand for themselves, the other bytes for characters from 256 on. */
function byteLevelTable(): Map<string, number> {
  const table = new Map<string, number>()
  const printable = (byte: number) => (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173)
  let next = 256
  for (let byte = 0; byte < 256; byte++) table.set(String.fromCharCode(printable(byte) ? byte : next++), byte)
  return table
}

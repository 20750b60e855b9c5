import { createHash } from 'node:crypto'
import { readTokenizerJson, vocabularyPairs } from './files.ts'

/**
 * The SHA-256 of a vocabulary, in hex: equal where every id means the same token, whatever else tokenizer.json says (how text
 * is cut, a template). A model can draft for another one where it is: what they hand each other is ids.
 *
 * @param files a model's files beside its weights, by name
 * @throws {TokenizerError} where there is no sound tokenizer.json among them
 */
export function vocabularyId(files: Record<string, Uint8Array>): string {
  const { model, added_tokens: added } = readTokenizerJson(files)
  const tokens = new Map<number, string>()
  for (const [token, id] of vocabularyPairs(model.vocab)) tokens.set(id, token)
  for (const { id, content } of added) tokens.set(id, content)
  const hash = createHash('sha256')
  for (const entry of [...tokens].sort(([a], [b]) => a - b)) hash.update(`${JSON.stringify(entry)}\n`)
  return hash.digest('hex')
}

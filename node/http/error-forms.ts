import type { HttpStatus } from '../error-codes.ts'
import { anthropicError } from './anthropic/errors.ts'
import { errorAnswer } from './errors.ts'
import { ollamaError } from './ollama/errors.ts'

/** Paths that Ollama's clients ask; others below /api are this project's own. */
const OLLAMA = /^\/api\/(chat|tags|show|ps|version|embed|embeddings|pull|push|create|copy|delete|blobs)(\/|$)/

/** Status and body for whatever went wrong with a request, in the form of the API that its path belongs to. */
export function errorAs(path: string, error: unknown): { status: HttpStatus; body: object } {
  if (/^(\/v1)?\/messages(\/|$)/.test(path)) return anthropicError(error)
  return OLLAMA.test(path) ? ollamaError(error) : errorAnswer(error)
}

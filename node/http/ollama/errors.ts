import type { HttpStatus } from '../../error-codes.ts'
import { errorAnswer } from '../errors.ts'

/** Status and body for whatever a handler threw: Ollama's errors are one text. */
export function ollamaError(error: unknown): { status: HttpStatus; body: { error: string } } {
  const { status, body } = errorAnswer(error)
  return { status, body: { error: body.error.message } }
}

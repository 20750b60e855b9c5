import type { HttpStatus } from '../../error-codes.ts'
import { errorAnswer } from '../errors.ts'

/** What Anthropic calls errors of a status. */
const TYPES: Partial<Record<HttpStatus, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  408: 'timeout_error',
  413: 'request_too_large',
  429: 'rate_limit_error',
  503: 'overloaded_error'
}

export interface AnthropicError {
  status: HttpStatus
  body: { type: 'error'; error: { type: string; message: string } }
}

/** Status and body for whatever a handler threw, as Anthropic's API words it. */
export function anthropicError(error: unknown): AnthropicError {
  const { status, body } = errorAnswer(error)
  const type = TYPES[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error')
  return { status, body: { type: 'error', error: { type, message: body.error.message } } }
}

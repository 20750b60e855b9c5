import { messageOf } from '../../protocols/text.ts'
import {
  ERROR_OUTCOMES,
  type ErrorCode,
  type ErrorOutcome,
  errorCodeOf,
  type HttpStatus
} from '../error-codes.ts'

/** An error as OpenAI's API words it. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string }
}

/** A refusal of the HTTP server itself, before the node is asked. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly code: ErrorCode

  constructor(code: ErrorCode, message: string) {
    super(message)
    this.code = code
  }
}

/** Status and body for whatever a handler threw; causes inside the node stay inside. */
export function errorAnswer(error: unknown): { status: HttpStatus; body: ErrorBody } {
  const code = errorCodeOf(error)
  const { status, param }: ErrorOutcome = ERROR_OUTCOMES[code]
  const named = error instanceof Error && 'param' in error && typeof error.param === 'string'
  return {
    status,
    body: {
      error: {
        message: messageOf(error),
        type: typeOf(status),
        param: named ? (error.param as string) : (param ?? null),
        code
      }
    }
  }
}

function typeOf(status: HttpStatus): string {
  if (status === 429) return 'rate_limit_error'
  return status >= 500 ? 'server_error' : 'invalid_request_error'
}

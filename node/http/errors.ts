import { ChatTemplateError, TextTooLongError, TokenizerTimeoutError } from '../../models/tokenizer/errors.ts'
import { messageOf } from '../../protocols/text.ts'
import {
  BusyError,
  ContextLengthError,
  PlanRefusedError,
  RequestError,
  StageLostError,
  UnknownModelError
} from '../errors.ts'

/** An error as OpenAI's API words it. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null }
}

export type ErrorStatus = 400 | 401 | 403 | 404 | 413 | 429 | 500 | 502 | 503

/** A refusal of the HTTP server itself, before the node is asked. */
export class HttpError extends Error {
  override readonly name = 'HttpError'
  readonly status: ErrorStatus
  readonly code: string

  constructor(status: ErrorStatus, code: string, message: string) {
    super(message)
    this.status = status
    this.code = code
  }
}

/** Status and body for whatever a handler threw; causes inside the node stay inside. */
export function errorAnswer(error: unknown): { status: ErrorStatus; body: ErrorBody } {
  if (error instanceof HttpError) {
    const type = error.status >= 500 ? 'server_error' : 'invalid_request_error'
    return { status: error.status, body: errorBody(error.message, type, error.code) }
  }
  if (error instanceof RequestError) {
    const code = error instanceof ContextLengthError ? 'context_length_exceeded' : null
    return { status: 400, body: errorBody(error.message, 'invalid_request_error', code, error.param ?? null) }
  }
  if (error instanceof ChatTemplateError) {
    return { status: 400, body: errorBody(error.message, 'invalid_request_error', null, 'messages') }
  }
  if (error instanceof TextTooLongError) {
    const code = 'context_length_exceeded'
    return { status: 400, body: errorBody(error.message, 'invalid_request_error', code, 'prompt') }
  }
  if (error instanceof TokenizerTimeoutError) {
    return { status: 400, body: errorBody(error.message, 'invalid_request_error', 'too_slow', 'prompt') }
  }
  if (error instanceof UnknownModelError) {
    return {
      status: 404,
      body: errorBody(error.message, 'invalid_request_error', 'model_not_found', 'model')
    }
  }
  if (error instanceof BusyError) {
    return { status: 429, body: errorBody(error.message, 'rate_limit_error', 'busy') }
  }
  if (error instanceof PlanRefusedError) {
    return { status: 503, body: errorBody(error.message, 'server_error', 'infeasible') }
  }
  if (error instanceof StageLostError) {
    return { status: 502, body: errorBody(error.message, 'server_error', 'stage_lost') }
  }
  const message = messageOf(error)
  return { status: 500, body: errorBody(message, 'server_error', 'internal_error') }
}

function errorBody(
  message: string,
  type: string,
  code: string | null,
  param: string | null = null
): ErrorBody {
  return { error: { message, type, param, code } }
}

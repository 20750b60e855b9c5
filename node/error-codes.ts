/**
 * What becomes of an error outside the node: the status of an HTTP answer and the exit status of a command, by the
 * stable `code` that every error class carries. The HTTP server, its client and the command line all read this table.
 */

import { isOutOfFiles } from '../models/out-of-files.ts'

export type HttpStatus = 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 429 | 500 | 502 | 503

export interface ErrorOutcome {
  status: HttpStatus
  /** 1 failure, 2 bad input, 3 infeasible. */
  exit: 1 | 2 | 3
  /** The field of the request that it is about, where it is always the same. */
  param?: string
}

const BAD_INPUT = { status: 400, exit: 2 } as const
const FAILURE = { status: 500, exit: 1 } as const

export const ERROR_OUTCOMES = {
  // The request.
  invalid_request: BAD_INPUT,
  context_length_exceeded: { ...BAD_INPUT, param: 'prompt' },
  grammar_unusable: { ...BAD_INPUT, param: 'response_format' },
  chat_template: { ...BAD_INPUT, param: 'messages' },
  too_slow: { ...BAD_INPUT, param: 'prompt' },
  model_not_found: { status: 404, exit: 2, param: 'model' },
  // Not 409, which clients send again by themselves.
  model_ambiguous: { ...BAD_INPUT, param: 'model' },
  busy: { status: 429, exit: 1 },
  stopping: { status: 503, exit: 1 },
  infeasible: { status: 503, exit: 3 },
  stage_lost: { status: 502, exit: 1 },
  stage_hangs: FAILURE,
  stage_not_loaded: FAILURE,

  // Access over HTTP.
  invalid_api_key: { status: 401, exit: 2 },
  local_only: { status: 403, exit: 1 },
  token_required: { status: 401, exit: 2 },
  page_code_unusable: { status: 403, exit: 2 },
  foreign_host: { status: 403, exit: 1 },
  foreign_origin: { status: 403, exit: 1 },
  not_found: { status: 404, exit: 2 },
  method_not_allowed: { status: 405, exit: 2 },
  encoding_unsupported: { status: 415, exit: 2 },
  body_too_large: { status: 413, exit: 2 },
  body_too_slow: { status: 408, exit: 1 },
  too_many_requests: { status: 429, exit: 1 },
  internal_error: FAILURE,

  // The command line and the files it names.
  invalid_input: BAD_INPUT,
  sample_too_small: BAD_INPUT,
  model_in_use: { status: 409, exit: 1 },
  no_node: FAILURE,
  broken_answer: FAILURE,
  address_invalid: BAD_INPUT,
  ticket_unusable: BAD_INPUT,
  inviter_unreached: FAILURE,
  pairing_failed: FAILURE,
  scenario_invalid: BAD_INPUT,
  device_unknown: BAD_INPUT,
  text_too_short: BAD_INPUT,
  tokens_uncounted: FAILURE,
  repository_unusable: BAD_INPUT,
  download_failed: FAILURE,
  demo_failed: FAILURE,
  drain_unfinished: FAILURE,

  // This device.
  node_too_old: FAILURE,
  out_of_files: { status: 503, exit: 1 },
  home_in_use: FAILURE,
  home_unwritable: FAILURE,
  home_file_damaged: FAILURE,
  pairing_paused: { status: 429, exit: 1 },
  overtaken: { status: 409, exit: 1 },
  not_owner: { status: 403, exit: 1 },

  // Models and their files.
  manifest_invalid: FAILURE,
  checkpoint_invalid: BAD_INPUT,
  model_unsupported: BAD_INPUT,
  model_name_invalid: BAD_INPUT,
  tokenizer_unusable: FAILURE,
  blob_unusable: FAILURE,
  blob_unavailable: FAILURE,
  manifest_unavailable: FAILURE,
  store_unwritable: FAILURE,

  // Computing.
  position_mismatch: FAILURE,
  context_overflow: FAILURE,
  no_free_slot: FAILURE,
  runtime_input_invalid: FAILURE,
  session_closed: FAILURE,
  inference_failed: FAILURE,
  not_finite: FAILURE,
  runtime_stopped: FAILURE,
  gpu_unavailable: FAILURE,
  stage_input_invalid: FAILURE,
  offer_refused: { status: 503, exit: 1 },

  // Peers.
  message_invalid: FAILURE,
  not_understood: FAILURE,
  limit_exceeded: FAILURE,
  stream_ended: FAILURE,
  deadline: FAILURE,
  peer_lost: FAILURE
} as const satisfies Record<string, ErrorOutcome>

export type ErrorCode = keyof typeof ERROR_OUTCOMES

/** Errors whose `code` is another device's word, which must not choose a status here. */
const FOREIGN_WORDS = ['RemoteError', 'RefusedError']

/** The code of an error of ours, `internal_error` for every other. */
export function errorCodeOf(error: unknown): ErrorCode {
  if (isOutOfFiles(error)) return 'out_of_files'
  if (!(error instanceof Error) || !('code' in error) || FOREIGN_WORDS.includes(error.name))
    return 'internal_error'
  const { code } = error
  return typeof code === 'string' && Object.hasOwn(ERROR_OUTCOMES, code)
    ? (code as ErrorCode)
    : 'internal_error'
}

export function outcomeOf(error: unknown): ErrorOutcome {
  return ERROR_OUTCOMES[errorCodeOf(error)]
}

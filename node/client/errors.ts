/** The node refused, or failed: its own words, with a `code` of the table of errors (node/error-codes.ts). */
export class ApiError extends Error {
  override readonly name = 'ApiError'
  /** Stable word for the cause, such as `model_not_found`; `internal_error` where the node gave none. */
  readonly code: string
  /** HTTP status; of an error that came within a stream, the one that it would have had. */
  readonly status: number
  /** The field of the request that it is about. */
  readonly param: string | undefined

  constructor(
    message: string,
    { code, status, param }: { code: string; status: number; param?: string | undefined }
  ) {
    super(message)
    this.code = code
    this.status = status
    this.param = param
  }
}

/** Nothing answers at the address: no node runs there, or nothing leads to it. */
export class NoNodeError extends Error {
  override readonly name = 'NoNodeError'
  readonly code = 'no_node'
}

/** The node took longer than the client waits. It may still have done what it was asked. */
export class LateAnswerError extends Error {
  override readonly name = 'LateAnswerError'
  readonly code = 'deadline'
}

/** The connection broke, fell silent, or ended before the answer did. */
export class BrokenAnswerError extends Error {
  override readonly name = 'BrokenAnswerError'
  readonly code = 'broken_answer'
}

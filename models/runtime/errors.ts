import { BlobError, type BlobProblem, ManifestError } from '../errors.ts'

/** A step starts elsewhere than after the last token in the KV cache. */
export class PositionError extends Error {
  override readonly name = 'PositionError'
  readonly code = 'position_mismatch'
  /** Tokens in the KV cache. */
  readonly expected: number
  readonly got: number

  constructor(message: string, expected: number, got: number) {
    super(message)
    this.expected = expected
    this.got = got
  }
}

/** A step goes past the tokens that the KV cache has room for, or a session asks for more than the model's context. */
export class ContextOverflowError extends Error {
  override readonly name = 'ContextOverflowError'
  readonly code = 'context_overflow'
  readonly maxTokens: number

  constructor(message: string, maxTokens: number) {
    super(message)
    this.maxTokens = maxTokens
  }
}

/** Every slot of a batch holds a sequence that is still open. */
export class NoFreeSlotError extends Error {
  override readonly name = 'NoFreeSlotError'
  readonly code = 'no_free_slot'
}

/** An input of the wrong kind, shape or range. */
export class RuntimeInputError extends Error {
  override readonly name = 'RuntimeInputError'
  readonly code = 'runtime_input_invalid'
}

/** The session was closed, or its shard released, before the call was answered. */
export class SessionClosedError extends Error {
  override readonly name = 'SessionClosedError'
  readonly code = 'session_closed'
}

/** ONNX Runtime refused a graph or failed in a run. */
export class InferenceError extends Error {
  override readonly name = 'InferenceError'
  readonly code = 'inference_failed'
}

/** What a sequence's numbers have become is no number any more. Others on the same shard are none the worse for it. */
export class NotFiniteError extends Error {
  override readonly name = 'NotFiniteError'
  readonly code = 'not_finite'
}

/** The worker thread ended: stopped by us, or crashed. Nothing that it held is left. */
export class RuntimeStoppedError extends Error {
  override readonly name = 'RuntimeStoppedError'
  readonly code = 'runtime_stopped'
}

/** There is no GPU here, or none that ONNX Runtime can use. */
export class GpuUnavailableError extends Error {
  override readonly name = 'GpuUnavailableError'
  readonly code = 'gpu_unavailable'
}

/** An error as it crosses between threads. */
export interface PlainError {
  name: string
  message: string
  fields: Record<string, unknown>
}

const FROM_PLAIN: Record<string, (message: string, fields: Record<string, unknown>) => Error> = {
  BlobError: (message, f) => new BlobError(String(f.sha256), f.problem as BlobProblem, message),
  ManifestError: message => new ManifestError(message),
  PositionError: (message, f) => new PositionError(message, Number(f.expected), Number(f.got)),
  ContextOverflowError: (message, f) => new ContextOverflowError(message, Number(f.maxTokens)),
  NoFreeSlotError: message => new NoFreeSlotError(message),
  RuntimeInputError: message => new RuntimeInputError(message),
  NotFiniteError: message => new NotFiniteError(message),
  SessionClosedError: message => new SessionClosedError(message),
  GpuUnavailableError: message => new GpuUnavailableError(message)
}

export function toPlain(error: unknown): PlainError {
  if (!(error instanceof Error)) return { name: 'InferenceError', message: String(error), fields: {} }
  const { name, message } = error
  const plain = Object.entries(error).filter(([, value]) => ['string', 'number'].includes(typeof value))
  return { name, message, fields: Object.fromEntries(plain) }
}

/** The same class again; what is not ours becomes an InferenceError that keeps the message. */
export function fromPlain({ name, message, fields }: PlainError): Error {
  return FROM_PLAIN[name]?.(message, fields) ?? new InferenceError(message)
}

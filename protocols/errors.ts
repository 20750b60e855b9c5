/** What a peer sent does not follow the protocol: its stream is closed. */
export class InvalidMessageError extends Error {
  override readonly name = 'InvalidMessageError'
  readonly code = 'message_invalid'
}

/** A peer exceeded a cap of the protocol's constants.ts: its stream is closed. */
export class LimitExceededError extends Error {
  override readonly name = 'LimitExceededError'
  readonly code = 'limit_exceeded'
}

/** A message has a field that must be understood and is not: its sender speaks a later version. */
export class NotUnderstoodError extends Error {
  override readonly name = 'NotUnderstoodError'
  readonly code = 'not_understood'
  readonly field: string

  constructor(field: string) {
    super(`a message says that its field '${field}' must be understood, and this version does not: update it`)
    this.field = field
  }
}

/** The stream ended before the message did. */
export class StreamEndedError extends Error {
  override readonly name = 'StreamEndedError'
  readonly code = 'stream_ended'
}

/** Nothing came, or nothing could be sent, within a phase's deadline. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError'
  readonly code = 'deadline'
}

/** There is no connection to the peer, or it broke while it was used. */
export class PeerLostError extends Error {
  override readonly name = 'PeerLostError'
  readonly code = 'peer_lost'
  readonly peerId: string

  constructor(peerId: string, message: string, options?: ErrorOptions) {
    super(message, options)
    this.peerId = peerId
  }
}

/**
 * The other side replied with a refusal or a failure. `code` is from a closed set of words where the protocol names
 * one; `message` is the peer's text, already capped and freed of control characters.
 */
export class RemoteError extends Error {
  override readonly name = 'RemoteError'
  readonly code: string
  readonly peerId: string

  constructor(peerId: string, code: string, message: string) {
    super(message)
    this.code = code
    this.peerId = peerId
  }
}

/** True for a peer whose words cannot be read, in contrast to one whose connection just ended. */
export function isViolation({ name }: Error): boolean {
  return ['InvalidMessageError', 'LimitExceededError', 'NotUnderstoodError'].includes(name)
}

/** What a peer sent does not follow the protocol: its stream is closed. */
export class InvalidMessageError extends Error {
  override readonly name = 'InvalidMessageError'
  readonly code = 'message_invalid'
}

/** A peer exceeded a cap of protocols/constants.ts: its stream is closed. */
export class LimitExceededError extends Error {
  override readonly name = 'LimitExceededError'
  readonly code = 'limit_exceeded'
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
 * The other side answered with a refusal or a failure. `code` is from a closed set of words where the protocol names
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

/** Thrown by a handler to say no with a code of its own; every other error reaches the peer as `internal`. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError'
  readonly code: string

  constructor(code: string, message: string) {
    super(message)
    this.code = code
  }
}

/** True for a peer that speaks wrongly, in contrast to one whose connection just ended. */
export function isViolation({ name }: Error): boolean {
  return name === 'InvalidMessageError' || name === 'LimitExceededError'
}

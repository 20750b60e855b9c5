/** A ticket that cannot be used; the message says why and what to do. */
export class TicketError extends Error {
  override readonly name = 'TicketError'
  readonly code = 'ticket_unusable'
}

/** A file in the home directory is damaged; the message names it and what to do. */
export class HomeFileError extends Error {
  override readonly name = 'HomeFileError'
  readonly code = 'home_file_damaged'
}

/** An address that is not a multiaddr a node can dial. */
export class AddressError extends Error {
  override readonly name = 'AddressError'
  readonly code = 'address_invalid'
}

/** Two devices changed the membership at the same time, and the other one's change counts. */
export class OvertakenError extends Error {
  override readonly name = 'OvertakenError'
  readonly code = 'overtaken'

  constructor() {
    super('another device changed the mesh at the same time, and its change counts: look at it and try again')
  }
}

/** What only an owner of the mesh, or a device that is in it, may do; the message names who may. */
export class NotOwnerError extends Error {
  override readonly name = 'NotOwnerError'
  readonly code = 'not_owner'
}

/** The device that made a ticket was not reached, so that it could not admit this one. */
export class InviterUnreachedError extends Error {
  override readonly name = 'InviterUnreachedError'
  readonly code = 'inviter_unreached'
}

/** Too many wrong codes were shown lately, so that pairing stays closed for a while. */
export class PairingPausedError extends Error {
  override readonly name = 'PairingPausedError'
  readonly code = 'pairing_paused'

  /** @param waitMs - until it may be opened again */
  constructor(waitMs: number) {
    super(
      `somebody has shown too many wrong codes: pairing stays closed for ${Math.ceil(waitMs / 60_000)} minutes. ` +
        "'edgeshard invite' makes a ticket meanwhile"
    )
  }
}

/** A device got no ticket by pairing; the message says why and what to do. */
export class PairingError extends Error {
  override readonly name = 'PairingError'
  readonly code = 'pairing_failed'
  /** Another code may be right. */
  readonly isWrongCode: boolean

  constructor(message: string, options: ErrorOptions & { isWrongCode?: boolean } = {}) {
    super(message, options)
    this.isWrongCode = options.isWrongCode ?? false
  }
}

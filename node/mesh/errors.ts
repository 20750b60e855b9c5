/** A ticket that cannot be used; the message says why and what to do. */
export class TicketError extends Error {
  override readonly name = 'TicketError'
}

/** A file in the home directory is damaged; the message names it and what to do. */
export class HomeFileError extends Error {
  override readonly name = 'HomeFileError'
}

/** An address that is not a multiaddr a node can dial. */
export class AddressError extends Error {
  override readonly name = 'AddressError'
}

/** Another process already runs a node on this home directory. */
export class HomeInUseError extends Error {
  override readonly name = 'HomeInUseError'
  readonly code = 'home_in_use'
}

/** The home directory cannot be written; the message names it and what to do. */
export class HomeUnwritableError extends Error {
  override readonly name = 'HomeUnwritableError'
  readonly code = 'home_unwritable'
}

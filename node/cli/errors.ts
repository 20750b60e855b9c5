/** The command line or a file it names is wrong: exit status 2. */
export class InputError extends Error {
  override readonly name: string = 'InputError'
}

/** The prompt or conversation does not fit the model's context: exit status 2. */
export class ContextFullError extends InputError {
  override readonly name = 'ContextFullError'
}

/** Nothing can hold the model, or nobody was found: exit status 3. The JSON answer has already been printed. */
export class InfeasibleError extends Error {
  override readonly name = 'InfeasibleError'
}

/** Exit status of a command that ended with `error`: 2 bad input, 3 infeasible, 130 interrupted, else 1. */
export function exitStatus(error: unknown): number {
  // A --peer that is no address: named by node/mesh, which knows nothing of exit statuses.
  if (error instanceof InputError || (error instanceof Error && error.name === 'AddressError')) return 2
  if (error instanceof InfeasibleError) return 3
  if (error instanceof Error && error.name === 'AbortError') return 130
  return 1
}

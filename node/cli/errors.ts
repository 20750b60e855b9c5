import { outcomeOf } from '../error-codes.ts'
import { homeDir, withHome } from './home.ts'

/** The command line or a file it names is wrong: exit status 2. */
export class InputError extends Error {
  override readonly name = 'InputError'
  readonly code = 'invalid_input'
}

/** Nothing can hold the model, or no peer was found: exit status 3. The JSON answer has already been printed. */
export class InfeasibleError extends Error {
  override readonly name = 'InfeasibleError'
  readonly code = 'infeasible'
}

/** The node that runs here works with the model that is to be removed: exit status 1. */
export class ModelInUseError extends Error {
  override readonly name = 'ModelInUseError'
  readonly code = 'model_in_use'
}

/** A node is still being drained, or not any more: exit status 1. */
export class DrainUnfinishedError extends Error {
  override readonly name = 'DrainUnfinishedError'
  readonly code = 'drain_unfinished'
}

/** Exit status of a command that ended with `error`: that of the table, 130 when it was interrupted. */
export function exitStatus(error: unknown): number {
  return error instanceof Error && error.name === 'AbortError' ? 130 : outcomeOf(error).exit
}

/**
 * One line for people, with what only the command line can advise.
 *
 * @param home that the command was about; undefined: the usual one
 */
export function errorLine(error: unknown, home?: string): string {
  // Each of Node's own waits calls it something else.
  if (error instanceof Error && error.name === 'AbortError') return 'interrupted'
  const message = error instanceof Error ? error.message : String(error)
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  if (code === 'invalid_api_key') return `${message}: give --api-key-file or set EDGESHARD_API_KEY`
  if (code === 'no_node')
    return `${message}; start one with '${home === undefined ? 'edgeshard up' : withHome('edgeshard up', homeDir(home))}'`
  return message
}

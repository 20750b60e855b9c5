/** A scenario that cannot be planned as it is written: where (a JSON path) and why, in one line. */
export class ScenarioError extends Error {
  override readonly name = 'ScenarioError'
  readonly code = 'scenario_invalid'
  readonly path: string

  constructor(path: string, reason: string) {
    super(`${path}: ${reason}`)
    this.path = path
  }
}

/** A step is not what its session expects: wrong position, width or length. */
export class StageInputError extends Error {
  override readonly name = 'StageInputError'
  readonly code = 'stage_input_invalid'
}

/** No peer could send the manifest of a model that is asked for. */
export class ManifestUnavailableError extends Error {
  override readonly name = 'ManifestUnavailableError'
  readonly code = 'manifest_unavailable'
}

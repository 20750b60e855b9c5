/** A repository of the hub cannot be used as it is asked for: its name, its files, or the right to read it. */
export class RepositoryError extends Error {
  override readonly name = 'RepositoryError'
  readonly code = 'repository_unusable'
}

/** A download did not come to its end; what came is kept and the next pull goes on from there. */
export class DownloadError extends Error {
  override readonly name = 'DownloadError'
  readonly code = 'download_failed'
}

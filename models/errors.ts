/** A manifest breaks its own rules: it is damaged, or made by a program that does not know them. */
export class ManifestError extends Error {
  override readonly name = 'ManifestError'
  readonly code = 'manifest_invalid'
}

/** A file of a checkpoint (config.json, safetensors, GGUF, tokenizer) is damaged or contradicts another one. */
export class CheckpointError extends Error {
  override readonly name = 'CheckpointError'
  readonly code = 'checkpoint_invalid'
  /** The file that it is about, as the user named it or found in the folder. */
  readonly file: string

  constructor(file: string, message: string, options?: ErrorOptions) {
    super(`${file}: ${message}`, options)
    this.file = file
  }
}

/** A checkpoint is sound but asks for something this version does not compute. */
export class UnsupportedModelError extends Error {
  override readonly name = 'UnsupportedModelError'
  readonly code = 'model_unsupported'
}

/** A name that cannot be a model's name. */
export class ModelNameError extends Error {
  override readonly name = 'ModelNameError'
  readonly code = 'model_name_invalid'
}

/** The store holds no model of that name or id. */
export class ModelNotFoundError extends Error {
  override readonly name = 'ModelNotFoundError'
  readonly code = 'model_not_found'
}

/** A file of the store is missing, has another size or other bytes than its name says, or cannot be read. */
export class BlobError extends Error {
  override readonly name = 'BlobError'
  readonly code = 'blob_unusable'
  readonly sha256: string
  readonly problem: BlobProblem

  constructor(sha256: string, problem: BlobProblem, message: string, options?: ErrorOptions) {
    super(message, options)
    this.sha256 = sha256
    this.problem = problem
  }
}

export type BlobProblem = 'missing' | 'size' | 'corrupt'

/** The store cannot be written: disk full, no permission, or another process keeps it locked. */
export class StoreError extends Error {
  override readonly name = 'StoreError'
  readonly code = 'store_unwritable'
}

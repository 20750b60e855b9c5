import { CheckpointError, StoreError, UnsupportedModelError } from '../errors.ts'

/** An error that crosses threads. */
export interface PlainError {
  name: string
  message: string
  file?: string
}

export function toPlain(error: unknown): PlainError {
  const { name, message } = error instanceof Error ? error : new Error(String(error))
  return error instanceof CheckpointError ? { name, message, file: error.file } : { name, message }
}

export function fromPlain({ name, message, file }: PlainError): Error {
  if (name === 'StoreError') return new StoreError(message)
  if (name === 'UnsupportedModelError') return new UnsupportedModelError(message)
  // The message begins with the file, which the constructor puts there.
  if (file !== undefined) return new CheckpointError(file, message.slice(file.length + 2))
  return new Error(message)
}

/**
 * The promise, or the signal's reason when that comes first. `undo` runs when the promise fulfils after that, `failed`
 * whenever it rejects.
 */
export async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  undo: () => Promise<void>,
  failed: () => Promise<void>
): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    promise.then(undo, () => undefined)
    reject(signal?.reason)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  promise.catch(failed)
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
}

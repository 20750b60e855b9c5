/**
 * Waits so long, or until the signal aborts, and then throws its reason. By the timers that tests can turn, in contrast
 * to `node:timers/promises`.
 *
 * @param options `ref`: keeps the process alive. @default true
 */
export async function delay(
  ms: number,
  signal: AbortSignal,
  { ref = true }: { ref?: boolean } = {}
): Promise<void> {
  signal.throwIfAborted()
  await new Promise<void>((resolve, reject) => {
    const onAbort = () => {
      clearTimeout(timer)
      reject(signal.reason)
    }
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort)
      resolve()
    }, ms)
    if (!ref) timer.unref()
    signal.addEventListener('abort', onAbort, { once: true })
  })
}

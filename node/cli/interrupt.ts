/** One Ctrl-C can arrive several times: from the terminal, from npm and from the relauncher, which all pass it on. */
const SAME_KEYSTROKE_MS = 500

/** A signal that aborts on the first Ctrl-C or SIGTERM; a later one ends the process at once. */
export function interruptSignal(): { signal: AbortSignal; dispose: () => void } {
  const controller = new AbortController()
  let firstMs: number | undefined
  const abort = () => {
    const nowMs = performance.now()
    if (firstMs !== undefined && nowMs - firstMs > SAME_KEYSTROKE_MS) process.exit(130)
    firstMs ??= nowMs
    controller.abort(new DOMException('interrupted', 'AbortError'))
  }
  process.on('SIGINT', abort)
  process.on('SIGTERM', abort)
  return {
    signal: controller.signal,
    dispose: () => {
      process.off('SIGINT', abort)
      process.off('SIGTERM', abort)
    }
  }
}

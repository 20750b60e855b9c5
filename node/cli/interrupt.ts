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

/** Signals that end a command that runs until it is told to stop. */
const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** What is left of a process that was told to end at once, and does not, is ended the hard way. */
const HARD_END_MS = 3_000

/**
 * `first` resolves when the process is told to stop; `again` aborts when it is told so once more: it should end at once
 * then, and is ended after HARD_END_MS, or when it is told a third time.
 */
export function stopSignals(): { first: Promise<void>; again: AbortSignal } {
  const { promise: first, resolve } = Promise.withResolvers<void>()
  const again = new AbortController()
  let heardMs = Number.NEGATIVE_INFINITY
  let times = 0
  const hear = () => {
    const nowMs = performance.now()
    if (nowMs - heardMs < SAME_KEYSTROKE_MS) return
    heardMs = nowMs
    times++
    if (times === 1) resolve()
    if (times === 2) {
      again.abort(new DOMException('interrupted', 'AbortError'))
      setTimeout(() => process.exit(130), HARD_END_MS).unref()
    }
    if (times > 2) process.exit(130)
  }
  for (const signal of STOP_SIGNALS) process.on(signal, hear)
  return { first, again: again.signal }
}

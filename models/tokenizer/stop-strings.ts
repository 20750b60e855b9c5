/** What a request may have of them. */
export const MAX_STOP_STRINGS = 16
export const MAX_STOP_CHARS = 1024

/** Cuts a text that arrives in pieces before the first of some strings. */
export interface StopStrings {
  /** What can be shown now (never the beginning of a stop string), and which was met. */
  push(text: string): { text: string; met: string | undefined }
  /** What was held back when the text ended without a stop string. */
  flush(): string
}

export function createStopStrings(stops: readonly string[]): StopStrings {
  const wanted = stops.filter(stop => stop !== '')
  let held = ''
  return {
    push: text => {
      held += text
      const found = wanted.map(stop => ({ stop, at: held.indexOf(stop) })).filter(({ at }) => at >= 0)
      if (found.length > 0) {
        const first = found.reduce((best, other) => (other.at < best.at ? other : best))
        const shown = held.slice(0, first.at)
        held = ''
        return { text: shown, met: first.stop }
      }
      const keep = Math.max(0, ...wanted.map(stop => overlap(held, stop)))
      const shown = held.slice(0, held.length - keep)
      held = held.slice(held.length - keep)
      return { text: shown, met: undefined }
    },
    flush: () => {
      const rest = held
      held = ''
      return rest
    }
  }
}

/** Length of the longest end of `text` that is a beginning of `stop`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length
  }
  return 0
}

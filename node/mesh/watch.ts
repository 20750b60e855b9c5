import { GONE_AFTER_MS, HEARTBEAT_MS, SUSPECT_AFTER_MS } from '../../protocols/directory/constants.ts'
import type { Directory } from './directory.ts'

/** After so long without any peer the reason is looked for, and again where cables and Wi-Fi may have changed. */
const LONELY_AFTER_MS = 2000
const LONELY_AGAIN_MS = 60_000

/** How often the peers' silence is looked at. */
const REVIEW_MS = 250

/**
 * Judges the peers' silence. A round that comes late itself judges no peer: this process had been busy or asleep.
 *
 * @returns the function that ends it
 */
export function watchSilence(
  directory: Directory,
  act: { suspect(peerId: string, suspect: boolean): void; gone(peerId: string): void }
): () => void {
  let lastMs = performance.now()
  const timer = setInterval(() => {
    const late = performance.now() - lastMs > 2 * HEARTBEAT_MS
    lastMs = performance.now()
    if (late) return
    const { suspect, recovered, gone } = directory.review(SUSPECT_AFTER_MS, GONE_AFTER_MS)
    for (const peerId of suspect) act.suspect(peerId, true)
    for (const peerId of recovered) act.suspect(peerId, false)
    for (const peerId of gone) act.gone(peerId)
  }, REVIEW_MS)
  return () => clearInterval(timer)
}

/** Looks for the reasons while no peer is found, and says each once. Returns the function that ends it. */
export function watchLoneliness(watch: {
  isLonely(): boolean
  reasons(): Promise<string[]>
  say(reason: string): void
}): () => void {
  const said = new Set<string>()
  const look = async () => {
    const reasons = watch.isLonely() ? await watch.reasons() : []
    for (const reason of reasons) {
      if (said.has(reason) || !watch.isLonely()) continue
      said.add(reason)
      watch.say(reason)
    }
  }
  const first = setTimeout(look, LONELY_AFTER_MS)
  const later = setInterval(look, LONELY_AGAIN_MS)
  return () => {
    clearTimeout(first)
    clearInterval(later)
  }
}

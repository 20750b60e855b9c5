import { SingleBar } from 'cli-progress'
import { paceText } from './pace.ts'

const WIDEST_BAR = 40
/** Less of a bar says nothing. */
const SHORTEST_BAR = 8
/** Width of a terminal that does not say its own. */
const USUAL_COLUMNS = 80

/** A bar on stderr, or nothing where that is not a terminal. */
export interface ProgressBar {
  update(done: number, total: number): void
  stop(): void
}

/** @param unit what is counted; absent: bytes */
export function progressBar(title: string, unit?: string): ProgressBar {
  const { stderr } = process
  if (!stderr.isTTY) return { update: () => {}, stop: () => {} }
  let from = 0
  const bar = new SingleBar({
    format: (_, { value, total, startTime }) => {
      const text = `${title}: ${paceText({ done: value, total, from }, (Date.now() - startTime) / 1000, unit)}`
      return withBar(text, total > 0 ? value / total : 0, stderr.columns)
    },
    stream: stderr,
    hideCursor: true,
    clearOnComplete: true
  })
  let running = false
  return {
    update: (done, total) => {
      if (!running) {
        from = done
        bar.start(total, done)
      } else bar.update(done)
      running = true
    },
    stop: () => {
      if (running) bar.stop()
      running = false
    }
  }
}

/** A text, and behind it a bar in what room a terminal has for one: what is cut at its edge is never a figure. */
export function withBar(text: string, share: number, columns = USUAL_COLUMNS): string {
  const width = Math.min(WIDEST_BAR, columns - text.length - ' []'.length)
  if (width < SHORTEST_BAR) return text
  const full = Math.round(width * Math.min(1, Math.max(0, share)))
  return `${text} [${'='.repeat(full)}${'-'.repeat(width - full)}]`
}

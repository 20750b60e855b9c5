import { SingleBar } from 'cli-progress'

/** A bar on stderr, or nothing where that is not a terminal. */
export interface ProgressBar {
  update(done: number, total: number): void
  stop(): void
}

export function progressBar(title: string, unit: string): ProgressBar {
  if (!process.stderr.isTTY) return { update: () => {}, stop: () => {} }
  const bar = new SingleBar({
    format: `${title} [{bar}] {value}/{total} ${unit}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true
  })
  let running = false
  return {
    update: (done, total) => {
      if (!running) bar.start(total, done)
      else bar.update(done)
      running = true
    },
    stop: () => {
      if (running) bar.stop()
      running = false
    }
  }
}

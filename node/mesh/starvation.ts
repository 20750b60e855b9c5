import { cpus } from 'node:os'
import { monitorEventLoopDelay } from 'node:perf_hooks'

/** How often the event loop is looked at. */
const RESOLUTION_MS = 5
/** The loop comes so late, in one of ten turns, where others have the processor: a burst of 40 ms is timed wrongly then. */
const LATE_MS = 10
const LATE_PERCENTILE = 90
/** Less time than this shows nothing of the processors, whose times come in hundredths of a second. */
const MIN_WATCHED_MS = 100
/** Share of what this process's own thread has left of the processors that others use. */
const BUSY_SHARE = 0.95

/** What the processors did since the system started, and this thread since it did, in ms. */
export interface ProcessorTimes {
  busyMs: number
  totalMs: number
  ownMs: number
}

/** Says at its end whether this node got too little of its device meanwhile to time anything. */
export interface StarvationWatch {
  /** @param options.processors counts also processors that are busy while the event loop comes in time. @default true */
  isStarved(options?: { processors?: boolean }): boolean
  stop(): void
}

/** Watches the event loop's delay and the processors from now on. What is measured while they are busy is marked. */
export function watchStarvation(): StarvationWatch {
  const loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  loop.enable()
  const startMs = performance.now()
  const before = processorTimes()
  return {
    isStarved({ processors = true } = {}) {
      const lateMs = loop.count === 0 ? 0 : loop.percentile(LATE_PERCENTILE) / 1e6 - RESOLUTION_MS
      if (lateMs >= LATE_MS) return true
      if (!processors || performance.now() - startMs < MIN_WATCHED_MS) return false
      return areBusy(before, processorTimes())
    },
    stop() {
      loop.disable()
    }
  }
}

/** True where others than this thread used the processors up. On a device with one of them a measurement itself may. */
export function areBusy(before: ProcessorTimes, after: ProcessorTimes): boolean {
  const ownMs = after.ownMs - before.ownMs
  const leftMs = after.totalMs - before.totalMs - ownMs
  const othersMs = after.busyMs - before.busyMs - ownMs
  return leftMs > 0.1 * (after.totalMs - before.totalMs) && othersMs >= BUSY_SHARE * leftMs
}

function processorTimes(): ProcessorTimes {
  let busyMs = 0
  let idleMs = 0
  for (const { times } of cpus()) {
    busyMs += times.user + times.nice + times.sys + times.irq
    idleMs += times.idle
  }
  const { user, system } = process.threadCpuUsage()
  return { busyMs, totalMs: busyMs + idleMs, ownMs: (user + system) / 1000 }
}

/** The loop's delay is looked at so seldom where only traffic is watched, over spans of so long. */
const WATCHED_EVERY_MS = 20
const WATCH_SPAN_MS = 1000
/** A transfer that is worth timing takes longer than this; a loop that is so late says nothing of it. */
const TOO_LATE_MS = 25
/** Nobody having asked for so long, nothing is watched. */
const UNASKED_MS = 5000

/** Whether this process's event loop comes late these seconds. Watches only while somebody goes on asking. */
export class LoopLateness {
  #loop: ReturnType<typeof monitorEventLoopDelay> | undefined
  #timer: NodeJS.Timeout | undefined
  #askedAtMs = 0
  #wasLate = false

  get isLate(): boolean {
    this.#askedAtMs = performance.now()
    if (this.#loop === undefined) this.#start()
    return this.#wasLate || this.#isLateNow
  }

  stop(): void {
    clearInterval(this.#timer)
    this.#loop?.disable()
    this.#loop = undefined
    this.#wasLate = false
  }

  get #isLateNow(): boolean {
    const loop = this.#loop
    if (loop === undefined || loop.count === 0) return false
    return loop.percentile(LATE_PERCENTILE) / 1e6 - WATCHED_EVERY_MS >= TOO_LATE_MS
  }

  #start(): void {
    this.#loop = monitorEventLoopDelay({ resolution: WATCHED_EVERY_MS })
    this.#loop.enable()
    this.#timer = setInterval(() => {
      this.#wasLate = this.#isLateNow
      this.#loop?.reset()
      if (performance.now() - this.#askedAtMs > UNASKED_MS) this.stop()
    }, WATCH_SPAN_MS).unref()
  }
}

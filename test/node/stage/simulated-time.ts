interface Event {
  atMs: number
  /** Events of the same moment happen in the order of their making. */
  order: number
  run(): void
}

/** A clock that only moves when nothing is left to do at the moment it shows. Real time plays no part. */
export class SimulatedTime {
  nowMs = 0
  readonly #heap: Event[] = []
  #made = 0

  at(delayMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + delayMs, order: this.#made++, run }
    const heap = this.#heap
    let at = heap.push(event) - 1
    while (at > 0 && isBefore(event, heap[(at - 1) >> 1]!)) {
      heap[at] = heap[(at - 1) >> 1]!
      at = (at - 1) >> 1
    }
    heap[at] = event
  }

  /** Rejects when the signal aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => reject(signal?.reason)
      if (signal?.aborted) return onAbort()
      signal?.addEventListener('abort', onAbort, { once: true })
      this.at(ms, () => {
        signal?.removeEventListener('abort', onAbort)
        resolve()
      })
    })
  }

  /** Lets time pass until nothing is due or the condition holds. */
  async run(isOver: () => boolean = () => false): Promise<void> {
    while (!isOver()) {
      const event = this.#next()
      if (event === undefined) return
      this.nowMs = event.atMs
      event.run()
      // Everything that was waiting for this event goes on before the next one.
      await new Promise(setImmediate)
    }
  }

  #next(): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return first
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)
}

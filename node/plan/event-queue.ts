/** Events in the order of time, those of the same moment in the order they were given. */

interface Event {
  readonly ms: number
  readonly turn: number
  readonly happen: () => void
}

export class EventQueue {
  readonly #heap: Event[] = []
  #turn = 0

  at(ms: number, happen: () => void): void {
    const heap = this.#heap
    let hole = heap.push({ ms, turn: this.#turn++, happen }) - 1
    while (hole > 0) {
      const parent = (hole - 1) >> 1
      if (!before(heap[hole]!, heap[parent]!)) break
      swap(heap, hole, parent)
      hole = parent
    }
  }

  /** Lets everything happen, what it causes included; the time of the last event. */
  run(): number {
    let ms = 0
    for (let event = this.#take(); event !== undefined; event = this.#take()) {
      ms = event.ms
      event.happen()
    }
    return ms
  }

  #take(): Event | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (first === undefined || last === undefined || heap.length === 0) return first
    heap[0] = last
    let hole = 0
    for (;;) {
      const left = 2 * hole + 1
      const right = left + 1
      let least = hole
      if (left < heap.length && before(heap[left]!, heap[least]!)) least = left
      if (right < heap.length && before(heap[right]!, heap[least]!)) least = right
      if (least === hole) return first
      swap(heap, hole, least)
      hole = least
    }
  }
}

function before(a: Event, b: Event): boolean {
  return a.ms < b.ms || (a.ms === b.ms && a.turn < b.turn)
}

function swap(heap: Event[], a: number, b: number): void {
  const kept = heap[a]!
  heap[a] = heap[b]!
  heap[b] = kept
}

import TinyQueue from 'tinyqueue'

interface Event {
  readonly ms: number
  readonly turn: number
  readonly happen: () => void
}

/** Events in the order of time, those of the same moment in the order they were given. */
export class EventQueue {
  readonly #events = new TinyQueue<Event>([], (a, b) => a.ms - b.ms || a.turn - b.turn)
  #turn = 0

  at(ms: number, happen: () => void): void {
    this.#events.push({ ms, turn: this.#turn++, happen })
  }

  /** Lets everything happen, what it causes included; the time of the last event. */
  run(): number {
    let ms = 0
    for (let event = this.#events.pop(); event !== undefined; event = this.#events.pop()) {
      ms = event.ms
      event.happen()
    }
    return ms
  }
}

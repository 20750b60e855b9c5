import { Counter, Gauge, Histogram, Registry } from 'prom-client'

const PREFIX = 'edgeshard_'

/** Metrics of one server. Names are given without the prefix and carry their unit; counters end in `_total`. */
export class Figures {
  readonly #registry = new Registry()

  /** Counted as things happen. */
  counter(name: string, help: string, labelNames: string[] = []): Counter {
    return new Counter({ name: PREFIX + name, help, labelNames, registers: [this.#registry] })
  }

  /** A counter that is kept elsewhere: read when the figures are asked for. */
  total(name: string, help: string, read: () => number): void {
    new Counter({
      name: PREFIX + name,
      help,
      registers: [this.#registry],
      collect() {
        this.reset()
        this.inc(read())
      }
    })
  }

  /** Counters that are kept elsewhere, one a kind. */
  kinds(name: string, help: string, read: () => Record<string, number>): void {
    new Counter({
      name: PREFIX + name,
      help,
      labelNames: ['kind'],
      registers: [this.#registry],
      collect() {
        this.reset()
        for (const [kind, count] of Object.entries(read())) this.inc({ kind }, count)
      }
    })
  }

  /** What is so when the figures are asked for. */
  gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name: PREFIX + name,
      help,
      registers: [this.#registry],
      collect() {
        this.set(read())
      }
    })
  }

  histogram(name: string, help: string, buckets: number[], labelNames: string[] = []): Histogram {
    return new Histogram({ name: PREFIX + name, help, buckets, labelNames, registers: [this.#registry] })
  }

  /** All of them in Prometheus' text format. */
  async render(): Promise<{ text: string; contentType: string }> {
    return { text: await this.#registry.metrics(), contentType: this.#registry.contentType }
  }
}

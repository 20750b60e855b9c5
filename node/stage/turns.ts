/**
 * What a step is to those that wait for it: a token of running answers, a piece of a prompt, or a piece of a session that is
 * built up beside a running one.
 */
export type StepKind = 'decode' | 'prefill' | 'catch-up'

/** Steps of others before one that catches up, at most: whoever keeps a shard busy does not keep it from an end. */
export const MAX_BEFORE_CATCH_UP = 8

interface Waiting {
  start: () => void
}

/**
 * Decides which step a shard computes next. One runs at a time; while tokens and prompts wait they alternate, so that a long
 * prompt delays a running answer by at most one of its chunks a step, and running answers delay a prompt's chunk by at
 * most one step. What catches up has its turn where neither waits, or so many of them went before it. Within a kind those
 * that share the shard (`tenant`: one lease of one source) take turns; the steps of one tenant and kind keep their order.
 */
export class Turns {
  readonly #waiting: Record<StepKind, Map<string, Waiting[]>> = {
    decode: new Map(),
    prefill: new Map(),
    'catch-up': new Map()
  }
  #busy = false
  #last: StepKind = 'prefill'
  /** Turns that others had while a step that catches up waits. */
  #passed = 0

  /** Runs `work` when its turn has come; resolves or rejects as it does. */
  async run<T>(kind: StepKind, tenant: string, work: () => Promise<T>): Promise<T> {
    if (this.#busy) {
      await new Promise<void>(start => {
        const queue = this.#waiting[kind].get(tenant)
        if (queue === undefined) this.#waiting[kind].set(tenant, [{ start }])
        else queue.push({ start })
      })
    }
    this.#busy = true
    this.#had(kind)
    try {
      return await work()
    } finally {
      this.#next()
    }
  }

  #had(kind: StepKind): void {
    if (kind === 'catch-up') this.#passed = 0
    else {
      this.#last = kind
      this.#passed = this.#waiting['catch-up'].size > 0 ? this.#passed + 1 : 0
    }
  }

  /** Keeps the shard busy for the next one, if any waits, so that none that comes in between overtakes it. */
  #next(): void {
    const other: StepKind = this.#last === 'decode' ? 'prefill' : 'decode'
    const late = this.#passed >= MAX_BEFORE_CATCH_UP ? this.#take('catch-up') : undefined
    const next = late ?? this.#take(other) ?? this.#take(this.#last) ?? this.#take('catch-up')
    this.#busy = next !== undefined
    next?.start()
  }

  #take(kind: StepKind): Waiting | undefined {
    const tenants = this.#waiting[kind]
    const [first] = tenants
    if (first === undefined) return undefined
    const [tenant, queue] = first
    const next = queue.shift()
    // Behind the others, or out of the way.
    tenants.delete(tenant)
    if (queue.length > 0) tenants.set(tenant, queue)
    return next
  }
}
